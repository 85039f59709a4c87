"""Encoding canonical lines."""

from __future__ import annotations

import gc
import weakref

import orjson

from services.ingest.batch import Batch
from services.ingest.lines import encode_lines
from services.ingest.pipeline import Prepared


class Column(list[str]):
    """A column whose end can be watched."""


def prepare(body: list[str]) -> Prepared:
    """Returns rows that are ready to be encoded."""
    batch = Batch()
    for text in body:
        batch.append(text, source="s")
    batch.body = body
    rows = len(body)
    return Prepared(
        batch,
        [7] * rows,
        timestamps=[5] * rows,
        systems=["application"] * rows,
        environments=[""] * rows,
        fingerprints=[1] * rows,
        fingerprint_texts=["0" * 16] * rows,
    )


def test_lines_have_their_keys_in_order_and_leave_out_what_is_unknown() -> None:
    buffer = bytearray(b"of a block before")
    length = encode_lines(prepare(["one", "two", "three"]), [0, 2], 3, buffer)
    lines = bytes(buffer[:length]).splitlines()
    assert [orjson.loads(line)["body"] for line in lines] == ["one", "three"]
    assert lines[0] == (
        b'{"event_id":3145728,"timestamp":5,"observed_at":7,"source":"s","system":"application","severity_number":0,'
        b'"fingerprint":"0000000000000000","body":"one"}'
    )


def test_what_was_encoded_is_not_kept() -> None:
    column = Column(["one", "two"])
    seen = weakref.ref(column)
    encode_lines(prepare(column), [0, 1], 1, bytearray())
    del column
    gc.collect()
    assert seen() is None


def test_many_lines_are_all_there() -> None:
    bodies = [f"event {number}" for number in range(1_234)]
    buffer = bytearray()
    length = encode_lines(prepare(bodies), range(len(bodies)), 1, buffer)
    assert [orjson.loads(line)["body"] for line in bytes(buffer[:length]).splitlines()] == bodies
    assert encode_lines(prepare(bodies), [7], 1, buffer) < 200
    assert len(buffer) == length
