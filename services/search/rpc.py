"""RPCs of the search service: messages to questions and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from elis.search.v1 import search_pb2 as pb
from elis.search.v1 import search_pb2_grpc as rpc
from kit.auth import requires
from kit.errors import InvalidArgument, NotFound
from kit.paging import clamp_page_size, decode_token, encode_token
from services.search.engine import Engine, Key
from services.search.feed import Feed
from services.search.fields import FACET_FIELDS, SPLIT_FIELDS, attribute_path
from services.search.language import check_path
from services.search.lines import decode_line, to_event, to_timestamp
from services.search.patterns import find_patterns
from services.search.projection import read_projection
from services.search.selection import Selection, read_filter
from services.search.steps import align, check_interval, close_range, divide, is_open
from services.search.tail import Tails

if TYPE_CHECKING:
    from elis.correlate.v1 import correlate_pb2_grpc as correlate_rpc
    from kit.interceptors import RpcContext

MAX_EVENTS = 1000
MAX_FACETS = 20
SPLIT_VALUES = 10


class SearchServicer(rpc.SearchServiceServicer):
    """Finds events."""

    def __init__(self, engine: Engine, feed: Feed, tails: Tails, templates: correlate_rpc.CorrelateServiceAsyncStub) -> None:
        self._engine = engine
        self._feed = feed
        self._tails = tails
        self._templates = templates

    @requires("events:read")
    async def SearchEvents(self, request: pb.SearchEventsRequest, _: RpcContext) -> pb.SearchEventsResponse:
        """A page of events by (timestamp, event id)."""
        selection = read_filter(request.filter)
        encode = read_projection(request.projection) if request.projection else None
        key = decode_token(request.after, int, int)
        freshness = self._freshness()
        page = self._engine.search(
            selection,
            newest_first=request.order != pb.ORDER_OLDEST_FIRST,
            limit=clamp_page_size(request.first, largest=MAX_EVENTS),
            after=Key(*key) if key else None,
        )
        hits, total = await asyncio.gather(page, self._total(selection, wanted=request.with_total))
        lines = [hit.line for hit in hits.events]
        return pb.SearchEventsResponse(
            rows=encode(lines) if encode else (),
            events=() if encode else [to_event(decode_line(line)) for line in lines],
            cursors=[encode_token(hit.timestamp, hit.event_id) for hit in hits.events],
            has_next_page=hits.more,
            total=total,
            freshness=freshness,
        )

    @requires("events:read")
    async def GetEvent(self, request: pb.GetEventRequest, _: RpcContext) -> pb.GetEventResponse:
        """One event."""
        line = await self._engine.get(request.id)
        if line is None:
            raise NotFound(f"event {request.id} does not exist", id=str(request.id))
        return pb.GetEventResponse(event=to_event(decode_line(line)))

    @requires("events:read")
    async def Histogram(self, request: pb.HistogramRequest, _: RpcContext) -> pb.HistogramResponse:
        """Counts over time."""
        if request.split_by and request.split_by not in SPLIT_FIELDS:
            raise InvalidArgument(f"a histogram can be split by {', '.join(sorted(SPLIT_FIELDS))}, not by {request.split_by!r}")
        check_interval(request.interval)
        freshness = self._freshness()
        selection = await self._close(read_filter(request.filter))
        if selection is None:
            return pb.HistogramResponse(interval=request.interval, freshness=freshness)
        grid = align(selection, request.interval)
        counts = await self._engine.histogram(selection, grid)
        values: Sequence[str] = ()
        split = {}
        if request.split_by:
            top = await self._engine.facets(selection, [request.split_by], SPLIT_VALUES)
            values = [value for value, _ in top[request.split_by].values]
            split = dict(await self._engine.split_histogram(selection, grid, request.split_by, values)) if values else {}
        buckets = [
            pb.HistogramBucket(
                start=to_timestamp(grid.origin + number * grid.width),
                count=counts.get(number, 0),
                split=[pb.FacetValue(value=value, count=split[value][number]) for value in values if split[value].get(number)],
            )
            for number in range(grid.count)
        ]
        return pb.HistogramResponse(buckets=buckets, interval=grid.width, total=sum(counts.values()), freshness=freshness)

    @requires("events:read")
    async def Facets(self, request: pb.FacetsRequest, _: RpcContext) -> pb.FacetsResponse:
        """Top values of several fields at once."""
        fields = list(dict.fromkeys(request.fields))
        _check_facets(fields)
        selection = read_filter(request.filter)
        freshness = self._freshness()
        size = clamp_page_size(request.size, default=10)
        counted, total = await asyncio.gather(self._engine.facets(selection, fields, size), self._engine.count(selection))
        facets = [
            pb.Facet(field=field, values=[pb.FacetValue(value=value, count=count) for value, count in counted[field].values], other=counted[field].other)
            for field in fields
        ]
        return pb.FacetsResponse(facets=facets, total=total, freshness=freshness)

    @requires("events:read")
    async def Patterns(self, request: pb.PatternsRequest, _: RpcContext) -> pb.PatternsResponse:
        """Templates with count, share and sparkline."""
        size, points = clamp_page_size(request.size), clamp_page_size(request.points, default=24)
        freshness = self._freshness()
        selection = await self._close(read_filter(request.filter))
        if selection is None:
            return pb.PatternsResponse(freshness=freshness)
        found, total = await asyncio.gather(
            find_patterns(self._engine, self._templates, selection, divide(selection, points), size), self._engine.count(selection)
        )
        patterns = [
            pb.Pattern(
                template_id=pattern.template_id,
                template=pattern.text,
                count=pattern.count,
                share=pattern.count / max(total, pattern.count),
                sparkline=pattern.sparkline,
                fingerprints=pattern.fingerprints,
                sample_event_id=pattern.newest.event_id if pattern.newest else 0,
            )
            for pattern in found
        ]
        return pb.PatternsResponse(patterns=patterns, total=total, freshness=freshness)

    @requires("events:read")
    async def Tail(self, request: pb.TailRequest, _: RpcContext) -> AsyncIterator[pb.TailResponse]:
        """Events as they arrive."""
        async for response in self._tails.follow(read_filter(request.filter), request.after):
            yield response

    async def _total(self, selection: Selection, *, wanted: bool) -> int | None:
        return await self._engine.count(selection) if wanted else None

    async def _close(self, selection: Selection) -> Selection | None:
        """Gives a selection the ends of its events where it has none of its own; None when there are no events."""
        if not is_open(selection):
            return selection
        extent = await self._engine.extent(selection)
        return close_range(selection, extent) if extent else None

    def _freshness(self) -> pb.Freshness:
        return pb.Freshness(as_of=to_timestamp(self._feed.as_of), lag_seconds=self._feed.lag_seconds)


def _check_facets(fields: Sequence[str]) -> None:
    if not 1 <= len(fields) <= MAX_FACETS:
        raise InvalidArgument(f"give 1 to {MAX_FACETS} fields, not {len(fields)}")
    for field in fields:
        path = attribute_path(field)
        if path is not None:
            check_path(path)
        elif field not in FACET_FIELDS:
            raise InvalidArgument(f"there are no facets of {field[:200]!r}; choose {', '.join(sorted(FACET_FIELDS))} or attributes.PATH")
