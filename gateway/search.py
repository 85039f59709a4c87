"""Finding events: pages, single events, histogram, facets, patterns, live tail."""

# The names of arguments are those of the API. Strawberry's decorators lose the types of resolvers.
# ruff: noqa: A002
# mypy: disallow-untyped-decorators=False
from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, cast

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp
from graphql import GraphQLResolveInfo

from elis.ingest.v1 import ingest_pb2
from elis.search.v1 import search_pb2 as pb
from gateway.context import Context, Info
from gateway.events import EventFilter, LogEvent, parse_event_id, read_line, to_filter
from gateway.paging import After, Edge, PageInfo, Row, check_first, describe_page
from gateway.projection import Splice, plan_projection, selects
from gateway.scalars import BigInt, DateTime, Duration, described
from kit.errors import DeadlineExceeded, InvalidArgument, NotFound, Unavailable

MAX_EVENTS = 1_000
MAX_FACETS = 20
MAX_VALUES = 100
RECENT_EVENTS = 200
"""Events that ingest hands out when search is away."""
SEARCH_SECONDS = 3.0
"""How long search may take before the newest events are read from the store, while there is still time to do so."""
DAY = 86_400_000_000_000

FilterArgument = Annotated[EventFilter | None, strawberry.argument(description="Which events; all when left out.")]
FirstEvents = Annotated[int, strawberry.argument(description="How many events to return, 1 to 1000.")]


@strawberry.enum(description="Order of events by time.")
class EventOrder(Enum):
    """elis.search.v1.Order."""

    NEWEST_FIRST = described(pb.ORDER_NEWEST_FIRST, "From now into the past.")
    OLDEST_FIRST = described(pb.ORDER_OLDEST_FIRST, "As it happened.")


@strawberry.enum(description="A field whose values split the bars of a histogram.")
class SplitField(Enum):
    """Fields that search can split by."""

    SYSTEM = described("system", "Kind of system.")
    SOURCE = described("source", "Name of the sender.")
    SERVICE = described("service", "Service.")
    HOST = described("host", "Host.")
    SEVERITY_TEXT = described("severity_text", "Severity in the sender's words.")


@strawberry.type
class Fresh:
    """The fields of elis.search.v1.Freshness, which several types have."""

    as_of: DateTime | None = strawberry.field(description="Everything acknowledged before this moment is in the answer; null when that is not known.")
    lag_seconds: float = strawberry.field(description="How far the index is behind what has been acknowledged, in seconds.")


@strawberry.type(description="A page of events.")
class EventConnection(Fresh):
    """Shows EventPage."""

    edges: list[Edge[LogEvent]] = strawberry.field(description="The events of the page.")
    page_info: PageInfo = strawberry.field(description="Where the page begins and ends.")
    total_count: BigInt | None = strawberry.field(description="How many events match; counted only when asked for. Null in a degraded answer.")
    degraded: bool = strawberry.field(description="Whether search is away and these are only the newest events, read from the store.")


@strawberry.type(description="A value of a field and how many events have it.")
class FacetValue:
    """Shows elis.search.v1.FacetValue."""

    value: str = strawberry.field(description="The value; empty for events without one.")
    count: BigInt = strawberry.field(description="How many events have it.")


@strawberry.type(description="One bar of a histogram.")
class HistogramBucket:
    """Shows elis.search.v1.HistogramBucket."""

    start: DateTime = strawberry.field(description="Where the bar begins; it ends where the next one begins.")
    count: BigInt = strawberry.field(description="How many events fall into it.")
    split: list[FacetValue] = strawberry.field(description="The count by value of the field given as `splitBy`.")


@strawberry.type(description="Counts over time.")
class Histogram(Fresh):
    """Shows an Answer on elis.search.v1.HistogramResponse."""

    buckets: list[HistogramBucket] = strawberry.field(description="The bars in order of time.")
    interval: Duration = strawberry.field(description="Width of a bar.")
    total: BigInt = strawberry.field(description="How many events match.")


