"""Fields of JSON, logfmt and key=value as widely used loggers name and write them. Not from real systems: after their documentation."""

from __future__ import annotations

from typing import Any

import pytest

from services.ingest.batch import Batch
from tests.services.ingest.formats.samples import parse_records

NANOS = 1_704_189_600_123_000_000
TRACE, SPAN = "65a1b2c3d4e5f60718293a4b5c6d7e8f", "65a1b2c3d4e5f607"


def parse(name: str, line: str) -> Batch:
    """Returns a batch of the line."""
    return parse_records(name, [line])


@pytest.mark.parametrize(
    "fields",
    [
        '"instant":{"epochSecond":1704189600,"nanoOfSecond":123000000}',
        '"t":{"$date":"2024-01-02T10:00:00.123+00:00"}',
        '"t":{"$date":1704189600123}',
        '"timestamp":{"seconds":1704189600,"nanos":123000000}',
        '"time":"0.050","ts":"2024-01-02T10:00:00.123Z"',
        '"time":"10:00:00","time_iso8601":"2024-01-02T10:00:00.123Z"',
        '"ts":"1704189600,123"',
    ],
)
def test_a_time_is_found(fields: str) -> None:
    assert parse("json_lines", f'{{"msg":"a",{fields}}}').timestamp == [NANOS]


@pytest.mark.parametrize("value", ['{"epochSecond":1704189600,"nanoOfSecond":"x"}', '{"$date":[]}', '{"a":1}', '{"epochSecond":[],"nanoOfSecond":1}', "{}"])
def test_an_object_that_is_no_time_stays(value: str) -> None:
    batch = parse("json_lines", f'{{"msg":"a","instant":{value}}}')
    assert batch.timestamp == [0]
    assert batch.attributes[0] is not None
    assert "instant" in batch.attributes[0]


@pytest.mark.parametrize(
    ("fields", "number", "text"),
    [
        ('"level":40,"levelname":"ERROR"', 17, "ERROR"),
        ('"s":"W"', 13, "W"),
        ('"s":"some text"', 0, ""),
        ('"lvl":"eror"', 17, "eror"),
    ],
)
def test_a_level_is_found(fields: str, number: int, text: str) -> None:
    batch = parse("json_lines", f'{{"msg":"a",{fields}}}')
    assert (batch.severity_number, batch.severity_text) == ([number], [text])


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ('"MESSAGE":[104,105,27]', "hi\x1b"),
        ('"MESSAGE":[1000]', "[1000]"),
        ('"fields":{"message":"hi","port":80}', "hi"),
        ('"MessageTemplate":"h{A}","RenderedMessage":"hi"', "hi"),
    ],
)
def test_a_message_is_found(fields: str, body: str) -> None:
    assert parse("json_lines", f"{{{fields}}}").body == [body]


@pytest.mark.parametrize(
    "fields",
    [
        f'"@tr":"{TRACE}","@sp":"{SPAN}"',
        f'"logging.googleapis.com/trace":"projects/p/traces/{TRACE}","logging.googleapis.com/spanId":"{SPAN}"',
    ],
)
def test_trace_and_span_are_found(fields: str) -> None:
    batch = parse("json_lines", f'{{"msg":"a",{fields}}}')
    assert (batch.trace_id, batch.span_id) == ([TRACE], [SPAN])


@pytest.mark.parametrize("name", ["logfmt", "key_value"])
def test_day_and_time_of_day_make_one_time(name: str) -> None:
    line = 'date=2024-01-02 time=10:00:00 devname="FG1" level="notice" msg="a"'
    batch = parse(name, line)
    assert (batch.timestamp, batch.body, batch.attributes) == ([1_704_186_000 * 10**9], ["a"], [{"devname": "FG1"}])
    batch = parse(name, f"{line} eventtime={NANOS}")
    assert (batch.timestamp, batch.attributes) == ([NANOS], [{"date": "2024-01-02", "time": "10:00:00", "devname": "FG1"}])


@pytest.mark.parametrize(
    ("name", "line", "attributes"),
    [
        ("logfmt", "msg=a user=bob user=eve user=kim verbose", {"user": ["bob", "eve", "kim"], "verbose": True}),
        ("logfmt", 'msg="a b" user=bob verbose user="eve x"', {"user": ["bob", "eve x"], "verbose": True}),
        ("key_value", "msg=a, user=bob, user=eve", {"user": ["bob", "eve"]}),
        ("key_value", "msg=a;user=bob;user=eve", {"user": ["bob", "eve"]}),
    ],
)
def test_a_key_that_comes_again_and_a_flag_are_kept(name: str, line: str, attributes: dict[str, Any]) -> None:
    batch = parse(name, line)
    assert batch.attributes == [attributes]


@pytest.mark.parametrize(
    ("line", "attributes"),
    [
        ('2024-01-02 10:00:00 app="x" src="1.1.1.1" note="a=b; c=d"', {"app": "x", "src": "1.1.1.1", "note": "a=b; c=d"}),
        ("2024-01-02 10:00:00 user=bob url=/x?a=1;b=2 n=3", {"user": "bob", "url": "/x?a=1;b=2", "n": 3}),
        ("2024-01-02 10:00:00 user=bob;note=x y=z;n=3", {"user": "bob", "note": "x y=z", "n": 3}),
    ],
)
def test_a_semicolon_may_stand_in_a_value(line: str, attributes: dict[str, Any]) -> None:
    assert parse("key_value", line).attributes == [attributes]
