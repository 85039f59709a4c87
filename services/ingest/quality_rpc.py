"""RPCs that read the quality of the events of sources."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from elis.ingest.v1 import quality_pb2 as pb
from elis.ingest.v1 import quality_pb2_grpc as rpc
from kit.auth import requires
from kit.db import outages_as_unavailable
from kit.errors import InvalidArgument
from kit.mapping import to_proto
from kit.paging import clamp_page_size, decode_token, encode_token
from services.ingest.quality.book import KEPT_DAYS
from services.ingest.quality.measure import Measures
from services.ingest.quality.report import Verdict, judge, mean_lag_ms, parse_rate, share_of_time
from services.ingest.quality.store import FieldQuality, Occurrences, QualityStore

if TYPE_CHECKING:
    from kit.interceptors import RpcContext

LONGEST: Final = timedelta(days=KEPT_DAYS)
MAX_SOURCE: Final = 1_000
UNKNOWN_POSITION: Final = 101.0
"""Where sources without a score are listed."""
_LATEST_NS: Final = 2**62


class QualityServicer(rpc.QualityServiceServicer):
    """Shows how good the events of sources are."""

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self._store = QualityStore(pool)

    @requires("sources:read")
    async def GetDataQuality(self, request: pb.GetDataQualityRequest, _: RpcContext) -> pb.GetDataQualityResponse:
        """One source, with its hours and fields."""
        source = request.source.replace("\x00", "")
        if not 1 <= len(source) <= MAX_SOURCE:
            raise InvalidArgument(f"a source has a name of 1 to {MAX_SOURCE} characters")
        start, end = _read_range(request.start, request.end)
        now = datetime.now(UTC)
        with outages_as_unavailable():
            hours = await self._store.hours(source, _hour_of(start), end)
            found = (await self._store.occurrences(start, end, now, source)).get(source, Occurrences())
            total = _sum(measured for _, measured in hours)
            fields = await self._store.fields(source, _hour_of(start), end, total.sampled, found.fields)
        shown = _show(source, total, _judge(total, found, start, min(end, now)))
        shown["hours"] = [_show_hour(hour, measured) for hour, measured in hours]
        shown["fields"] = [_show_field(each) for each in fields]
        return pb.GetDataQualityResponse(quality=pb.DataQuality(**shown))

    @requires("sources:read")
    async def ListDataQuality(self, request: pb.ListDataQualityRequest, _: RpcContext) -> pb.ListDataQualityResponse:
        """All sources that sent or were silent, the worst first."""
        start, end = _read_range(request.start, request.end)
        size = clamp_page_size(request.page_size)
        after = decode_token(request.page_token, float, str)
        now = datetime.now(UTC)
        with outages_as_unavailable():
            totals = await self._store.totals(_hour_of(start), end)
            found = await self._store.occurrences(start, end, now)
        # Thousands of sources take a while, and senders do not wait for it.
        ranked = await asyncio.to_thread(_rank, totals, found, start, min(end, now), after)
        page = ranked[:size]
        return pb.ListDataQualityResponse(
            qualities=[pb.DataQualitySummary(**_show(source, totals.get(source, Measures()), verdict)) for (_, source), verdict in page],
            next_page_token=encode_token(*page[-1][0]) if len(ranked) > size else "",
        )


def _rank(
    totals: Mapping[str, Measures], found: Mapping[str, Occurrences], start: datetime, end: datetime, after: tuple[Any, ...] | None
) -> list[tuple[tuple[float, str], Verdict]]:
    """Returns the sources behind a position, the worst first, each with its position: score and name."""
    ranked = []
    for source in totals.keys() | found.keys():
        verdict = _judge(totals.get(source, Measures()), found.get(source, Occurrences()), start, end)
        # What has sent nothing but duplicates of before may have no score and comes last.
        position = (UNKNOWN_POSITION if verdict.score is None else round(verdict.score, 6), source)
        if after is None or position > after:
            ranked.append((position, verdict))
    ranked.sort(key=lambda pair: pair[0])
    return ranked


def _read_range(start: int, end: int) -> tuple[datetime, datetime]:
    if not 0 <= start < end <= _LATEST_NS or end - start > LONGEST // timedelta(microseconds=1) * 1_000:
        raise InvalidArgument(f"the range must end after it begins, within {LONGEST.days} days: it goes from {start} to {end} nanoseconds since 1970")
    return datetime.fromtimestamp(start / 1e9, UTC), datetime.fromtimestamp(end / 1e9, UTC)


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _sum(measures: Iterable[Measures]) -> Measures:
    total = Measures()
    for measured in measures:
        total.add(measured)
    return total


def _judge(total: Measures, found: Occurrences, start: datetime, end: datetime) -> Verdict:
    return judge(total, silent=share_of_time(found.silent, start, end), drifted=share_of_time(found.drifted, start, end))


def _show(source: str, total: Measures, verdict: Verdict) -> dict[str, Any]:
    """Returns the fields that a summary and a report have in common."""
    return {
        "source": source,
        "score": verdict.score,
        "reasons": [to_proto(pb.QualityReason, reason) for reason in verdict.reasons],
        "events": total.events,
        "rejected": total.rejected,
    }


def _show_hour(hour: datetime, measured: Measures) -> pb.QualityHour:
    return to_proto(
        pb.QualityHour,
        measured,
        hour=hour,
        parse_rate=parse_rate(measured),
        mean_lag_ms=mean_lag_ms(measured) if measured.timed else None,
        active_minutes=measured.minutes.bit_count(),
        score=judge(measured).score,
    )


def _show_field(field: FieldQuality) -> pb.FieldQuality:
    return to_proto(pb.FieldQuality, field, types=[pb.FieldType(type=kind, share=share) for kind, share in field.types])
