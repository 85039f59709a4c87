"""One log event and the conditions that pick events: the types that search, tail and incidents share."""

from __future__ import annotations

from enum import Enum
from time import time_ns
from typing import Any

import orjson
import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from elis.search.v1 import search_pb2 as pb
from gateway.scalars import JSON, NANOSECONDS, DateTime, Duration, described
from kit.errors import InvalidArgument

_SEVERITY_WIDTH = 4
"""OpenTelemetry gives every severity four numbers: ERROR is 17 to 20."""


@strawberry.enum(description="How serious an event is, in the six steps of OpenTelemetry.")
class Severity(Enum):
    """The lowest severity number of each step."""

    TRACE = described(1, "Fine-grained tracing; numbers 1 to 4.")
    DEBUG = described(5, "For debugging; numbers 5 to 8.")
    INFO = described(9, "Something happened as it should; numbers 9 to 12.")
    WARN = described(13, "Something may go wrong; numbers 13 to 16.")
    ERROR = described(17, "Something went wrong; numbers 17 to 20.")
    FATAL = described(21, "Something broke down; numbers 21 to 24.")


def name_severity(number: int) -> Severity | None:
    """Returns the step of a severity number; None for 0, unknown."""
    if not 1 <= number <= 24:
        return None
    return Severity((number - 1) // _SEVERITY_WIDTH * _SEVERITY_WIDTH + 1)


@strawberry.interface(description="Something with an id that `node(id:)` finds.")
class Node:
    """The Relay node: the decimal number of an event, or the UUID of an incident."""

    id: strawberry.ID = strawberry.field(description="Identifies the object among all objects of ELIS.")


def _read_id(parent: strawberry.Parent[pb.Event]) -> strawberry.ID:
    return strawberry.ID(str(parent.event_id))


def _read_severity(parent: strawberry.Parent[pb.Event]) -> Severity | None:
    return name_severity(parent.severity_number)


def _read_attributes(parent: strawberry.Parent[pb.Event]) -> JSON:
    return JSON(parent.attributes_json or b"{}")


@strawberry.type(description="One log event, in the log data model of OpenTelemetry.")
class LogEvent(Node):
    """Shows elis.search.v1.Event."""

    @classmethod
    def is_type_of(cls, value: object, _info: Any) -> bool:
        """Whether a message is shown by this type."""
        return isinstance(value, pb.Event)

    id: strawberry.ID = strawberry.field(resolver=_read_id, description="The event's number; the same as `eventId`.")
    event_id: strawberry.ID = strawberry.field(description="The event's number, given when it was stored. It never changes.")
    timestamp: DateTime = strawberry.field(description="When it happened, as the sender says.")
    observed_at: DateTime = strawberry.field(description="When ELIS received it.")
    source: str = strawberry.field(description="Name of the sender.")
    system: str = strawberry.field(description="Kind of system: `splunk`, `sap`, `application` or `infrastructure`.")
    environment: str | None = strawberry.field(description="Environment of the sender, such as `production`.")
    host: str | None = strawberry.field(description="Machine that it happened on.")
    service: str | None = strawberry.field(description="Service or component that it is about.")
    severity_number: int = strawberry.field(description="Severity 1 to 24 as OpenTelemetry numbers it; 0 when unknown.")
    severity_text: str | None = strawberry.field(description="Severity in the sender's words.")
    severity: Severity | None = strawberry.field(resolver=_read_severity, description="Severity in six steps; null when unknown.")
    body: str = strawberry.field(description="The text of the event, with secrets and personal data replaced by tokens.")
    attributes: JSON = strawberry.field(resolver=_read_attributes, description="Structured fields of the event, as a JSON object.")
    trace_id: str | None = strawberry.field(description="Trace that it belongs to, 32 hexadecimal digits.")
    span_id: str | None = strawberry.field(description="Span that it belongs to, 16 hexadecimal digits.")
    fingerprint: str = strawberry.field(description="Hash of the constant part of the body, 16 hexadecimal digits: equal for similar lines.")


@strawberry.input(description="Which events. Every condition that is given must hold; lists mean any of.")
class EventFilter:
    """Becomes elis.search.v1.Filter."""

    start: DateTime | None = strawberry.field(default=None, description="Earliest time of the event, inclusive.")
    end: DateTime | None = strawberry.field(default=None, description="Latest time of the event, exclusive.")
    last: Duration | None = strawberry.field(default=None, description="Instead of `start`: so long before now, such as `15m`.")
    query: str | None = strawberry.field(
        default=None,
        description='What to look for: `service:billing AND severity:>=error AND "connection refused" -host:web-3`.',
    )
    sources: list[str] | None = strawberry.field(default=None, description="Names of senders.")
    systems: list[str] | None = strawberry.field(default=None, description="Kinds of system: `splunk`, `sap`, `application`, `infrastructure`.")
    services: list[str] | None = strawberry.field(default=None, description="Services.")
    hosts: list[str] | None = strawberry.field(default=None, description="Hosts.")
    min_severity: Severity | None = strawberry.field(default=None, description="Lowest severity. Events of unknown severity are left out.")
    fingerprints: list[str] | None = strawberry.field(default=None, description="Fingerprints, 16 hexadecimal digits each.")
    trace_id: str | None = strawberry.field(default=None, description="Trace.")


def to_filter(given: EventFilter | None, *, default_last: int = 0) -> pb.Filter:
    """Returns the filter for search. `default_last` (nanoseconds) bounds a filter that names no start; 0: nothing does."""
    if given is None:
        given = EventFilter()
    start, end = resolve_range(given.start, given.end, given.last, default_last=default_last)
    return pb.Filter(
        start=start,
        end=end,
        query=given.query or "",
        sources=given.sources or (),
        systems=given.systems or (),
        services=given.services or (),
        hosts=given.hosts or (),
        min_severity=given.min_severity.value if given.min_severity else 0,
        fingerprints=given.fingerprints or (),
        trace_id=given.trace_id or "",
    )


def resolve_range(start: int | None, end: int | None, last: int | None, *, default_last: int = 0) -> tuple[int, int]:
    """Returns (start, end) in nanoseconds, 0 where the range is open; raises InvalidArgument when it is empty or named twice."""
    if start is not None and last is not None:
        raise InvalidArgument("give start or last, not both")
    if start is not None and end is not None and start >= end:
        raise InvalidArgument("the range ends before it starts")
    if start is None and (last or default_last):
        start = max((end or time_ns()) - (last or default_last), 0)
    return start or 0, end or 0


def parse_event_id(text: str) -> int | None:
    """Returns the number in the id of an event; None when it is not one."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 19 else None


def read_line(line: bytes) -> pb.Event:
    """Returns the event of a canonical line."""
    content = orjson.loads(line)
    attributes = content.pop("attributes", None)
    return pb.Event(
        timestamp=_to_timestamp(content.pop("timestamp")),
        observed_at=_to_timestamp(content.pop("observed_at")),
        attributes_json=orjson.dumps(attributes) if attributes else b"",
        **content,
    )


def _to_timestamp(nanoseconds: int) -> Timestamp:
    seconds, nanos = divmod(nanoseconds, NANOSECONDS)
    return Timestamp(seconds=seconds, nanos=nanos)
