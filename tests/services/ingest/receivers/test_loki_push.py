"""Bodies of Loki's push API, from streams to a batch."""

from __future__ import annotations

from typing import Any

import cramjam
import msgspec
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from elis.ingest.v1.loki_pb2 import LokiPushRequest
from kit.errors import InvalidArgument
from services.ingest.receivers.bodies import MAX_VALUES, BodyTooLarge, BrokenBody
from services.ingest.receivers.loki_push import (
    LABELS_ATTRIBUTE,
    MAX_ENTRIES,
    MAX_LABELS_TEXT,
    LokiBatch,
    decode_json,
    decode_protobuf,
    decompress_snappy,
    parse_labels,
)
from services.ingest.tokens import Agent
from tests.services.ingest.receivers.protobuf_bytes import field

AGENT = Agent("token-1", "shop-agents", "")
NOW = 1_795_510_800_123_456_789


def json_body(labels: dict[str, Any], *values: list[Any]) -> bytes:
    return orjson.dumps({"streams": [{"stream": labels, "values": values}]})


def protobuf_body(labels: bytes, *entries: tuple[int, bytes, dict[bytes, bytes]]) -> bytes:
    """Returns an uncompressed push request."""
    push = LokiPushRequest()
    stream = push.streams.add(labels=labels)
    for nanoseconds, line, metadata in entries:
        entry = stream.entries.add(line=line)
        entry.timestamp.FromNanoseconds(nanoseconds)
        for name, value in metadata.items():
            entry.structured_metadata.add(name=name, value=value)
    return push.SerializeToString()


def only(decoded: LokiBatch) -> dict[str, Any]:
    """Returns the columns of the one record."""
    assert len(decoded.batch) == 1
    names = ("source", "body", "timestamp", "severity_number", "severity_text", "host", "service", "attributes", "trace_id", "span_id")
    return {**dict(zip(names, (column[0] for column in decoded.batch.columns()), strict=True)), "environment": decoded.environments[0]}


LABELS = {"job": "varlogs", "app": "orders", "instance": "web-1:9080", "level": "error", "env": "staging", "namespace": "shop"}
METADATA = {"trace_id": "A" * 32, "span_id": "b" * 16, "order": "42"}
EXPECTED = {
    "source": "varlogs",
    "body": "order 42 failed",
    "timestamp": NOW,
    "severity_number": 17,
    "severity_text": "error",
    "host": "web-1",
    "service": "orders",
    "attributes": {"job": "varlogs", "env": "staging", "namespace": "shop", "order": "42", "loki.tenant": "team-a"},
    "trace_id": "a" * 32,
    "span_id": "b" * 16,
    "environment": "staging",
}


def test_json_and_protobuf_become_the_same_record() -> None:
    text = "{" + ", ".join(f'{name}="{value}"' for name, value in LABELS.items()) + "}"
    metadata = {name.encode(): value.encode() for name, value in METADATA.items()}
    assert only(decode_json(json_body(LABELS, [str(NOW), "order 42 failed", METADATA]), AGENT, "team-a")) == EXPECTED
    assert only(decode_protobuf(protobuf_body(text.encode(), (NOW, b"order 42 failed", metadata)), AGENT, "team-a")) == EXPECTED


@pytest.mark.parametrize(
    ("labels", "source", "service"),
    [
        ({"service_name": "orders", "job": "varlogs"}, "orders", "orders"),
        ({"service_name": "unknown_service", "job": "varlogs"}, "varlogs", ""),
        ({"job": "shop/orders", "app": "orders"}, "shop/orders", "orders"),
        ({"container": "nginx"}, "nginx", "nginx"),
        ({"filename": "/var/log/syslog"}, "/var/log/syslog", ""),
        ({}, "shop-agents", ""),
    ],
)
def test_the_source_is_the_most_telling_label(labels: dict[str, str], source: str, service: str) -> None:
    found = only(decode_json(json_body(labels, [str(NOW), "x"]), AGENT, ""))
    assert (found["source"], found["service"]) == (source, service)
    bound = only(decode_json(json_body(labels, [str(NOW), "x"]), Agent("t", "n", "bound"), ""))
    assert bound["source"] == "bound"


