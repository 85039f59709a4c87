"""Encodings of bodies and files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.encodings import decode_text

TEXT = "2AU1 logon of Jürgen\nnext line"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_text_is_read_with_and_without_a_mark(encoding: str) -> None:
    assert decode_text(TEXT.encode(encoding)) == TEXT


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_half_a_character_at_the_end_is_replaced(encoding: str) -> None:
    assert decode_text(TEXT.encode(encoding)[:-1]) == f"{TEXT[:-1]}\ufffd"


def test_zero_bytes_among_others_are_no_sign_of_utf_16() -> None:
    assert decode_text(b"a\0b\xff\0\0c") == "a\0b\ufffd\0\0c"


@given(st.binary(max_size=60))
def test_any_bytes_are_text(body: bytes) -> None:
    assert isinstance(decode_text(body), str)
