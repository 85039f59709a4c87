"""Bounds of request bodies."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.receivers.bodies import MAX_MEMBERS, BodyTooLarge, BrokenBody, Inflation, decompress_gzip


def test_members_are_concatenated() -> None:
    assert decompress_gzip(gzip.compress(b"a") + gzip.compress(b"b"), 10) == b"ab"


def test_a_bomb_is_stopped_at_the_limit() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 100_000
    with pytest.raises(BodyTooLarge):
        decompress_gzip(bomb, 1_000_000)


def test_the_limit_holds_over_all_members() -> None:
    with pytest.raises(BodyTooLarge):
        decompress_gzip(gzip.compress(b"x" * 600) * 2, 1_000)


@given(st.binary(min_size=1, max_size=300), st.integers(min_value=1))
def test_a_truncated_body_is_broken(content: bytes, cut: int) -> None:
    body = gzip.compress(content)
    with pytest.raises(BrokenBody):
        decompress_gzip(body[: len(body) - 1 - cut % (len(body) - 1)], 10_000)


@given(st.binary(min_size=1, max_size=100))
def test_other_bytes_are_broken(body: bytes) -> None:
    with pytest.raises(BrokenBody):
        decompress_gzip(b"\x00" + body, 10_000)


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
