"""Bounds of request bodies."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.receivers.bodies import BodyTooLarge, BrokenBody, decompress_gzip


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
