"""OTLP in JSON means what the same request means in protobuf."""

from __future__ import annotations

import json
from base64 import b64encode
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from kit.errors import InvalidArgument
from services.ingest.receivers.otlp import MAX_DEPTH, decode_logs, read_columns
from services.ingest.receivers.otlp_json import parse_logs, parse_spans
from services.ingest.tokens import Agent

AGENT = Agent("t", "agent", "")
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)


def one(record: str) -> bytes:
    """A request with one record."""
    return f'{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{record}]}}]}}]}}'.encode()


def values() -> st.SearchStrategy[tuple[AnyValue, dict[str, Any]]]:
    """A value and how it is written in JSON; 64-bit integers as text or number."""
    leaves = st.one_of(
        TEXT.map(lambda text: (AnyValue(string_value=text), {"stringValue": text})),
        st.booleans().map(lambda truth: (AnyValue(bool_value=truth), {"boolValue": truth})),
        st.tuples(st.integers(-(2**63), 2**63 - 1), st.booleans()).map(
            lambda pair: (AnyValue(int_value=pair[0]), {"intValue": str(pair[0]) if pair[1] else pair[0]})
        ),
        st.floats(allow_nan=False, allow_infinity=False).map(lambda number: (AnyValue(double_value=number), {"doubleValue": number})),
        st.binary(max_size=8).map(lambda raw: (AnyValue(bytes_value=raw), {"bytesValue": b64encode(raw).decode()})),
        st.just((AnyValue(), {})),
    )

    def nest(inner: st.SearchStrategy[tuple[AnyValue, dict[str, Any]]]) -> st.SearchStrategy[tuple[AnyValue, dict[str, Any]]]:
        return st.lists(inner, max_size=3).map(to_array) | st.dictionaries(TEXT, inner, max_size=3).map(to_pairs)

    return st.recursive(leaves, nest, max_leaves=6)


def to_array(items: list[tuple[AnyValue, dict[str, Any]]]) -> tuple[AnyValue, dict[str, Any]]:
    value = AnyValue()
    value.array_value.values.extend(item for item, _ in items)
    return value, {"arrayValue": {"values": [written for _, written in items]}}


def to_pairs(items: dict[str, tuple[AnyValue, dict[str, Any]]]) -> tuple[AnyValue, dict[str, Any]]:
    value = AnyValue()
    value.kvlist_value.values.extend(KeyValue(key=key, value=item) for key, (item, _) in items.items())
    return value, {"kvlistValue": {"values": [{"key": key, "value": written} for key, (_, written) in items.items()]}}


@settings(max_examples=150)
@given(
    values(),
    st.dictionaries(TEXT, values(), max_size=3),
    st.integers(0, 2**63 - 1),
    st.integers(0, 24),
    TEXT,
    st.binary(min_size=16, max_size=16),
    st.booleans(),
)
def test_json_and_protobuf_are_the_same_records(
    body: tuple[AnyValue, dict[str, Any]],
    attributes: dict[str, tuple[AnyValue, dict[str, Any]]],
    stamp: int,
    severity: int,
    text: str,
    trace: bytes,
    upper: bool,
) -> None:
    record = LogRecord(time_unix_nano=stamp, severity_text=text, body=body[0], trace_id=trace, span_id=trace[:8])
    record.severity_number = severity  # type: ignore[assignment]
    record.attributes.extend(KeyValue(key=key, value=value) for key, (value, _) in attributes.items())
    written = {
        "timeUnixNano": str(stamp),
        "severityNumber": severity,
        "severityText": text,
        "body": body[1],
        "attributes": [{"key": key, "value": value} for key, (_, value) in attributes.items()],
        "traceId": trace.hex().upper() if upper else trace.hex(),
        "spanId": trace[:8].hex(),
        "flags": 1,
        "somethingNew": {"a": [1]},
    }
    wire = ExportLogsServiceRequest()
    wire.resource_logs.add().scope_logs.add(log_records=[record])
    assert read_columns(parse_logs(one(json.dumps(written, ensure_ascii=False))), AGENT) == decode_logs(wire.SerializeToString(), AGENT)


