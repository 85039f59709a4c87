"""How good the events of sources are, and why."""

# The names of arguments are those of the API. Strawberry's decorators lose the types of resolvers.
# ruff: noqa: A002
# mypy: disallow-untyped-decorators=False
from __future__ import annotations

from collections.abc import Sequence
from time import time_ns
from typing import Annotated

import strawberry

from elis.ingest.v1 import quality_pb2 as pb
from gateway.context import Info
from gateway.correlate import HOUR, TimeRange
from gateway.events import resolve_range
from gateway.paging import PAGE_SIZE, After, Connection, First, Page, read_page
from gateway.scalars import BigInt, DateTime


@strawberry.type(description="Something about the events of a source that is not as it should be.")
class QualityReason:
    """Shows elis.ingest.v1.QualityReason."""

    kind: str = strawberry.field(
        description="`rejected`, `truncated`, `future_time`, `past_time`, `silent`, `missing_time`, `unparsed`, `clock_ahead`, `drift`, `repaired`, "
        "`late`, `unknown_severity`, `duplicates`, `overflowing` or `nulls`."
    )
    share: float = strawberry.field(description="Share of the events, records, fields or time that it is about, 0 to 1; for `late`, of an hour.")
    weight: float = strawberry.field(description="What the score would lose, of 1, if all were like that.")
    points: float = strawberry.field(description="What it takes from the score.")
    text: str = strawberry.field(description="What it is, and what to do about it.")


@strawberry.type(description="What was counted of a source in an hour of arrival.")
class QualityHour:
    """Shows elis.ingest.v1.QualityHour."""

    hour: DateTime = strawberry.field(description="When the hour began.")
    events: BigInt = strawberry.field(description="Events stored.")
    rejected: BigInt = strawberry.field(description="Records that could not become events.")
    duplicates: BigInt = strawberry.field(description="Records that had been stored before.")
    unparsed: BigInt = strawberry.field(description="Events that the format did not understand.")
    parse_rate: float | None = strawberry.field(description="Share of the events that the format understood; null without events.")
    missing_time: BigInt = strawberry.field(description="Events without a time, which count as of their arrival.")
    future_time: BigInt = strawberry.field(description="Events too far ahead to be believed.")
    past_time: BigInt = strawberry.field(description="Events too old to be believed.")
    ahead: BigInt = strawberry.field(description="Events that are later than their arrival by more than 2 seconds, and believed.")
    unknown_severity: BigInt = strawberry.field(description="Events without a severity.")
    repaired: BigInt = strawberry.field(description="Events with bytes that no encoding explains.")
    overflowing: BigInt = strawberry.field(description="Events with more fields than are kept apart; the rest is in `elis.overflow`.")
    truncated: BigInt = strawberry.field(description="Rejected records that are too large or broken off.")
    mean_lag_ms: float | None = strawberry.field(description="Mean milliseconds between event and arrival; negative when the clock runs ahead.")
    active_minutes: int = strawberry.field(description="Minutes of the hour in which events came.")
    sampled: BigInt = strawberry.field(description="Events whose fields were looked at.")
    score: float | None = strawberry.field(description="Score of the hour alone, from its counts; null without any.")


@strawberry.type(description="A type that values of a field have.")
class FieldType:
    """Shows elis.ingest.v1.FieldType."""

    type: str = strawberry.field(description="`text`, `number`, `boolean`, `object`, `list` or `null`.")
    share: float = strawberry.field(description="Share of the values of the field, 0 to 1.")


@strawberry.type(description="A field of a sample of the events.")
class FieldQuality:
    """Shows elis.ingest.v1.FieldQuality."""

    name: str = strawberry.field(description="Name of the field.")
    types: list[FieldType] = strawberry.field(description="Types of its values, the most frequent first.")
    null_rate: float = strawberry.field(description="Share of the sampled events in which it is null or absent.")
    drifted: bool = strawberry.field(description="Whether its type changed or it vanished in the range.")


@strawberry.type(description="How good the events of a source are over a range of time.")
class DataQualitySummary:
    """Shows elis.ingest.v1.DataQualitySummary."""

    source: str = strawberry.field(description="Name of the sender.")
    score: float | None = strawberry.field(description="0 to 100; null when nothing came and nothing was expected.")
    reasons: list[QualityReason] = strawberry.field(description="Why it is not 100, the costliest first.")
    events: BigInt = strawberry.field(description="Events stored.")
    rejected: BigInt = strawberry.field(description="Records that could not become events.")


@strawberry.type(description="How good the events of a source are over a range of time, with its hours and fields.")
class DataQuality:
    """Shows elis.ingest.v1.DataQuality."""

    source: str = strawberry.field(description="Name of the sender.")
    score: float | None = strawberry.field(description="0 to 100; null when nothing came and nothing was expected.")
    reasons: list[QualityReason] = strawberry.field(description="Why it is not 100, the costliest first.")
    events: BigInt = strawberry.field(description="Events stored.")
    rejected: BigInt = strawberry.field(description="Records that could not become events.")
    hours: list[QualityHour] = strawberry.field(description="The hours with events or records, in order.")
    fields: list[FieldQuality] = strawberry.field(description="The most frequent fields of a sample, at most 300.")


Range = Annotated[TimeRange | None, strawberry.argument(description="The range, at most 31 days, in whole hours; the last 24 hours when left out.")]


@strawberry.type
class QualityQuery:
    """Part of Query."""

    @strawberry.field(graphql_type=DataQuality, description="How good the events of a source are, and why. Needs the scope `sources:read`.")
    async def data_quality(
        self,
        info: Info,
        source: Annotated[str, strawberry.argument(description="Name of the sender.")],
        range: Range = None,
    ) -> pb.DataQuality:
        """Returns the quality of a source."""
        start, end = _read_range(range)
        request = pb.GetDataQualityRequest(source=source, start=start, end=end)
        return (await info.context.services.quality.GetDataQuality(request)).quality

    @strawberry.field(
        graphql_type=Connection[DataQualitySummary], description="How good the events of all sources are, the worst first. Needs the scope `sources:read`."
    )
    async def data_qualities(self, info: Info, range: Range = None, first: First = PAGE_SIZE, after: After = None) -> Page:
        """Returns a page of sources."""
        start, end = _read_range(range)

        async def fetch(size: int, token: str) -> tuple[Sequence[pb.DataQualitySummary], str]:
            response = await info.context.services.quality.ListDataQuality(pb.ListDataQualityRequest(start=start, end=end, page_size=size, page_token=token))
            return response.qualities, response.next_page_token

        return await read_page(fetch, first, after)


def _read_range(given: TimeRange | None) -> tuple[int, int]:
    given = given or TimeRange()
    end = given.end or time_ns()
    start, _ = resolve_range(given.start, end, given.last, default_last=24 * HOUR)
    return start, end