@strawberry.type(description="The most frequent values of one field.")
class Facet:
    """Shows elis.search.v1.Facet."""

    field: str = strawberry.field(description="The field, as it was asked for.")
    values: list[FacetValue] = strawberry.field(description="The values, most frequent first.")
    other: BigInt = strawberry.field(description="Events whose value is not among these.")


@strawberry.type(description="The most frequent values of several fields.")
class Facets(Fresh):
    """Shows an Answer on elis.search.v1.FacetsResponse."""

    facets: list[Facet] = strawberry.field(description="One entry per field, in the order asked for.")
    total: BigInt = strawberry.field(description="How many events match.")


def _read_sample(parent: strawberry.Parent[pb.Pattern]) -> strawberry.ID | None:
    return strawberry.ID(str(parent.sample_event_id)) if parent.sample_event_id else None


@strawberry.type(description="Events whose text has the same constant part.")
class Pattern:
    """Shows elis.search.v1.Pattern."""

    template_id: strawberry.ID | None = strawberry.field(description="The template; null while it is not known yet.")
    template: str = strawberry.field(description="The constant part, with `<*>` where values differ.")
    count: BigInt = strawberry.field(description="How many events have it.")
    share: float = strawberry.field(description="Share of all matching events, 0 to 1.")
    sparkline: list[BigInt] = strawberry.field(description="Counts over the range in equal steps.")
    fingerprints: list[str] = strawberry.field(description="Fingerprints of the pattern, for a filter.")
    sample_event_id: strawberry.ID | None = strawberry.field(resolver=_read_sample, description="Number of the newest event of the pattern.")


@strawberry.type(description="The patterns of the matching events.")
class Patterns(Fresh):
    """Shows an Answer on elis.search.v1.PatternsResponse."""

    patterns: list[Pattern] = strawberry.field(description="The patterns, most frequent first.")
    total: BigInt = strawberry.field(description="How many events match.")


@strawberry.type(description="New events.")
class TailEvents:
    """Shows a batch of elis.search.v1.TailEvents."""

    events: list[LogEvent] = strawberry.field(description="The events, in the order in which they were stored.")
    cursor: str = strawberry.field(description="Position after the last of them, for `after`.")


@strawberry.type(description="Events that were left out because they came faster than they were read.")
class Gap:
    """Shows elis.search.v1.TailResponse.Gap."""

    dropped: BigInt = strawberry.field(description="How many events were left out.")
    resume_cursor: str = strawberry.field(description="Position before the first of them: `tail(after:)` gets them.")


@strawberry.type(description="Nothing new: the subscription is alive.")
class Heartbeat:
    """A sign of life."""

    at: DateTime = strawberry.field(description="Everything stored before this moment has been sent.")


TailItem = Annotated[TailEvents | Gap | Heartbeat, strawberry.union("TailItem", description="What `tail` sends.")]


@dataclass(frozen=True, slots=True)
class EventPage:
    """What an EventConnection shows."""

    edges: Sequence[Row] | Splice
    page_info: PageInfo
    total_count: int | None
    as_of: Timestamp | None
    lag_seconds: float
    degraded: bool = False


