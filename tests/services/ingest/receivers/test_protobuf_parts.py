"""What is in a request in protobuf is counted as protobuf would read it, before it does."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from elis.ingest.v1.loki_pb2 import LokiPushRequest
from kit.errors import InvalidArgument
from services.ingest.receivers.bodies import MAX_RECORDS, MAX_VALUES, BodyTooLarge
from services.ingest.receivers.loki_push import ENTRIES, METADATA
from services.ingest.receivers.otlp import LOG_VALUES, RECORDS, SPAN_VALUES, decode_logs, read_spans
from services.ingest.receivers.protobuf_parts import Part, PartCount
from services.ingest.tokens import Agent
from tests.services.ingest.receivers.protobuf_bytes import field

AGENT = Agent("token-1", "agents", "")
EMPTY_ATTRIBUTES = b"\x32\x00" * (MAX_VALUES + 1)
EMPTY_VALUES = b"\x0a\x00" * (MAX_VALUES + 1)


def record(content: bytes) -> bytes:
    """A request with one record."""
    return field(1, field(2, field(2, content)))


def count_parts(message: Message, fields: dict[int, Part]) -> int:
    """Counts what a message holds, as protobuf has read it."""
    found = 0
    for descriptor, value in message.ListFields():
        part = fields.get(descriptor.number)
        if part is not None:
            for one in value if descriptor.is_repeated else [value]:
                found += part.counted + (count_parts(one, part.fields) if isinstance(one, Message) else 0)
    return found


def check(count: PartCount, largest: int, body: bytes) -> None:
    PartCount(largest, "parts", count.fields).check(body)


@pytest.mark.parametrize(
    ("request_type", "counts"),
    [(ExportLogsServiceRequest, (RECORDS, LOG_VALUES)), (ExportTraceServiceRequest, (RECORDS, SPAN_VALUES)), (LokiPushRequest, (ENTRIES, METADATA))],
)
def test_every_message_that_may_be_there_more_than_once_is_counted(request_type: type[Message], counts: tuple[PartCount, PartCount]) -> None:
    """By the layout that opentelemetry-proto has now."""

    def assert_counted(message: Any, layouts: list[dict[int, Part]], seen: list[tuple[Any, int]]) -> None:
        if (message, id(layouts[-1])) in seen:
            return
        seen.append((message, id(layouts[-1])))
        for member in message.fields:
            parts = [layout[member.number] for layout in layouts if member.number in layout]
            if member.is_repeated or (member.message_type and member.containing_oneof):
                assert any(part.counted for part in parts), member.full_name
            if member.message_type is not None and any(inner.message_type or inner.is_repeated for inner in member.message_type.fields):
                assert parts, member.full_name
                assert_counted(member.message_type, [part.fields for part in parts], seen)

    assert_counted(request_type.DESCRIPTOR, [count.fields for count in counts], [])


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a\x00" * (MAX_RECORDS + 1),
        field(1, b"\x12\x00" * MAX_RECORDS),
        field(1, field(2, b"\x12\x00" * MAX_RECORDS)),
        b"\x8a\x80\x00\x00" * (MAX_RECORDS + 1),  # tags in three bytes
        field(1, field(1, EMPTY_VALUES)),
        field(1, field(2, field(1, b"\x1a\x00" * (MAX_VALUES + 1)))),
    ],
    ids=["resources", "scopes", "records", "long tags", "attributes of a resource", "attributes of a scope"],
)
def test_more_layers_or_attributes_than_a_request_may_have_are_refused(body: bytes) -> None:
    with pytest.raises(BodyTooLarge):
        decode_logs(body, AGENT)
    with pytest.raises(BodyTooLarge):
        read_spans(body)


@pytest.mark.parametrize(
    "content",
    [
        EMPTY_ATTRIBUTES,
        field(5, field(5, EMPTY_VALUES)),
        field(5, field(6, EMPTY_VALUES)),
        field(6, field(2, field(5, EMPTY_VALUES))),
        field(5, field(6, field(1, field(2, field(5, EMPTY_VALUES))))),
        field(5, b"\x2a\x00\x32\x00" * (MAX_VALUES // 2 + 1)),  # each takes the place of the other one
        b"\x2a\x00" * MAX_VALUES + EMPTY_ATTRIBUTES,
    ],
    ids=["attributes", "array", "pairs", "array in an attribute", "array in pairs", "arrays and pairs", "bodies before"],
)
def test_a_record_with_more_values_than_a_request_may_have_is_refused(content: bytes) -> None:
    """Each takes two bytes there and was read at twenty times that."""
    with pytest.raises(BodyTooLarge, match=str(MAX_VALUES)):
        decode_logs(record(content), AGENT)


@pytest.mark.parametrize("content", [b"\x4a\x00" * (MAX_VALUES + 1), b"\x5a\x00" * (MAX_VALUES + 1), b"\x6a\x00" * (MAX_VALUES + 1)])
def test_a_span_with_more_attributes_events_or_links_is_refused(content: bytes) -> None:
    with pytest.raises(BodyTooLarge, match=str(MAX_VALUES)):
        read_spans(record(content))


def test_as_many_attributes_as_a_request_may_have_are_taken_whatever_is_in_the_texts() -> None:
    text = field(5, field(1, b"\x0a\x12\x1a\x2a\x32" * MAX_VALUES))
    batch, _ = decode_logs(record(text + b"\x32\x00" * MAX_VALUES), AGENT)
    assert batch.attributes == [{"": None}]
    assert len(batch.body[0]) == 5 * MAX_VALUES


@pytest.mark.parametrize(
    "raw", [b"\x0a\x05", b"\x0a", b"\x0a" + b"\xff" * 11, b"\x0f\x0a", b"\x08" + b"\x80" * 11, b"\x09\x00\x0a", b"\x0a\x02\x12\x05\x0a\x00", b"\x0d"]
)
def test_what_is_no_protobuf_is_refused_while_it_is_counted(raw: bytes) -> None:
    with pytest.raises(InvalidArgument, match="protobuf"):
        check(RECORDS, 3, b"\xfa\x01\x04\x0a\x0a\x0a\x0a" + raw)  # an unknown field whose bytes make the count worth while


def test_messages_inside_each_other_without_end_are_refused() -> None:
    deep = b""
    for _ in range(300):
        deep = field(5, field(1, deep))
    with pytest.raises(InvalidArgument):
        check(LOG_VALUES, 300, record(field(5, deep)) + b"\x0a" * 600)


def nested(depth: int) -> st.SearchStrategy[bytes]:
    """Fields of any number with fields in them, and some bytes that are none."""
    inner = nested(depth - 1) if depth else st.binary(max_size=6)
    fields = st.builds(field, st.sampled_from([1, 2, 3, 5, 6, 9, 11, 13]), inner | st.just(b""))
    others = st.sampled_from([b"\x08\x01", b"\x09" + b"\x01" * 8, b"\x0d" + b"\x01" * 4, b"\x0b\x0a\x00\x0c", b"\x8a\x00\x00", b"\xfa\x01\x01x"])
    return st.lists(fields | others, max_size=3).map(b"".join) | st.binary(max_size=6)


CASES: list[tuple[PartCount, Any]] = [
    (RECORDS, ExportLogsServiceRequest),
    (LOG_VALUES, ExportLogsServiceRequest),
    (SPAN_VALUES, ExportTraceServiceRequest),
    (ENTRIES, LokiPushRequest),
    (METADATA, LokiPushRequest),
]


@given(nested(7), st.integers(0, 3), st.sampled_from(CASES))
@example(record(b"\x32\x00"), 0, CASES[1])
@example(b"\x0b\x0c\x0a\x00", 0, CASES[0])
def test_nothing_that_protobuf_reads_escapes_the_count(body: bytes, largest: int, case: tuple[PartCount, Any]) -> None:
    count, request_type = case
    try:
        parts = count_parts(request_type.FromString(body), count.fields)
    except DecodeError:
        with suppress(InvalidArgument):
            check(count, largest, body)
        return
    if parts > largest:
        with pytest.raises(BodyTooLarge):
            check(count, largest, body)
    else:
        with suppress(BodyTooLarge):  # of a message that is there twice protobuf may keep the last part only
            check(count, largest, body)


@given(st.lists(st.lists(st.integers(0, 3), max_size=3), max_size=3), st.integers(0, 20))
def test_the_count_is_exact(resources: list[list[int]], largest: int) -> None:
    wanted = {"resource_logs": [{"scope_logs": [{"log_records": [{"severity_text": "\n\x12"}] * records} for records in scopes]} for scopes in resources]}
    request = ExportLogsServiceRequest(**wanted)  # type: ignore[arg-type]
    if count_parts(request, RECORDS.fields) > largest:
        with pytest.raises(BodyTooLarge):
            check(RECORDS, largest, request.SerializeToString())
    else:
        check(RECORDS, largest, request.SerializeToString())
