"""Events coming in through the API, and the sources they come from."""

# The names of arguments are those of the API. Strawberry's decorators lose the types of resolvers.
# ruff: noqa: A002
# mypy: disallow-untyped-decorators=False
from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import orjson
import strawberry

from elis.ingest.v1 import ingest_pb2 as pb
from gateway.context import Info
from gateway.events import Severity
from gateway.paging import PAGE_SIZE, After, Connection, First, Page, read_page
from gateway.scalars import JSON, BigInt, DateTime
from kit.auth import principal
from kit.errors import InvalidArgument

MAX_EVENTS = 10_000


@strawberry.type(description="A sender of events.")
class Source:
    """Shows elis.ingest.v1.Source."""

    name: str = strawberry.field(description="Name of the sender.")
    system: str = strawberry.field(description="Kind of system: `splunk`, `sap`, `application` or `infrastructure`.")
    environment: str | None = strawberry.field(description="Environment, such as `production`.")
    format: str | None = strawberry.field(description="Log format that its text is parsed with.")
    detected_by: str | None = strawberry.field(description="How the format was chosen: `detected` or `declared`.")
    confidence: float = strawberry.field(description="Share of sampled lines that the format understood, 0 to 1.")
    events: BigInt = strawberry.field(description="Events stored.")
    rejected: BigInt = strawberry.field(description="Records rejected.")
    first_seen_at: DateTime | None = strawberry.field(description="When its first event came in.")
    last_seen_at: DateTime | None = strawberry.field(description="When its last event came in.")
    time_zone: str = strawberry.field(description="Zone in which stamps without a zone are read, by its IANA name.")
    retention_days: int | None = strawberry.field(description="Days that its events are kept; null: as many as the installation says.")


@strawberry.input(description="One event to store.")
class EventInput:
    """Becomes elis.ingest.v1.Record."""

    body: str = strawberry.field(description="The text of the event.")
    timestamp: DateTime | None = strawberry.field(default=None, description="When it happened; read from the body, or now, when left out.")
    severity: Severity | None = strawberry.field(default=None, description="Severity; read from the body when left out.")
    severity_text: str | None = strawberry.field(default=None, description="Severity in the sender's words.")
    host: str | None = strawberry.field(default=None, description="Machine that it happened on.")
    service: str | None = strawberry.field(default=None, description="Service that it is about.")
    attributes: JSON | None = strawberry.field(default=None, description="Structured fields: a JSON object.")
    trace_id: str | None = strawberry.field(default=None, description="Trace, 32 hexadecimal digits.")
    span_id: str | None = strawberry.field(default=None, description="Span, 16 hexadecimal digits.")


@strawberry.type(description="What became of the events sent.")
class IngestPayload:
    """Shows elis.ingest.v1.IngestEventsResponse."""

    accepted: int = strawberry.field(description="Events that are stored now and will not be lost.")
    duplicates: int = strawberry.field(description="Events of a request that had been stored before.")
    rejected: int = strawberry.field(description="Records that could not become events; see `rejectedEvents`.")


@strawberry.type
class IngestQuery:
    """Part of Query."""

    @strawberry.field(graphql_type=Connection[Source], description="Senders by name. Needs the scope `sources:read`.")
    async def sources(self, info: Info, first: First = PAGE_SIZE, after: After = None) -> Page:
        """Returns a page of sources."""

        async def fetch(size: int, token: str) -> tuple[Sequence[pb.Source], str]:
            response = await info.context.services.ingest.ListSources(pb.ListSourcesRequest(page_size=size, page_token=token))
            return response.sources, response.next_page_token

        return await read_page(fetch, first, after)


@strawberry.type
class IngestMutation:
    """Part of Mutation."""

    @strawberry.mutation(
        graphql_type=IngestPayload,
        description="Stores events. The answer comes after they are safe; sending the same request again adds nothing. Needs the scope `events:write`.",
    )
    async def ingest(
        self,
        info: Info,
        source: Annotated[str, strawberry.argument(description="Name of the sender.")],
        events: Annotated[list[EventInput], strawberry.argument(description="Up to 10,000 events.")],
        system: Annotated[
            str | None, strawberry.argument(description="Kind of system: `splunk`, `sap`, `application`, `infrastructure`. Kept as it is when left out.")
        ] = None,
        environment: Annotated[str | None, strawberry.argument(description="Environment, such as `production`.")] = None,
        format: Annotated[str | None, strawberry.argument(description="Log format of the bodies; detected when left out.")] = None,
        idempotency_key: Annotated[
            str | None, strawberry.argument(description="Makes a resend of the same request recognisable; without it the events themselves do.")
        ] = None,
    ) -> pb.IngestEventsResponse:
        """Stores events."""
        await info.context.rates.spend("ingest", principal().subject)
        if not 1 <= len(events) <= MAX_EVENTS:
            raise InvalidArgument(f"ingest takes 1 to {MAX_EVENTS} events, not {len(events)}")
        request = pb.IngestEventsRequest(
            source=source,
            system=system or "",
            environment=environment or "",
            records=[_to_record(number, event) for number, event in enumerate(events)],
            format=format or "",
            idempotency_key=idempotency_key or "",
            client_address=info.context.address,
        )
        return await info.context.services.ingest.IngestEvents(request)


def _to_record(number: int, event: EventInput) -> pb.Record:
    attributes = b""
    if event.attributes is not None:
        if not isinstance(event.attributes, dict):
            raise InvalidArgument(f"the attributes of event {number} are not a JSON object")
        try:
            attributes = orjson.dumps(event.attributes)
        except TypeError as error:
            raise InvalidArgument(f"the attributes of event {number} cannot be stored: {error}") from None
    return pb.Record(
        time_unix_nano=event.timestamp or 0,
        body=event.body,
        severity_number=event.severity.value if event.severity else 0,
        severity_text=event.severity_text or "",
        host=event.host or "",
        service=event.service or "",
        attributes_json=attributes,
        trace_id=event.trace_id or "",
        span_id=event.span_id or "",
    )
