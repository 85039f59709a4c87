"""Rows under names that the caller chose."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elis.search.v1 import search_pb2 as pb
from kit.errors import InvalidArgument
from services.search.projection import format_time, read_projection
from tests.services.search.corpus import make_line

ALL = [
    "event_id",
    "timestamp",
    "observed_at",
    "source",
    "system",
    "environment",
    "host",
    "service",
    "severity_number",
    "severity_text",
    "body",
    "attributes",
    "trace_id",
    "span_id",
    "fingerprint",
]


def project(line: bytes, *fields: tuple[str, str]) -> bytes:
    (row,) = read_projection([pb.ProjectedField(field=field, response_name=name) for field, name in fields])([line])
    return row


def test_every_field_of_a_full_line() -> None:
    given_ = {
        "environment": "production",
        "host": "h",
        "service": "s",
        "severity_text": "ERROR",
        "attributes": {"b": 1, "a": "ü"},
        "trace_id": "ab" * 16,
        "span_id": "cd" * 8,
        "body": 'x"\\\n ü',
    }
    line = make_line(5 << 20, **given_)
    row = json.loads(project(line, *((field, field) for field in ALL)))
    assert list(row) == ALL
    assert row == {
        **json.loads(line),
        "event_id": str(5 << 20),
        "timestamp": "2024-10-04T12:00:00.000000000Z",
        "observed_at": "2024-10-04T12:00:00.000000000Z",
    }


def test_what_is_absent_is_null_or_empty() -> None:
    row = json.loads(project(make_line(1, body=""), *((field, field) for field in ALL)))
    assert [row[field] for field in ("environment", "host", "service", "severity_text", "trace_id", "span_id")] == [None] * 6
    assert (row["attributes"], row["body"]) == ({}, "")


@pytest.mark.parametrize(
    ("number", "step"), [(0, None), (1, "TRACE"), (4, "TRACE"), (5, "DEBUG"), (9, "INFO"), (16, "WARN"), (17, "ERROR"), (20, "ERROR"), (24, "FATAL")]
)
def test_a_severity_is_a_step(number: int, step: str | None) -> None:
    assert json.loads(project(make_line(1, severity_number=number), ("severity", "s"))) == {"s": step}


def test_fields_come_in_the_order_and_under_the_names_asked_for() -> None:
    assert project(make_line(7, body="b"), ("body", 'say "x"'), ("event_id", "id"), ("body", "again")) == b'{"say \\"x\\"":"b","id":"7","again":"b"}'


def test_unknown_fields_and_too_many_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="no field 'secret'"):
        read_projection([pb.ProjectedField(field="secret")])
    with pytest.raises(InvalidArgument, match="at most 64"):
        read_projection([pb.ProjectedField(field="body")] * 65)


@given(st.integers(-(2**63), 2**63 - 1))
def test_times_are_exact(nanoseconds: int) -> None:
    text = format_time(nanoseconds)
    assert len(text) == 30
    whole = datetime.fromisoformat(text[:19]).replace(tzinfo=UTC)
    seconds = (whole - datetime(1970, 1, 1, tzinfo=UTC)).days * 86_400 + whole.hour * 3600 + whole.minute * 60 + whole.second
    assert seconds * 10**9 + int(text[20:29]) == nanoseconds