def test_structured_metadata_fills_what_the_labels_leave_open() -> None:
    metadata = {"detected_level": "warn", "host": "h", "service_name": "s", "traceID": "c" * 32, "trace_id": "not one"}
    found = only(decode_json(json_body({"job": "j"}, [str(NOW), "x", metadata]), AGENT, ""))
    assert (found["severity_number"], found["host"], found["service"], found["trace_id"]) == (13, "h", "s", "c" * 32)
    assert found["attributes"] == {"job": "j", "trace_id": "not one"}


def test_records_of_a_stream_do_not_share_what_is_their_own() -> None:
    batch = decode_json(json_body({"job": "j"}, [str(NOW), "a", {"k": "1"}], [str(NOW + 1), "b"], [str(NOW + 2), "c", {"k": "3"}]), AGENT, "").batch
    assert batch.attributes == [{"k": "1", "job": "j"}, {"job": "j"}, {"k": "3", "job": "j"}]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("{}", ()),
        ('{a="b"}', (("a", "b"),)),
        (' { a = "b" , c="d", } ', (("a", "b"), ("c", "d"))),
        ('{a="quote \\" and \\\\ and \\n, {x}"}', (("a", 'quote " and \\ and \n, {x}'),)),
        ('{a.b="c"}', (("a.b", "c"),)),
        ('{a="\\x1b[31m\\t\\a \\u00e9\\U0001f600 \\ud800 \\q"}', (("a", "\x1b[31m\t\a \u00e9\U0001f600 \ufffd q"),)),  # as Go writes them
        ("", None),
        ('{a="b"', None),
        ("{a=b}", None),
        ('{a="b" c="d"}', None),
        ("not labels", None),
    ],
)
def test_labels_are_read_in_the_notation_of_prometheus(text: str, labels: Any) -> None:
    assert parse_labels(text) == labels


def test_labels_in_another_notation_are_kept() -> None:
    found = only(decode_protobuf(protobuf_body(b"job: x", (NOW, b"line", {})), AGENT, ""))
    assert (found["body"], found["source"], found["attributes"]) == ("line", "shop-agents", {"loki.labels": "job: x"})


def test_bytes_that_are_no_text_cost_no_neighbour() -> None:
    entries = [(NOW, b"caf\xe9", {b"k\xff": b"v\xff"}), (NOW, b"nul \x00 \x1b[31m\r\n", {})]
    assert decode_protobuf(protobuf_body(b'{job="\xff"}', *entries), AGENT, "").batch.body == ["caf\ufffd", "nul \x00 \x1b[31m\r\n"]
    body = json_body({"job": "j"}, [str(NOW), "cafe"], [str(NOW), "plain"]).replace(b"cafe", b"caf\xe9 \\ud83d")
    assert decode_json(body, AGENT, "").batch.body == ["caf\ufffd \ufffd", "plain"]


@pytest.mark.parametrize(("nanoseconds", "expected"), [("0", 0), ("-5", 0), (str(2**63), 2**63 - 1), ("99999999999999999999", 2**63 - 1), (str(NOW), NOW)])
def test_times_out_of_range_are_left_to_the_pipeline(nanoseconds: str, expected: int) -> None:
    assert only(decode_json(json_body({}, [nanoseconds, "x"]), AGENT, ""))["timestamp"] == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"streams":{}}',
        b'{"streams":[{"stream":{"a":1},"values":[]}]}',
        json_body({}, [NOW, "a number for a time"]),
        json_body({}, ["yesterday", "x"]),
        json_body({}, ["1e400", "x"]),
        json_body({}, ["NaN", "x"]),
        json_body({}, ["\u0661", "x"]),
        json_body({}, ["9" * 100, "x"]),
        json_body({}, [str(NOW)]),
        json_body({}, [str(NOW), 5]),
        json_body({}, [str(NOW), "x", {"k": 1}]),
        b'{"streams":' + b"[" * 40_000,
    ],
)
def test_what_is_no_push_request_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidArgument):
        decode_json(body, AGENT, "")


def test_duplicated_keys_and_unknown_ones_are_taken_as_they_come() -> None:
    body = b'{"streams":[{"stream":{"job":"a","job":"b"},"values":[["1","x",{},"more"]],"extra":1}],"more":2}'
    assert decode_json(body, AGENT, "").batch.source == ["b"]


