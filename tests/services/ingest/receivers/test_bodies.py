"""Bounds of request bodies."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.receivers import bodies
from services.ingest.receivers.bodies import MAX_CONTAINERS, MAX_MEMBERS, BodyTooLarge, BrokenBody, Inflation, check_containers, check_marks, decompress_gzip

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress, "zlib": zlib.compress, "zstd": zstandard.compress}
encodings = pytest.mark.parametrize("encoding", COMPRESSIONS)


def inflate(body: bytes, limit: int, encoding: str) -> bytes:
    """Returns what a body stands for, decompressed in one step."""
    inflation = Inflation(body, limit, encoding)
    inflation.run(limit + 1)
    return inflation.content()


@encodings
def test_members_are_concatenated(encoding: str) -> None:
    compress = COMPRESSIONS[encoding]
    assert inflate(compress(b"a") + compress(b"b"), 10, encoding) == b"ab"


@encodings
def test_a_bomb_is_stopped_at_the_limit(encoding: str) -> None:
    bomb = COMPRESSIONS[encoding](bytes(50_000_000))
    assert len(bomb) < 100_000
    with pytest.raises(BodyTooLarge):
        inflate(bomb, 1_000_000, encoding)


@encodings
def test_the_limit_holds_over_all_members(encoding: str) -> None:
    with pytest.raises(BodyTooLarge):
        inflate(COMPRESSIONS[encoding](b"x" * 600) * 2, 1_000, encoding)


@encodings
@given(content=st.binary(min_size=1, max_size=300), cut=st.integers(min_value=1))
def test_a_truncated_body_is_broken(encoding: str, content: bytes, cut: int) -> None:
    body = COMPRESSIONS[encoding](content)
    with pytest.raises(BrokenBody):
        inflate(body[: len(body) - 1 - cut % (len(body) - 1)], 10_000, encoding)


@encodings
@given(body=st.binary(min_size=1, max_size=100))
def test_other_bytes_are_broken(encoding: str, body: bytes) -> None:
    with pytest.raises(BrokenBody):
        inflate(b"\x00" + body, 10_000, encoding)


def test_a_window_of_zstd_is_bounded() -> None:
    # Of unknown length and with a long window, as nothing that speaks HTTP may send it.
    compressor = zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)).compressobj()
    with pytest.raises(BrokenBody, match="not valid zstd"):
        inflate(compressor.compress(b"x" * 1_000) + compressor.flush(), 10_000, "zstd")


@given(st.lists(st.binary(max_size=500), min_size=1, max_size=5), st.integers(min_value=1, max_value=700))
def test_steps_of_any_size_give_the_same(members: list[bytes], step: int) -> None:
    inflation = Inflation(b"".join(map(gzip.compress, members)), 10_000)
    bound = step
    while not inflation.run(bound):
        assert len(inflation.content()) == bound
        bound += step
    assert inflation.content() == b"".join(members)


def test_members_are_bounded_in_number() -> None:
    assert decompress_gzip(gzip.compress(b"") * MAX_MEMBERS, 10) == b""
    with pytest.raises(BrokenBody, match="more than 10000 gzip members"):
        decompress_gzip(gzip.compress(b"") * (MAX_MEMBERS + 1), 10)


def count_containers(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(count_containers, value.values()))
    return 1 + sum(map(count_containers, value)) if isinstance(value, list) else 0


@given(
    st.recursive(
        st.text('{["\\\n\\u00e4x', max_size=6) | st.integers(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('{["\\x', max_size=4), inner, max_size=4),
    ),
    st.integers(1, 9),
)
def test_marks_are_counted_outside_of_texts(value: Any, piece: int) -> None:
    body = json.dumps(value, ensure_ascii=False).encode() + b" " * 100
    count = count_containers(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "_PIECE_BYTES", piece)
        check_marks(body, b"{[", count, "objects and arrays")
        if count:
            with pytest.raises(BodyTooLarge, match=f"more than {count - 1} objects and arrays"):
                check_marks(body, b"{[", count - 1, "objects and arrays")


def test_a_text_that_looks_like_json_opens_nothing() -> None:
    check_containers(b'{"message":"' + b'{\\"a\\":' * (MAX_CONTAINERS + 1) + b'"}')
