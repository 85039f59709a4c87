from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import orjson
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from graphql import GraphQLError
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.scalars import JSON, MAX_INT64, SCALARS, BigInt, DateTime, format_duration, format_instant, parse_duration, parse_instant


@given(st.integers(0, MAX_INT64))
def test_a_moment_survives_text(nanoseconds: int) -> None:
    assert parse_instant(format_instant(*divmod(nanoseconds, 1_000_000_000))) == nanoseconds


@settings(max_examples=50)
@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.timezones()))  # noqa: DTZ001  hypothesis adds the zone
def test_any_time_zone_is_understood(moment: datetime) -> None:
    offset = moment.utcoffset()
    assert offset is not None
    if offset.total_seconds() % 60:
        return  # zones of the nineteenth century
    expected = (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // (datetime.resolution)
    assert parse_instant(moment.isoformat()) == expected * 1_000


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-02-30T00:00:00Z",
        "2026-01-01T25:00:00Z",
        "1969-12-31T23:59:59Z",
        "2300-01-01T00:00:00Z",
        "",
        5,
        None,
        "x" * 9999,
    ],
)
def test_what_is_not_a_moment_is_refused(text: object) -> None:
    with pytest.raises(GraphQLError, match="DateTime") as caught:
        parse_instant(text)
    assert len(caught.value.message) < 160


@given(st.text())
def test_no_text_breaks_the_parsers(text: str) -> None:
    for parse in (parse_instant, parse_duration):
        with suppress(GraphQLError):
            parse(text)


def test_a_timestamp_keeps_its_nanoseconds() -> None:
    serialize = SCALARS[DateTime].serialize
    assert serialize is not None
    assert serialize(Timestamp(seconds=1_767_225_600, nanos=7)) == "2026-01-01T00:00:00.000000007Z"
    assert serialize(1_767_225_600_500_000_000) == "2026-01-01T00:00:00.500000000Z"
    with pytest.raises(TypeError):
        serialize("2026")


@pytest.mark.parametrize(("text", "seconds"), [("15m", 900), ("1h30m", 5_400), ("2d", 172_800), ("1w", 604_800), ("90s", 90), ("500ms", 0.5)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds * 1_000_000_000
    assert parse_duration(format_duration(parse_duration(text))) == parse_duration(text)


@pytest.mark.parametrize("text", ["", "15", "m", "15 m", "-1s", "0s", "1.5h", "99999999999w", "999999999w", 5, None, "1m" * 50])
def test_what_is_not_a_duration_is_refused(text: object) -> None:
    with pytest.raises(GraphQLError, match="Duration"):
        parse_duration(text)


def test_the_shortest_text_of_a_duration() -> None:
    assert format_duration(90_000_000_000) == "1m30s"
    assert format_duration(0) == "0ms"


@pytest.mark.parametrize("value", [True, 1.5, "1.5", "x", 2**63, None, "9" * 20])
def test_what_is_not_a_big_integer_is_refused(value: object) -> None:
    parse = SCALARS[BigInt].parse_value
    assert parse is not None
    with pytest.raises(GraphQLError, match="BigInt"):
        parse(value)


def test_big_integers_come_as_numbers_or_text() -> None:
    parse = SCALARS[BigInt].parse_value
    assert parse is not None
    assert parse(2**63 - 1) == parse(str(2**63 - 1)) == 2**63 - 1


def test_json_that_is_encoded_already_stays_as_it_is() -> None:
    serialize = SCALARS[JSON].serialize
    assert serialize is not None
    assert orjson.dumps(serialize(b'{"big":123456789012345678901234567890,"f":1.0}')) == b'{"big":123456789012345678901234567890,"f":1.0}'
    assert serialize({"a": 1}) == {"a": 1}