def test_very_many_labels_are_taken() -> None:
    labels = {f"label{number}": "v" for number in range(100_000)}
    attributes = only(decode_json(json_body(labels, [str(NOW), "x"]), AGENT, ""))["attributes"]
    assert len(attributes) == 100_000


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a\x00" * (MAX_ENTRIES + 1),
        field(1, b"\x12\x00" * MAX_ENTRIES),
        field(1, field(2, b"\x1a\x00" * (MAX_VALUES + 1))),
        field(1, field(1, b"{" + b'a="",' * 10_000 + b"}")) * 101,
    ],
    ids=["streams", "entries", "metadata", "labels"],
)
def test_more_than_a_request_may_hold_is_refused_before_it_is_made(body: bytes) -> None:
    with pytest.raises(BodyTooLarge):
        decode_protobuf(body, AGENT, "")


@pytest.mark.parametrize(
    "body",
    [
        b'{"streams":[{"stream":{},"values":[' + b",".join([b'["1",""]'] * MAX_ENTRIES) + b"]}]}",
        b'{"streams":[{"stream":{' + b'"a":"",' * MAX_VALUES + b'"a":""},"values":[]}]}',
        b'{"streams":[{"stream":{},"values":[["1","",{' + b'"a":"",' * MAX_VALUES + b'"a":""}]]}]}',
    ],
    ids=["entries", "labels", "metadata"],
)
def test_json_has_the_same_bounds(body: bytes) -> None:
    with pytest.raises(BodyTooLarge):
        decode_json(body, AGENT, "")


def test_what_stands_in_a_line_counts_for_nothing() -> None:
    line = "[:\n\x0a\x12\x1a" * MAX_VALUES
    assert only(decode_json(json_body({}, [str(NOW), line]), AGENT, ""))["body"] == line
    assert only(decode_protobuf(protobuf_body(b"{}", (NOW, line.encode(), {})), AGENT, ""))["body"] == line


def test_labels_that_are_too_long_to_be_any_are_kept() -> None:
    text = '{a="' + "x" * MAX_LABELS_TEXT + '"}'
    assert only(decode_protobuf(protobuf_body(text.encode(), (NOW, b"x", {})), AGENT, ""))["attributes"] == {LABELS_ATTRIBUTE: text}


@given(st.binary(max_size=2_000))
def test_snappy_blocks_are_decompressed(content: bytes) -> None:
    block = bytes(cramjam.snappy.compress_raw(content))
    assert decompress_snappy(block, 2_000) == content
    if len(content) > 1:
        with pytest.raises(BodyTooLarge):
            decompress_snappy(block, len(content) - 1)
        with pytest.raises(BrokenBody):
            decompress_snappy(block[:-1], 2_000)


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xff\xff\xff\xff\x0f")
@example(b"\xff\xff\xff\xff\xff\xff")
@example(b"\x80\x80\x80\x01" + b"\xfe\x01\x00" * 60)
def test_other_bytes_are_no_snappy_or_small(body: bytes) -> None:
    try:
        content = decompress_snappy(body, 1_000)
    except (BrokenBody, BodyTooLarge):
        return
    assert len(content) <= 1_000


@given(st.binary(max_size=300))
@example(protobuf_body(b'{job="x"}', (NOW, b"line", {b"a": b"b"}))[:-3])
def test_any_protobuf_is_refused_or_whole(body: bytes) -> None:
    try:
        decoded = decode_protobuf(body, AGENT, "t")
    except InvalidArgument:
        return
    check(decoded)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(str(NOW)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["streams", "stream", "values", "job", "level", ""]), inner, max_size=4),
    max_leaves=12,
)


@given(st.one_of(VALUES, st.lists(VALUES, max_size=3).map(lambda values: {"streams": [{"stream": {"job": "j"}, "values": values}]})))
def test_any_json_is_refused_or_whole(value: Any) -> None:
    try:
        body = msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError):
        return
    try:
        decoded = decode_json(body, AGENT, "t")
    except InvalidArgument:
        return
    check(decoded)


def check(decoded: LokiBatch) -> None:
    """Says that every column is full and can be encoded."""
    assert {len(column) for column in decoded.batch.columns()} == {len(decoded.batch)}
    assert len(decoded.environments) == len(decoded.batch)
    assert all(decoded.batch.source)
    orjson.dumps(decoded.batch.columns())