@strawberry.type
class SearchQuery:
    """Part of Query."""

    @strawberry.field(graphql_type=EventConnection, description="Events by time. Needs the scope `events:read`.")
    async def events(
        self,
        info: Info,
        filter: FilterArgument = None,
        first: FirstEvents = 50,
        after: After = None,
        order: Annotated[EventOrder, strawberry.argument(description="Order by time.")] = EventOrder.NEWEST_FIRST,
    ) -> EventPage:
        """Returns a page of events; the newest ones from the store when search is away."""
        check_first(first, MAX_EVENTS)
        wanted = to_filter(filter)
        raw: GraphQLResolveInfo[Any] = info._raw_info
        projection = plan_projection(raw)
        request = pb.SearchEventsRequest(
            filter=wanted,
            order=order.value,
            first=first,
            after=after or "",
            projection=projection.fields if projection else (),
            with_total=selects(raw, "EventConnection", "totalCount"),
        )
        replaceable = not wanted.query and not after and order is EventOrder.NEWEST_FIRST
        try:
            response = await info.context.services.search.SearchEvents(request, timeout=SEARCH_SECONDS if replaceable else None)
        except (Unavailable, DeadlineExceeded):
            if not replaceable:
                raise
            return await _read_recent(info.context, wanted, first)
        cursors = response.cursors
        edges: Sequence[Row] | Splice
        if projection is not None and len(response.rows) == len(cursors):
            edges = projection.splice(response.rows, cursors)
        else:
            edges = [Row(cursor, event) for cursor, event in zip(cursors, response.events, strict=True)]
        info.context.metrics.event_rows.labels("spliced" if isinstance(edges, Splice) else "typed").inc(len(cursors))
        return EventPage(
            edges,
            describe_page(cursors, has_next=response.has_next_page, has_previous=after is not None),
            response.total if response.HasField("total") else None,
            response.freshness.as_of if response.freshness.HasField("as_of") else None,
            response.freshness.lag_seconds,
        )

    @strawberry.field(graphql_type=LogEvent | None, description="One event; null when there is none of that number. Needs the scope `events:read`.")
    async def event(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The event's number.")],
    ) -> pb.Event | None:
        """Returns an event from the store, so that it is found before search has it."""
        number = parse_event_id(id)
        if number is None:
            raise InvalidArgument(f"{id!r:.40} is not the number of an event")
        return await find_event(info.context, number)

    @strawberry.field(graphql_type=Histogram, description="Counts over time; of the last day unless the filter says otherwise. Needs the scope `events:read`.")
    async def histogram(
        self,
        info: Info,
        filter: FilterArgument = None,
        interval: Annotated[Duration | None, strawberry.argument(description="Width of a bar, such as `1m`; chosen for about 60 bars when left out.")] = None,
        split_by: Annotated[SplitField | None, strawberry.argument(description="Field whose values split each bar.")] = None,
    ) -> FreshAnswer:
        """Returns the bars."""
        request = pb.HistogramRequest(filter=to_filter(filter, default_last=DAY), interval=interval or 0, split_by=split_by.value if split_by else "")
        return FreshAnswer(await info.context.services.search.Histogram(request))

    @strawberry.field(
        graphql_type=Facets,
        description="The most frequent values of several fields; of the last day unless the filter says otherwise. Needs the scope `events:read`.",
    )
    async def facets(
        self,
        info: Info,
        fields: Annotated[
            list[str],
            strawberry.argument(
                description="Up to 20 of `system`, `source`, `environment`, `service`, `host`, `severityText`, `fingerprint`, `attributes.<path>`."
            ),
        ],
        filter: FilterArgument = None,
        size: Annotated[int, strawberry.argument(description="Values per field, 1 to 100.")] = 10,
    ) -> FreshAnswer:
        """Returns the values."""
        if not 1 <= len(fields) <= MAX_FACETS:
            raise InvalidArgument(f"facets needs 1 to {MAX_FACETS} fields, not {len(fields)}")
        names = {"severity_text" if field == "severityText" else field: field for field in fields}
        request = pb.FacetsRequest(filter=to_filter(filter, default_last=DAY), fields=list(names), size=check_first(size, MAX_VALUES))
        response = await info.context.services.search.Facets(request)
        for facet in response.facets:
            facet.field = names.get(facet.field, facet.field)
        return FreshAnswer(response)

    @strawberry.field(
        graphql_type=Patterns,
        description="What the matching events have in common, most frequent first; of the last day unless the filter says otherwise. "
        "Needs the scope `events:read`.",
    )
    async def patterns(
        self,
        info: Info,
        filter: FilterArgument = None,
        size: Annotated[int, strawberry.argument(description="How many patterns to return, 1 to 100.")] = 20,
        points: Annotated[int, strawberry.argument(description="Points of a sparkline, 1 to 100.")] = 24,
    ) -> FreshAnswer:
        """Returns the patterns."""
        request = pb.PatternsRequest(
            filter=to_filter(filter, default_last=DAY),
            size=check_first(size, MAX_VALUES),
            points=check_first(points, MAX_VALUES),
        )
        return FreshAnswer(await info.context.services.search.Patterns(request))


