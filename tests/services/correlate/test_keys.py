"""Keys are found by their shape, whatever they are called and whoever writes them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.correlate.evidence import Event
from services.correlate.keys import MAX_KEYS, KeyBook, extract_keys, phrases, to_key, words_of


def event(body: str = "", **more: Any) -> Event:
    return Event(event_id=1, timestamp=1, body=body, **more)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("SO-4711729", "id:so-4711729"),
        ("0000000071350001", "id:71350001"),
        ("10.30.1.21:3301", "address:10.30.1.21"),
        ("4F1C9A-77.", "id:4f1c9a-77"),
        ("2026-11-24T05:59:01", ""),
        ("05:59:01", ""),
        ("12.5ms", ""),
        ("4711", ""),
        ("4.11.0", ""),
        ("connection", ""),
        ("a b1", ""),
    ],
)
def test_what_looks_like_the_name_of_one_thing_is_a_key(text: str, key: str) -> None:
    assert to_key(text) == key


def test_keys_meet_across_systems() -> None:
    application = event("order SO-4711729 failed", attributes={"sap.idoc.docnum": "0000000071350001"}, trace_id="ab" * 16)
    sap = event("IDoc 71350001: error 129 while saving order SO-4711729", attributes={"user": "RFC_ORDERS"})
    shared = set(extract_keys(application)) & set(extract_keys(sap))
    assert shared == {"id:so-4711729", "id:71350001"}
    assert extract_keys(application)[0] == f"trace:{'ab' * 16}"
    assert "user:rfc_orders" in extract_keys(sap)
    assert "code:error 129" in extract_keys(sap)


def test_measures_are_no_keys() -> None:
    assert extract_keys(event(attributes={"duration_ms": 1234567, "bytes": 99999999, "process.pid": "1234567"})) == []


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=5), scalars, max_size=3)


@given(st.text(max_size=200), st.dictionaries(st.text(max_size=10), values, max_size=5))
def test_any_event_has_few_keys(body: str, attributes: dict[str, Any]) -> None:
    keys = extract_keys(event(body, attributes=attributes))
    assert len(keys) <= MAX_KEYS
    assert len(keys) == len(set(keys))
    phrases(body)
    words_of(body)


def test_phrases_are_what_does_not_vary_and_names() -> None:
    one = phrases("transaction rolled back: cannot write redo log, No space left on device")
    other = phrases("write failed, rc= 28: No space left on device")
    assert one & other == {"no space left on", "space left on device"}
    assert phrases("locked by BATCH_SD") & phrases("currently processed by user BATCH_SD") == {"BATCH_SD"}


def test_a_key_that_was_always_about_is_not_specific() -> None:
    book = KeyBook(capacity=3)
    book.meet(["id:gateway1"], 100)
    book.meet(["id:gateway1", "id:so-1"], 900)
    assert not book.is_specific("id:gateway1", 500)
    assert book.is_specific("id:so-1", 500)
    assert book.is_specific("id:never-met", 500)
    assert not book.is_specific("user:ada", 500)
    book.meet(["id:a1", "id:b2", "id:c3"], 950)
    assert book.is_specific("id:gateway1", 500)
