"""JSON whose texts hold what no Unicode text can."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.receivers.broken_json import mend_json, mend_texts

CHARACTERS = st.sampled_from('\\"ux/\n\u00e9\ud83d\ude00\ud800\udfff\U0001f600d8') | st.characters()


@given(st.recursive(st.text(CHARACTERS), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(CHARACTERS), inner, max_size=3)))
def test_halves_of_pairs_are_replaced_and_nothing_else(value: Any) -> None:
    def whole(value: Any) -> Any:
        if isinstance(value, str):
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return [whole(item) for item in value] if isinstance(value, list) else {whole(key): whole(item) for key, item in value.items()}

    mended = mend_json(json.dumps(value).encode())
    assert mended is not None
    assert orjson.loads(mended) == whole(value)


@given(st.binary())
def test_bytes_that_are_not_utf8_are_replaced(raw: bytes) -> None:
    text = b'"%s"' % raw.translate(None, b'"\\' + bytes(range(32)))
    assert orjson.loads(mend_json(text) or b"") == text[1:-1].decode("utf-8", "replace")


@pytest.mark.parametrize("raw", [b"", b'{"a":', b"nonsense", b'"\\ud8zz"', b"[NaN]", b"[" * 100_000, b"\xff"])
def test_what_is_wrong_otherwise_is_not_mended(raw: bytes) -> None:
    assert mend_json(raw) is None


def test_many_backslashes_take_no_more_time_than_others() -> None:
    """As many as a body may have, before halves of pairs: each is looked at once."""
    raw = b"\\" * 4_000_000 + b"\\ud800" * 200_000
    assert mend_texts(raw).endswith(rb"\ufffd")
