"""Statistics: counts over time and by group, from the roll-ups only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import ceil
from typing import Any

import asyncpg

from elis.correlate.v1 import correlate_pb2 as pb
from kit.errors import InvalidArgument

MINUTE_NS = 60_000_000_000
ERROR = 17
"""Severity number from which an event is an error."""
MAX_POINTS = 1500
MAX_GROUPS = 100
_AUTOMATIC_POINTS = 60
_FIELDS = {
    "": "''",
    "system": "source.system",
    "source": "source.name",
    "service": "service.name",
    "host": "host.name",
}


async def get_statistics(pool: asyncpg.Pool, request: pb.GetStatisticsRequest) -> pb.GetStatisticsResponse:
    """Returns the counts of a range, whole and by group (the largest MAX_GROUPS); raises InvalidArgument for a bad range.

    Roll-ups know whole minutes: the range is widened to them.
    """
    if request.group_by not in _FIELDS:
        raise InvalidArgument(f"statistics cannot be grouped by {request.group_by!r}; choose system, source, service or host", group_by=request.group_by)
    if not 0 <= request.start < request.end:
        raise InvalidArgument("a range needs a start that is not negative and an end after it", start=request.start, end=request.end)
    first, last = request.start // MINUTE_NS, ceil(request.end / MINUTE_NS)
    step = request.step_minutes or max(1, ceil((last - first) / _AUTOMATIC_POINTS))
    if step < 0 or (last - first) / step > MAX_POINTS:
        raise InvalidArgument(f"a step of {step} minutes does not divide the range into 1 to {MAX_POINTS} points", step_minutes=step)
    rows = await pool.fetch(
        f"""SELECT {_FIELDS[request.group_by]} AS key, (minute - $1) / $3 AS point,
                   sum(events)::bigint AS events, coalesce(sum(events) FILTER (WHERE severity_number >= {ERROR}), 0)::bigint AS errors
            FROM correlate.roll_up
            JOIN correlate.series ON series.id = series_id
            JOIN correlate.source ON source.id = source_id
            JOIN correlate.service ON service.id = service_id
            JOIN correlate.host ON host.id = host_id
            WHERE minute >= $1 AND minute < $2
            GROUP BY 1, 2""",  # noqa: S608  the field is one of five literals
        first,
        last,
        step,
    )
    by_key: dict[str, dict[int, tuple[int, int]]] = defaultdict(dict)
    whole: dict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for row in rows:
        by_key[row["key"]][row["point"]] = (row["events"], row["errors"])
        events, errors = whole[row["point"]]
        whole[row["point"]] = (events + row["events"], errors + row["errors"])
    starts = [_to_time(first + point * step) for point in range(ceil((last - first) / step))]
    seconds = (request.end - request.start) / 1e9
    groups = [_group(key, points, starts, seconds) for key, points in by_key.items()] if request.group_by else []
    groups.sort(key=lambda group: (-group.events, group.key))
    return pb.GetStatisticsResponse(total=_group("", whole, starts, seconds), groups=groups[:MAX_GROUPS])


def _group(key: str, points: Mapping[int, tuple[int, int]], starts: Sequence[datetime], seconds: float) -> pb.StatisticsGroup:
    events = sum(counted for counted, _ in points.values())
    errors = sum(counted for _, counted in points.values())
    none = (0, 0)
    return pb.StatisticsGroup(
        key=key,
        events=events,
        errors=errors,
        error_rate=errors / events if events else 0.0,
        events_per_second=events / seconds,
        points=[_point(start, *points.get(number, none)) for number, start in enumerate(starts)],
    )


def _point(start: Any, events: int, errors: int) -> pb.StatisticsPoint:
    return pb.StatisticsPoint(start=start, events=events, errors=errors)


def _to_time(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)
