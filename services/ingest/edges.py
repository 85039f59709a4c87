"""Edges between services as they are stored: per minute, caller, callee and kind."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg

BOUNDS_MS = (5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000)
"""Upper bounds of the buckets of durations, in milliseconds; one more bucket has none. They are stored by place: never changed."""
BUCKETS = len(BOUNDS_MS) + 1
_BOUNDS_NS = [bound * 1_000_000 for bound in BOUNDS_MS]
FORGET_BATCH = 10_000

_ADD = """
INSERT INTO ingest.service_edges AS e (minute, caller, callee, kind, calls, errors, duration_ns, buckets)
SELECT minute, caller, callee, kind, calls, errors, duration_ns, buckets::bigint[]
FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[])
    AS t (minute, caller, callee, kind, calls, errors, duration_ns, buckets)
ON CONFLICT (minute, caller, callee, kind) DO UPDATE SET
    calls = e.calls + excluded.calls,
    errors = e.errors + excluded.errors,
    duration_ns = e.duration_ns + excluded.duration_ns,
    buckets = ARRAY(SELECT a + b FROM unnest(e.buckets, excluded.buckets) WITH ORDINALITY AS u (a, b, place) ORDER BY place)
"""
# What a minute's row says may be below zero while the other one of two flushes is on its way.
_LIST = f"""
SELECT caller, callee, kind, sum(calls)::bigint AS calls, sum(errors)::bigint AS errors, sum(duration_ns)::float8 AS duration_ns,
    ARRAY[{", ".join(f"sum(buckets[{place}])::bigint" for place in range(1, BUCKETS + 1))}] AS buckets
FROM ingest.service_edges WHERE minute >= $1 AND minute < $2
GROUP BY caller, callee, kind HAVING sum(calls) > 0 ORDER BY sum(calls) DESC, caller, callee, kind LIMIT $3
"""  # noqa: S608 - numbers of this module
_FORGET = """
DELETE FROM ingest.service_edges WHERE (minute, caller, callee, kind) IN
    (SELECT minute, caller, callee, kind FROM ingest.service_edges WHERE minute < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
"""


@dataclass(slots=True)
class Edge:
    """Calls from one service to another."""

    calls: int = 0
    errors: int = 0
    duration_ns: int = 0
    """Sum over the calls."""
    buckets: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    """Calls by duration: at most each of the bounds, and above the last."""

    def add(self, duration_ns: int, failed: bool, times: int) -> None:
        """Counts a call; `times` is -1 to take one back."""
        self.calls += times
        self.errors += times if failed else 0
        self.duration_ns += times * duration_ns
        self.buckets[bisect_left(_BOUNDS_NS, duration_ns)] += times

    def merge(self, other: Edge) -> None:
        """Adds the calls of another edge."""
        self.calls += other.calls
        self.errors += other.errors
        self.duration_ns += other.duration_ns
        self.buckets = [own + more for own, more in zip(self.buckets, other.buckets, strict=True)]

    def quantile_ms(self, share: float) -> float:
        """Returns the duration that a share of the calls does not exceed, by interpolation in its bucket; at most the last bound."""
        wanted, seen = share * max(sum(self.buckets), 1), 0.0
        for place, bound in enumerate(BOUNDS_MS):
            count = self.buckets[place]
            if count > 0 and seen + count >= wanted:
                below = BOUNDS_MS[place - 1] if place else 0
                return below + (bound - below) * (wanted - seen) / count
            seen += count
        return float(BOUNDS_MS[-1])


async def add_edges(pool: asyncpg.Pool[Any], edges: Mapping[tuple[int, str, str, str], Edge]) -> None:
    """Adds edges, keyed by (minute since 1970, caller, callee, kind), to what is stored."""
    rows = [
        (
            datetime.fromtimestamp(minute * 60, UTC),
            caller,
            callee,
            kind,
            edge.calls,
            edge.errors,
            edge.duration_ns,
            "{" + ",".join(map(str, edge.buckets)) + "}",
        )
        for (minute, caller, callee, kind), edge in sorted(edges.items())  # in one order, so that replicas do not deadlock
    ]
    await pool.execute(_ADD, *map(list, zip(*rows, strict=True)))


async def list_edges(pool: asyncpg.Pool[Any], start: datetime, end: datetime, limit: int) -> Sequence[tuple[str, str, str, Edge]]:
    """Returns (caller, callee, kind, edge) over the minutes that begin in a span of time, the busiest first."""
    rows = await pool.fetch(_LIST, start, end, limit)
    return [(row["caller"], row["callee"], row["kind"], Edge(row["calls"], row["errors"], int(row["duration_ns"]), list(row["buckets"]))) for row in rows]


async def forget_edges(pool: asyncpg.Pool[Any], before: datetime) -> None:
    """Deletes edges of minutes before a time, a bounded number at a time."""
    while True:
        status = await pool.execute(_FORGET, before, FORGET_BATCH)
        if int(status.rpartition(" ")[2]) < FORGET_BATCH:
            return
