"""JSON of OpenTelemetry, ECS and others, and JSON inside of JSON."""

from __future__ import annotations

import tracemalloc
from typing import Any

import orjson
import pytest

from services.ingest.batch import Batch
from services.ingest.formats import FORMATS
from services.ingest.formats.fields import spread_fields
from services.ingest.formats.otel_shapes import MAX_RECORDS
from tests.services.ingest.formats.samples import ZONE

JSON = FORMATS["json_lines"]
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def parse(*objects: Any, **columns: Any) -> Batch:
    batch = Batch()
    for value in objects:
        batch.append(value if isinstance(value, str) else orjson.dumps(value).decode(), source="s", **columns)
    JSON.parse(batch, range(len(batch)), ZONE)
    return batch


def test_dotted_and_nested_ecs_are_the_same() -> None:
    dotted = {
        "@timestamp": "2024-01-02T10:00:00Z",
        "log.level": "error",
        "service.name": "s",
        "host.name": "h",
        "trace.id": TRACE,
        "span.id": SPAN,
        "message": "m",
    }
    nested = {
        "@timestamp": "2024-01-02T10:00:00Z",
        "log": {"level": "error"},
        "service": {"name": "s"},
        "host": {"name": "h"},
        "trace": {"id": TRACE},
        "span": {"id": SPAN},
        "message": "m",
    }
    batch = parse(dotted, nested)
    for column in ("timestamp", "severity_number", "severity_text", "host", "service", "trace_id", "span_id", "body"):
        first, second = getattr(batch, column)
        assert first == second
        assert first
    assert not any(batch.attributes)


@pytest.mark.parametrize(
    "record",
    [
        {
            "severityText": "ERROR",
            "severityNumber": 17,
            "body": {"stringValue": "m"},
            "attributes": [{"key": "n", "value": {"intValue": "1"}}],
            "traceId": TRACE,
            "spanId": SPAN,
        },
        {"SeverityText": "ERROR", "SeverityNumber": 17, "Body": "m", "Attributes": {"n": 1}, "TraceId": TRACE, "SpanId": SPAN},
        {
            "SeverityText": "ERROR",
            "Severity": 17,
            "Body": {"Type": "String", "Value": "m"},
            "Attributes": [{"Key": "n", "Value": {"Type": "INT64", "Value": 1}}],
            "TraceID": TRACE,
            "SpanID": SPAN,
        },
        {"severity_text": "ERROR", "severity_number": 17, "body": "m", "attributes": {"n": 1}, "trace_id": f"0x{TRACE}", "span_id": f"0x{SPAN}"},
        {
            "severityText": "ERROR",
            "severityNumber": "SEVERITY_NUMBER_ERROR",
            "body": {"stringValue": "m"},
            "attributes": [{"key": "n", "value": {"intValue": 1}}],
            "traceId": TRACE.upper(),
            "spanId": SPAN.upper(),
        },
        {
            "resourceLogs": [
                {
                    "scopeLogs": [
                        {
                            "logRecords": [
                                {
                                    "severityText": "ERROR",
                                    "severityNumber": 17,
                                    "body": {"stringValue": "m"},
                                    "attributes": [{"key": "n", "value": {"intValue": "1"}}],
                                    "traceId": TRACE,
                                    "spanId": SPAN,
                                }
                            ]
                        }
                    ]
                }
            ]
        },
    ],
)
def test_every_shape_of_an_opentelemetry_record_is_read_alike(record: dict[str, Any]) -> None:
    batch = parse(record)
    assert (batch.severity_number, batch.severity_text, batch.body) == ([17], ["ERROR"], ["m"])
    assert (batch.trace_id, batch.span_id, batch.attributes) == ([TRACE], [SPAN], [{"n": 1}])


def test_values_of_every_kind_are_unwrapped() -> None:
    values = {
        "a": {"arrayValue": {"values": [{"stringValue": "x"}, {"boolValue": True}]}},
        "k": {"kvlistValue": {"values": [{"key": "d", "value": {"doubleValue": 1.5}}]}},
        "e": {"arrayValue": {}},
    }
    batch = parse({"body": {"stringValue": "m"}, "attributes": [{"key": key, "value": value} for key, value in values.items()]})
    assert batch.attributes == [{"a": ["x", True], "k": {"d": 1.5}, "e": []}]


def test_an_export_is_cut_into_its_records() -> None:
    record = {"timeUnixNano": "1704189600123456789", "body": {"stringValue": "m"}}
    export = orjson.dumps(
        {
            "resourceLogs": [
                {"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "s"}}]}, "scopeLogs": [{"logRecords": [record] * 3}]}
            ]
            * 2
        }
    ).decode()
    records = JSON.split(["{}", export, "{}"])
    assert len(records) == 8
    assert parse(*records[1:-1]).service == ["s"] * 6


@pytest.mark.parametrize(
    "export",
    [
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [1]}]}]},
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "m"}}]}]}, 7]},
        {"resourceLogs": {"a": 1}},
        {"resourceLogs": [], "more": 1},
        {"resourceLogs": []},
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [{}] * (MAX_RECORDS + 1)}]}]},
    ],
)
def test_what_is_no_export_stays_whole(export: dict[str, Any]) -> None:
    line = orjson.dumps(export).decode()
    assert JSON.split([line]) == [line]
    assert parse(line).body == [line]


def test_json_inside_of_a_message_is_spread() -> None:
    batch = parse({"log": orjson.dumps({"level": "warn", "msg": "inner", "code": 7, "tag": "b"}).decode() + "\n", "tag": "a"})
    assert (batch.body, batch.severity_number, batch.attributes) == (["inner"], [13], [{"tag": "a", "code": 7, "message.tag": "b"}])


def test_an_object_as_message_is_spread_and_stays_the_body_without_a_message_of_its_own() -> None:
    batch = parse({"message": {"order": 17, "level": "error"}})
    assert (batch.body, batch.severity_text, batch.attributes) == (['{"order":17,"level":"error"}'], ["error"], [{"order": 17}])


@pytest.mark.parametrize("message", ["{not json}", "{", "{}", '["a"]', '{"a":' * 100 + "1" + "}" * 100])
def test_a_message_that_only_looks_like_json_is_kept(message: str) -> None:
    assert parse({"message": message}).body == [message]


def test_numbers_of_levels_are_kept_as_words() -> None:
    batch = parse({"level": 50, "msg": "a"}, {"level": "3", "msg": "b"}, {"level": 7.5, "msg": "c"}, {"level": 99, "msg": "d"})
    assert batch.severity_text == ["50", "3", "", ""]
    assert batch.severity_number == [17, 17, 0, 0]
    assert batch.attributes[2:] == [{"level": 7.5}, {"level": 99}]


def test_names_that_could_fill_the_memory_are_not_remembered() -> None:
    """Records with new and long names, with their text and without it: what is kept of them stays small."""

    def spread(number: int, body: str) -> None:
        batch = Batch()
        batch.append(body, source="s")
        spread_fields(batch, 0, {f"{number}" + "x" * 1_000: 1, "log": {f"{number}" + "y" * 1_000: 2, "level": "info"}, "msg": "m"}, ZONE)
        assert (batch.body, batch.severity_text) == (["m"], ["info"])

    for body in ("", "z" * 10_000):
        spread(0, body)
        tracemalloc.start()
        for number in range(1, 1_000):
            spread(number, body)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept < 500_000