def test_the_example_of_the_specification_is_read() -> None:
    body = b"""
    {"resourceLogs": [{
      "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "my.service"}}]},
      "scopeLogs": [{
        "scope": {"name": "my.library", "version": "1.0.0", "attributes": [{"key": "my.scope.attribute", "value": {"stringValue": "some scope attribute"}}]},
        "logRecords": [{
          "timeUnixNano": "1544712660300000000", "observedTimeUnixNano": "1544712660300000000",
          "severityNumber": 10, "severityText": "Information",
          "traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "EEE19B7EC3C1B174",
          "body": {"stringValue": "Example log record"},
          "attributes": [{"key": "map.attribute", "value": {"kvlistValue": {"values": [{"key": "some.map.key", "value": {"stringValue": "some value"}}]}}}]
        }]
      }]
    }]}"""
    batch, _ = read_columns(parse_logs(body), AGENT)
    assert (batch.source, batch.body, batch.timestamp, batch.severity_number) == (["my.service"], ["Example log record"], [1544712660300000000], [10])
    assert (batch.trace_id, batch.span_id) == (["5b8efff798038103d269b633813fc60c"], ["eee19b7ec3c1b174"])
    assert batch.attributes == [
        {
            "otel.scope.name": "my.library",
            "otel.scope.version": "1.0.0",
            "otel.scope.my.scope.attribute": "some scope attribute",
            "map.attribute": {"some.map.key": "some value"},
        }
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"nonsense",
        b'{"resourceLogs":5}',
        one('{"severityNumber":"INFO"}'),
        one('{"severityNumber":4294967296}'),
        one('{"timeUnixNano":-1}'),
        one('{"timeUnixNano":"yesterday"}'),
        one('{"timeUnixNano":1e400}'),
        one('{"timeUnixNano":NaN}'),
        one('{"timeUnixNano":"' + "9" * 5_000 + '"}'),
        one('{"body":{"intValue":"9223372036854775808"}}'),
        one('{"body":{"bytesValue":"="}}'),
        one('{"body":{"stringValue":"\\ud800"') + b"\xff",
        one('{"body":{"arrayValue":{"values":null}},"attributes":[null]}'),
        one('{"body":' + '{"arrayValue":{"values":[' * 40_000),
        one('{"x":' + "[" * 40_000),
    ],
)
def test_what_is_wrong_refuses_the_request(body: bytes) -> None:
    with pytest.raises(InvalidArgument):
        parse_logs(body)


def test_nothing_is_a_request_too() -> None:
    for body in (b"{}", b'{"resourceLogs":null}', b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[]}]}]}', b'{"unknown":1}'):
        assert not len(read_columns(parse_logs(body), AGENT)[0])
    assert not parse_spans(b"{}").resource_spans


def test_null_is_absent_and_broken_ids_are_none() -> None:
    record = '{"timeUnixNano":null,"body":null,"attributes":null,"traceId":"xyz","spanId":"12","severityText":null,"severityNumber":null}'
    batch, _ = read_columns(parse_logs(one(record)), AGENT)
    assert (batch.body, batch.timestamp, batch.trace_id, batch.span_id) == ([""], [0], [""], [""])


def test_names_of_enums_and_keys_as_protobuf_spells_them_are_taken_as_the_collector_takes_them() -> None:
    record = {
        "time_unix_nano": "5",
        "severity_number": "SEVERITY_NUMBER_ERROR",
        "trace_id": "ab" * 16,
        "body": {"string_value": '{"time_unix_nano":1}'},
        "attributes": [{"key": "time_unix_nano", "value": {"array_value": {"values": [{"int_value": 1}, {"double_value": "0.5"}, {"bool_value": True}]}}}],
    }
    request = {"resource_logs": [{"resource": {"attributes": []}, "scope_logs": [{"scope": {}, "log_records": [record]}]}]}
    for written in (json.dumps(request), json.dumps(request, separators=(",", ":"))):
        batch, _ = read_columns(parse_logs(written.encode()), AGENT)
        assert (batch.timestamp, batch.severity_number, batch.trace_id, batch.body) == ([5], [17], ["ab" * 16], ['{"time_unix_nano":1}'])
        assert batch.attributes == [{"time_unix_nano": [1, 0.5, True]}]
    span = {"trace_id": "ab" * 16, "kind": "SPAN_KIND_SERVER", "status": {"code": "STATUS_CODE_ERROR"}, "parent_span_id": "cd" * 8}
    [read] = parse_spans(json.dumps({"resource_spans": [{"scope_spans": [{"spans": [span]}]}]}).encode()).resource_spans[0].scope_spans[0].spans
    assert (read.kind, read.status.code, read.parent_span_id) == (Span.SPAN_KIND_SERVER, Status.STATUS_CODE_ERROR, b"\xcd" * 8)


def test_what_is_no_text_costs_no_neighbour() -> None:
    first = '{"body":{"stringValue":"cafX \\ud83d \\ud83d\\ude00 \\\\ud83d"},"attributes":[{"key":"k","value":{"stringValue":"\\udc00"}}]}'
    record = first + ',{"body":{"stringValue":"plain"}}'
    batch, _ = read_columns(parse_logs(one(record).replace(b"X", b"\xe9")), AGENT)
    assert batch.body == ["caf\ufffd \ufffd \U0001f600 \\ud83d", "plain"]
    assert batch.attributes == [{"k": "\ufffd"}, None]


def test_values_are_cut_at_the_depth_that_protobuf_is_cut_at() -> None:
    deep = '{"arrayValue":{"values":[' * 100 + '{"stringValue":"x"}' + "]}}" * 100
    batch, _ = read_columns(parse_logs(one(f'{{"body":{deep}}}')), AGENT)
    assert batch.body[0].count("[") == MAX_DEPTH + 1
    assert '"x"' not in batch.body[0]


def test_control_characters_and_many_attributes_survive() -> None:
    attributes = ",".join(f'{{"key":"k{number}","value":{{"intValue":{number}}}}}' for number in range(100_000))
    batch, _ = read_columns(parse_logs(one(f'{{"body":{{"stringValue":"a\\u0000\\r\\n\\u001b[31m"}},"attributes":[{attributes}]}}')), AGENT)
    assert batch.body == ["a\0\r\n\x1b[31m"]
    assert len(batch.attributes[0] or {}) == 100_000


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused(body: bytes) -> None:
    for parse in (parse_logs, parse_spans):
        with suppress(InvalidArgument):
            parse(body)