@strawberry.type
class SearchSubscription:
    """Part of Subscription."""

    @strawberry.subscription(
        description="Events as they are stored. Answers with a heartbeat when nothing is new. Needs the scope `events:read`.",
    )
    async def tail(
        self,
        info: Info,
        filter: FilterArgument = None,
        after: Annotated[str | None, strawberry.argument(description="Cursor to go on from; from now on when left out.")] = None,
    ) -> AsyncIterator[TailItem]:
        """Yields batches of events, gaps and heartbeats."""
        request = pb.TailRequest(filter=to_filter(filter), after=after or "")
        call = info.context.services.search.Tail(request)
        try:
            async for response in call:
                kind = response.WhichOneof("item")
                if kind == "events":
                    yield TailEvents(events=cast(list[LogEvent], list(response.events.events)), cursor=response.events.cursor)
                elif kind == "gap":
                    yield Gap(dropped=BigInt(response.gap.dropped), resume_cursor=response.gap.resume_cursor)
                elif kind == "heartbeat":
                    yield Heartbeat(at=DateTime(response.heartbeat.ToNanoseconds()))
        finally:
            # A client that leaves before the first answer would leave the call behind.
            call.cancel()


class FreshAnswer:
    """A response of search with its freshness on the same level as its content."""

    def __init__(self, response: pb.HistogramResponse | pb.FacetsResponse | pb.PatternsResponse) -> None:
        self._response = response
        self.as_of = response.freshness.as_of if response.freshness.HasField("as_of") else None
        self.lag_seconds = response.freshness.lag_seconds

    def __getattr__(self, name: str) -> object:
        return getattr(self._response, name)


async def find_event(context: Context, number: int) -> pb.Event | None:
    """Returns an event by its number: from the store, or from search when the store is away."""
    try:
        response = await context.services.ingest.GetEvents(ingest_pb2.GetEventsRequest(ids=[number]))
    except Unavailable:
        try:
            return (await context.services.search.GetEvent(pb.GetEventRequest(id=number))).event
        except NotFound:
            return None
    return read_line(response.lines[0]) if response.lines else None


async def _read_recent(context: Context, wanted: pb.Filter, first: int) -> EventPage:
    request = ingest_pb2.RecentEventsRequest(
        limit=RECENT_EVENTS, source=wanted.sources[0] if len(wanted.sources) == 1 else "", min_severity=wanted.min_severity
    )
    response = await context.services.ingest.RecentEvents(request)
    matches = compile_filter(wanted)
    events = [event for event in map(read_line, response.lines) if matches(event)][:first]
    context.metrics.event_rows.labels("recent").inc(len(events))
    now = Timestamp()
    now.GetCurrentTime()
    # Without search there is no position to go on from.
    return EventPage([Row("", event) for event in events], describe_page((), has_next=False, has_previous=False), None, now, 0.0, degraded=True)


def compile_filter(wanted: pb.Filter) -> Callable[[pb.Event], bool]:
    """Returns a test of events against every condition of a filter but its query."""
    chosen = [
        (name, frozenset(values))
        for name, values in (
            ("source", wanted.sources),
            ("system", wanted.systems),
            ("service", wanted.services),
            ("host", wanted.hosts),
            ("fingerprint", wanted.fingerprints),
            ("trace_id", [wanted.trace_id] if wanted.trace_id else []),
        )
        if values
    ]

    def matches(event: pb.Event) -> bool:
        moment = event.timestamp.ToNanoseconds()
        return (
            moment >= wanted.start
            and (not wanted.end or moment < wanted.end)
            and event.severity_number >= wanted.min_severity
            and all(getattr(event, name) in values for name, values in chosen)
        )

    return matches
