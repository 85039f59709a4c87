"""Scalars that GraphQL lacks: BigInt, DateTime, Duration, JSON."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NewType, TypeVar, cast

import orjson
import strawberry
from google.protobuf.timestamp_pb2 import Timestamp
from graphql import GraphQLError
from strawberry.types.scalar import ScalarDefinition

ValueT = TypeVar("ValueT")

BigInt = NewType("BigInt", int)
DateTime = NewType("DateTime", int)
"""Nanoseconds since 1970; a protobuf Timestamp where the gateway hands on what a service said."""
Duration = NewType("Duration", int)
"""Nanoseconds."""
JSON = NewType("JSON", object)
"""Any JSON value; encoded JSON (bytes) where the gateway hands on what a service said."""

NANOSECONDS = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_UNITS = {"ms": 1_000_000, "s": NANOSECONDS, "m": 60 * NANOSECONDS, "h": 3_600 * NANOSECONDS, "d": 86_400 * NANOSECONDS, "w": 604_800 * NANOSECONDS}
_DURATION = re.compile(r"(?:\d{1,9}(?:ms|[smhdw]))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+)(ms|[smhdw])", re.ASCII)
MAX_INT64 = 2**63 - 1


def format_instant(seconds: int, nanos: int) -> str:
    """Returns RFC 3339 text in UTC with nine digits of a second: 2026-01-31T23:59:59.123456789Z."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z"


def parse_instant(text: object) -> int:
    """Returns the nanoseconds since 1970 of RFC 3339 text; raises GraphQLError for anything else."""
    match = _INSTANT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise GraphQLError(f"DateTime must be RFC 3339 with a time zone, such as 2026-01-31T23:59:59.5Z, not {text!r:.40}")
    day, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{zone.upper().replace('Z', '+00:00')}")
    except ValueError as error:
        raise GraphQLError(f"DateTime {text!r:.40} does not exist: {error}") from None
    since = moment - _EPOCH
    nanoseconds = (since.days * 86_400 + since.seconds) * NANOSECONDS + int((fraction or "").ljust(9, "0"))
    if not 0 <= nanoseconds <= MAX_INT64:
        raise GraphQLError(f"DateTime {text!r:.40} is not between 1970 and 2262")
    return nanoseconds


def _serialize_instant(value: object) -> str:
    if isinstance(value, Timestamp):
        return format_instant(value.seconds, value.nanos)
    if isinstance(value, int):
        return format_instant(*divmod(value, NANOSECONDS))
    raise TypeError(f"a moment is a Timestamp or nanoseconds, not {type(value).__name__}")


def parse_duration(text: object) -> int:
    """Returns the nanoseconds of text such as 15m, 1h30m, 500ms; raises GraphQLError for anything else."""
    if not isinstance(text, str) or not _DURATION.fullmatch(text) or len(text) > 40:
        raise GraphQLError(f"Duration must be numbers with the units ms, s, m, h, d, w, such as 15m or 1h30m, not {text!r:.40}")
    nanoseconds = sum(int(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text))
    if not 0 < nanoseconds <= MAX_INT64:
        raise GraphQLError(f"Duration {text!r:.40} is out of range")
    return nanoseconds


def format_duration(nanoseconds: int) -> str:
    """Returns the shortest text of a duration, to the millisecond: 90000000000 is 1m30s."""
    parts = []
    rest = nanoseconds
    for unit in ("w", "d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0ms"


def _parse_integer(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,19}", value, re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -MAX_INT64 - 1 <= value <= MAX_INT64:
        raise GraphQLError(f"BigInt must be a whole number of 64 bits, not {value!r:.40}")
    return value


def _serialize_json(value: object) -> object:
    # What is JSON already goes into the answer as it is: no number is rounded, no key moved.
    return orjson.Fragment(value) if isinstance(value, bytes) else value


SCALARS: dict[object, ScalarDefinition] = {
    BigInt: strawberry.scalar(
        name="BigInt",
        description="A whole number of up to 64 bits, written as a JSON number. Accepted as a number or as text.",
        serialize=int,
        parse_value=_parse_integer,
    ),
    DateTime: strawberry.scalar(
        name="DateTime",
        description="A moment in RFC 3339, always with a time zone. Given in UTC with nanoseconds: `2026-01-31T23:59:59.123456789Z`.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339",
        serialize=_serialize_instant,
        parse_value=parse_instant,
    ),
    Duration: strawberry.scalar(
        name="Duration",
        description="A length of time: numbers with the units `ms`, `s`, `m`, `h`, `d`, `w`, such as `15m` or `1h30m`.",
        serialize=format_duration,
        parse_value=parse_duration,
    ),
    JSON: strawberry.scalar(
        name="JSON",
        description="Any JSON value.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc8259",
        serialize=_serialize_json,
    ),
}


def described(value: ValueT, description: str) -> ValueT:
    """Returns a value of an enum with its description; strawberry.enum unwraps it."""
    return cast(ValueT, strawberry.enum_value(value, description=description))
