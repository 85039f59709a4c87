"""MessagePack of Fluent clients: framing, every mode, and bytes that are none of them."""

from __future__ import annotations

import gzip
import resource
import struct
from typing import Any

import msgpack
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest.receivers.fluent_frames import MAX_DEPTH, MessageReader
from services.ingest.receivers.fluent_messages import read_message
from services.ingest.receivers.fluent_records import batch_of

LIMIT = 1024 * 1024
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text()
    | st.binary()
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary()),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text() | st.binary() | st.integers(-5, 5), inner, max_size=5),
    max_leaves=20,
)
SIZES = st.lists(st.integers(1, 64), min_size=1, max_size=8)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """Returns data in pieces of these sizes (the last size again and again)."""
    pieces, sizes = list[bytes](), list(sizes)
    while data:
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        pieces.append(data[:size])
        data = data[size:]
    return pieces


@settings(max_examples=40, deadline=None)
@given(st.lists(VALUES, max_size=5), SIZES)
def test_messages_are_found_however_they_are_cut(values: list[Any], sizes: list[int]) -> None:
    packed = [msgpack.packb(value) for value in values]
    reader = MessageReader(LIMIT)
    assert [message for piece in cut(b"".join(packed), sizes) for message in reader.feed(piece)] == packed
    assert reader.held == 0


@pytest.mark.parametrize(
    "head",
    [
        b"\xc1",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\0",
        b"\x91" * 5_000,
        b"\xdd\x00\x0f\x42\x40" * 1_000,
    ],
    ids=["reserved", "str", "bin", "array", "map", "ext", "depth", "nested arrays"],
)
def test_huge_declarations_are_refused_before_anything_is_built(head: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reader = MessageReader(LIMIT)
    assert reader.feed(b"\x01" + head + b"\x02") == [b"\x01"]
    assert reader.problem
    assert reader.feed(b"\x03") == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


def test_the_deepest_message_is_taken() -> None:
    assert len(MessageReader(LIMIT).feed(b"\x91" * MAX_DEPTH + b"\x01")) == 1


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=500), SIZES)
def test_any_bytes_are_messages_or_broken(data: bytes, sizes: list[int]) -> None:
    reader = MessageReader(200)
    for piece in cut(data, sizes):
        for message in reader.feed(piece):
            read_message(message, LIMIT)
        assert reader.problem or reader.held <= 200


ENTRY = st.tuples(
    st.integers().filter(lambda number: -(2**63) <= number < 2**64) | st.just(msgpack.ExtType(0, b"\0" * 8)),
    st.dictionaries(st.text() | st.binary(), VALUES, max_size=5),
)
OPTIONS = st.dictionaries(st.sampled_from(["chunk", "size", "compressed", "fluent_signal"]), VALUES, max_size=4)


@settings(max_examples=40, deadline=None)
@given(
    st.one_of(
        VALUES,
        st.tuples(st.just("tag"), VALUES, VALUES, VALUES),
        st.tuples(st.just("tag"), st.lists(ENTRY | VALUES, max_size=4), OPTIONS),
        st.tuples(st.just("tag"), st.lists(ENTRY | VALUES, max_size=4).map(lambda entries: b"".join(map(msgpack.packb, entries))), OPTIONS),
        st.tuples(st.just("tag"), st.binary(), OPTIONS),
    )
)
def test_any_message_becomes_records_and_rejections(value: Any) -> None:
    message = read_message(msgpack.packb(value), LIMIT)
    if message is None:
        assert value is None
        return
    decoded = batch_of(message, "")
    assert len(decoded.batch) == len(decoded.formats) == len(message.entries)
    assert all(decoded.batch.body)
    assert all(decoded.batch.source)
    assert len(decoded.rejections) == len(message.broken)
    orjson.dumps(decoded.batch.attributes)


def packed(*records: dict[str, Any]) -> bytes:
    """Returns packed entries."""
    return b"".join(msgpack.packb([1_795_500_000, record]) for record in records)


@pytest.mark.parametrize(
    ("content", "option", "kept", "detail"),
    [
        (packed({"log": "good"}) + b"\x92\x01", {}, 1, "end inside an entry"),
        (packed({"log": "good"}) + b"\xc1" + packed({"log": "lost"}), {}, 1, "cannot be decoded"),
        (packed({"log": "good"}) + msgpack.packb("not an entry") + packed({"log": "good"}), {}, 2, "not a time and a record"),
        (packed({"log": "good"}) + b"\xdd\x00\x0f\x42\x40" * 1_000, {}, 1, "cannot be decoded"),
        (packed({"log": "good"}) + b"\x91" * 5_000, {}, 1, "cannot be decoded"),
        (gzip.compress(packed({"log": "good"}))[:-9], {"compressed": "gzip"}, 0, "gzip"),
        (gzip.compress(bytes(8 * LIMIT)), {"compressed": "gzip"}, 0, "more than"),
        (b"no zstd", {"compressed": "zstd"}, 0, "zstd"),
        (b"", {"compressed": "snappy"}, 0, "not supported"),
        (packed({"log": "good"}), {"fluent_signal": 1}, 0, "metrics or traces"),
    ],
    ids=["cut off", "reserved byte", "no entry", "nested arrays", "deep", "cut gzip", "bomb", "no zstd", "unknown compression", "metrics"],
)
def test_what_is_broken_is_kept_beside_its_neighbours(content: bytes, option: dict[str, Any], kept: int, detail: str) -> None:
    message = read_message(msgpack.packb(["tag", content, {"chunk": "c", **option}]), LIMIT)
    assert message is not None
    assert message.chunk == "c"
    assert [entry.record["log"] for entry in message.entries] == ["good"] * kept
    ((_, found),) = message.broken
    assert detail in found


def test_packed_entries_may_come_as_text() -> None:
    content = packed({"log": "good", "binary": b"\xff\xfe"})
    message = read_message(msgpack.packb(["tag", 0])[:-1] + b"\xd9" + bytes([len(content)]) + content, LIMIT)
    assert message is not None
    assert [entry.record for entry in message.entries] == [{"log": "good", "binary": b"\xff\xfe"}]


def test_many_fields_and_deep_values_are_taken() -> None:
    deep: Any = "bottom"
    for _ in range(40):
        deep = [deep]
    record = {"log": "wide", "deep": deep, **{f"field_{number}": number for number in range(100_000)}}
    message = read_message(msgpack.packb(["tag", 1, record]), 16 * LIMIT)
    assert message is not None
    (attributes,) = batch_of(message, "").batch.attributes
    assert attributes is not None
    assert len(attributes) == 100_002
    assert attributes["field_99999"] == 99_999


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (msgpack.ExtType(0, struct.pack(">II", 1_795_500_000, 7)), 1_795_500_000_000_000_007),
        (1_795_500_000, 1_795_500_000_000_000_000),
        (1_795_500_000.5, 1_795_500_000_500_000_000),
        (-1, 0),
        (float("nan"), 0),
        (2**64 - 1, 0),
        (None, 0),
    ],
)
def test_times(time: Any, expected: int) -> None:
    message = read_message(msgpack.packb(["tag", time, {"log": "a"}]), LIMIT)
    assert message is not None
    assert [entry.time for entry in message.entries] == [expected]
