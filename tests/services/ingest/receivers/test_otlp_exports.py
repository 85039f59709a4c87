"""Export requests of OpenTelemetry whose attributes were read before, and our layout of them."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from elis.ingest.v1 import otlp_pb2 as pb
from kit.errors import InvalidArgument
from services.ingest.batch import Batch
from services.ingest.receivers.bodies import MAX_CONTAINERS, MAX_RECORDS, BodyTooLarge
from services.ingest.receivers.broken_protobuf import mend_texts
from services.ingest.receivers.otlp import decode_logs, read_spans
from services.ingest.receivers.otlp_json import parse_logs, parse_spans
from services.ingest.tokens import Agent
from tests.services.ingest.receivers.protobuf_bytes import field

AGENT = Agent("token-1", "agents", "")
BOUND = Agent("token-2", "agents", "bound")
_BYTES = (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
_NUMBERS = (FieldDescriptor.TYPE_ENUM, FieldDescriptor.TYPE_INT32)


def export(*records: LogRecord, service: str = "orders") -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    resource_logs = request.resource_logs.add()
    resource_logs.resource.attributes.add(key="service.name").value.string_value = service
    resource_logs.scope_logs.add().log_records.extend(records)
    return request


def record(body: str = "m", **attributes: str) -> LogRecord:
    made = LogRecord(body=AnyValue(string_value=body))
    for key, value in attributes.items():
        made.attributes.add(key=key).value.string_value = value
    return made


def batch_of(request: ExportLogsServiceRequest, agent: Agent) -> tuple[Batch, list[str]]:
    return decode_logs(request.SerializeToString(), agent)


def record_bytes(content: bytes) -> bytes:
    """A request with one record or span."""
    return field(1, field(2, field(2, content)))


def encode(made: pb.OtlpLogRecord) -> bytes:
    return pb.OtlpLogs(resource_logs=[pb.OtlpResourceLogs(scope_logs=[pb.OtlpScopeLogs(log_records=[made])])]).SerializeToString()


def assert_layout(ours: Descriptor, theirs: Descriptor) -> None:
    for own in ours.fields:
        other = theirs.fields_by_number[own.number]
        assert (own.name, own.is_repeated) == (other.name, other.is_repeated)
        assert own.type == other.type or {own.type, other.type} <= set(_BYTES) or {own.type, other.type} <= set(_NUMBERS)
        if own.message_type is not None:
            assert other.message_type is not None
            assert_layout(own.message_type, other.message_type)


def test_the_layout_is_that_of_opentelemetry() -> None:
    assert_layout(pb.OtlpLogs.DESCRIPTOR, ExportLogsServiceRequest.DESCRIPTOR)


@pytest.mark.parametrize("length", [0, 1, 2, 126, 127, 128, 129, 16_383, 16_384, 20_000])
@pytest.mark.parametrize("letter", ["a", "\0", "ä", "\U0001f600"])
def test_texts_of_any_length_are_read(length: int, letter: str) -> None:
    assert batch_of(export(record(letter * length)), AGENT)[0].body == [letter * length]


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    assert batch_of(export(record(text)), AGENT)[0].body == [text]


@given(st.binary(max_size=40))
def test_a_value_that_looks_like_a_text_is_what_protobuf_reads(raw: bytes) -> None:
    body = encode(pb.OtlpLogRecord(body=b"\x0a" + raw))
    try:
        expected: Any = batch_of(ExportLogsServiceRequest.FromString(body), AGENT)
    except DecodeError:
        with suppress(InvalidArgument):  # it is taken when nothing but a text was wrong
            decode_logs(body, AGENT)
    else:
        assert decode_logs(body, AGENT) == expected


@pytest.mark.parametrize("part", ["body", "attributes"])
@pytest.mark.parametrize("raw", [b"\x0a\x05ab", b"\x0b", b"\x0f", b"\x08" + b"\x80" * 11])
def test_what_is_no_protobuf_inside_is_refused(part: str, raw: bytes) -> None:
    body = encode(pb.OtlpLogRecord(body=raw) if part == "body" else pb.OtlpLogRecord(attributes=[raw]))
    with pytest.raises(InvalidArgument):
        decode_logs(body, AGENT)


def test_texts_that_are_not_utf8_cost_no_neighbour() -> None:
    """The Collector takes them from its senders and passes them on among others (opentelemetry-collector #11449)."""
    request = export(record("caf\u00fc", **{"k\u00fc": "v\u00fc"}), record("plain", file="a"), service="shop\u00fc")
    found = request.resource_logs[0].scope_logs[0]
    found.scope.name, found.log_records[0].severity_text, found.log_records[0].event_name = "lib\u00fc", "warn\u00fc", "event\u00fc"
    found.log_records[0].attributes.add(key="list").value.array_value.values.add().kvlist_value.values.add(key="a\u00fc").value.string_value = "b\u00fc"
    batch, _ = decode_logs(request.SerializeToString().replace("\u00fc".encode(), b"\xff\xff"), AGENT)
    assert (batch.body, batch.severity_text, batch.service) == (["caf\ufffd\ufffd", "plain"], ["warn\ufffd\ufffd", ""], ["shop\ufffd\ufffd"] * 2)
    scope = {"otel.scope.name": "lib\ufffd\ufffd"}
    assert batch.attributes == [
        {**scope, "k\ufffd\ufffd": "v\ufffd\ufffd", "list": [{"a\ufffd\ufffd": "b\ufffd\ufffd"}], "event.name": "event\ufffd\ufffd"},
        {**scope, "file": "a"},
    ]


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_any_bytes_may_be_a_text(text: bytes, value: bytes) -> None:
    body = record_bytes(field(5, field(1, text)) + field(6, field(1, b"k") + field(2, field(5, field(1, field(1, value))))))
    batch, _ = decode_logs(body, AGENT)
    assert (batch.body, batch.attributes) == ([text.decode("utf-8", "replace")], [{"k": [value.decode("utf-8", "replace")]}])
    assert len(read_spans(record_bytes(field(5, text))).resource_spans) == 1


def test_messages_inside_each_other_without_end_are_refused_when_they_are_mended() -> None:
    deep = b"\x0a\x01\xff"
    for _ in range(300):
        deep = field(5, field(1, deep))
    with pytest.raises(InvalidArgument):
        decode_logs(record_bytes(field(5, deep)), AGENT)


def test_a_text_deep_inside_is_mended_without_a_copy_at_each_depth() -> None:
    value = field(1, b"x" * 1_000_000 + b"\xff")
    for _ in range(45):
        value = field(5, field(1, value))
    body = record_bytes(field(5, value))
    tracemalloc.start()
    try:
        mended = mend_texts(body, ExportLogsServiceRequest)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert b"x\xef\xbf\xbd" in mended
    assert peak < 8 * len(body)


@pytest.mark.parametrize(("raw", "body"), [("zażółć".encode(), "zażółć"), (b"\xff", "ff"), (b"a\x00", "6100"), (b"", "")])
def test_a_body_of_bytes_is_the_text_that_they_are(raw: bytes, body: str) -> None:
    assert batch_of(export(LogRecord(body=AnyValue(bytes_value=raw))), AGENT)[0].body == [body]


def test_records_with_the_same_attributes_share_them() -> None:
    for _ in range(2):
        batch, _ = batch_of(export(record("1", file="a"), record("2", file="b"), record("3", file="a")), AGENT)
        first, second, third = batch.attributes
        assert first == {"file": "a"}
        assert second == {"file": "b"}
        assert third is first


def test_an_event_name_is_of_its_record_only() -> None:
    named = record("1", file="a")
    named.event_name = "login"
    batch, _ = batch_of(export(named, record("2", file="a"), LogRecord(event_name="logout"), LogRecord()), AGENT)
    assert batch.attributes == [{"file": "a", "event.name": "login"}, {"file": "a"}, {"event.name": "logout"}, None]


def test_what_is_remembered_is_of_one_resource_and_one_token() -> None:
    assert [batch_of(export(record(file="a"), service=service), AGENT)[0].service for service in ("one", "two", "one")] == [["one"], ["two"], ["one"]]
    assert [batch_of(export(record(file="a")), agent)[0].source for agent in (AGENT, BOUND, AGENT)] == [["orders"], ["bound"], ["orders"]]


def test_a_time_is_when_it_was_seen_where_it_is_not_known_and_numbers_have_bounds() -> None:
    records = [
        LogRecord(time_unix_nano=5, observed_time_unix_nano=7),
        LogRecord(observed_time_unix_nano=7),
        LogRecord(time_unix_nano=2**64 - 1, severity_number=30),  # type: ignore[arg-type]
        LogRecord(severity_number=-1),  # type: ignore[arg-type]
    ]
    batch, _ = batch_of(export(*records), AGENT)
    assert batch.timestamp == [5, 7, 2**63 - 1, 0]
    assert batch.severity_number == [0, 0, 24, 0]


@pytest.mark.parametrize(
    ("number", "text", "severity"), [(0, "ERROR", 17), (0, "warn", 13), (0, "odd", 0), (0, "", 0), (9, "ERROR", 9), (-1, "fatal", 21), (99, "INFO", 24)]
)
def test_the_severity_is_that_of_the_text_where_no_number_says_it(number: int, text: str, severity: int) -> None:
    batch, _ = decode_logs(encode(pb.OtlpLogRecord(severity_number=number, severity_text=text)), AGENT)
    assert (batch.severity_number, batch.severity_text) == ([severity], [text])


def test_a_name_of_blanks_is_none() -> None:
    batch, _ = batch_of(export(record(), service=" \t"), AGENT)
    assert (batch.source, batch.service) == (["agents"], [""])


def test_large_attributes_are_read_each_time() -> None:
    large = "x" * 5_000
    for _ in range(2):
        batch, _ = batch_of(export(record(file=large), record(file=large)), AGENT)
        assert batch.attributes == [{"file": large}] * 2


def test_as_many_records_as_a_request_may_have_are_taken() -> None:
    """With a resource and a scope, which count too."""
    batch, _ = batch_of(export(*[LogRecord()] * (MAX_RECORDS - 2)), AGENT)
    assert len(batch) == MAX_RECORDS - 2


def test_more_objects_than_json_may_open_are_refused() -> None:
    many = b",".join([b"{}"] * (MAX_CONTAINERS + 1))
    with pytest.raises(BodyTooLarge, match=str(MAX_CONTAINERS)):
        parse_logs(b'{"resourceLogs":[%s]}' % many)
    with pytest.raises(BodyTooLarge, match=str(MAX_CONTAINERS)):
        parse_spans(b'{"resourceSpans":[%s]}' % many)
