"""Reads the measures of sources, their fields, and what the watch over quality has found."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import asyncpg

from services.ingest.quality.measure import COUNTS, MAX_FIELDS, Measures

OWN_SOURCE: Final = "elis"
"""Source of the events that ELIS itself tells; not judged."""
SILENT: Final = "silent"
"""Kind of the occurrence that a source is silent; every other kind is a drift."""
MAX_SOURCES: Final = 10_000
"""Sources that are compared: those with the most events."""
MAX_OCCURRENCES: Final = 20_000

# The names are those of a class, and nobody sends them.
_HOURS: Final = f"SELECT hour, minutes, {', '.join(COUNTS)} FROM ingest.quality WHERE source = $1 AND hour >= $2 AND hour < $3 ORDER BY hour"  # noqa: S608
_TOTALS: Final = f"""
SELECT source, {", ".join(f"sum({name})::bigint AS {name}" for name in COUNTS)} FROM ingest.quality
WHERE hour >= $1 AND hour < $2 AND source <> $3 GROUP BY source ORDER BY sum(events) DESC, source LIMIT $4
"""  # noqa: S608
_FIELDS: Final = """
SELECT field, type, sum(events)::bigint AS events, sum(sum(events)) OVER (PARTITION BY field) AS total FROM ingest.quality_fields
WHERE source = $1 AND hour >= $2 AND hour < $3 GROUP BY field, type ORDER BY total DESC, field, events DESC, type LIMIT $4
"""
_OCCURRENCES: Final = """
SELECT source, kind, field, since, least(ended_at, $4) AS until FROM ingest.quality_occurrences
WHERE ($1 = '' OR source = $1) AND since < $3 AND (ended_at IS NULL OR ended_at > $2) ORDER BY since DESC LIMIT $5
"""


@dataclass(frozen=True, slots=True)
class FieldQuality:
    """A field of the sampled events."""

    name: str
    types: Sequence[tuple[str, float]]
    """Types with their shares of its values, the most frequent first."""
    null_rate: float
    """Share of the sampled events in which it is null or absent."""
    drifted: bool
    """Whether it had another type than before, or was gone."""


@dataclass(slots=True)
class Occurrences:
    """What the watch found of a source: when it was silent, when something had drifted, and which fields."""

    silent: list[tuple[datetime, datetime]] = field(default_factory=list)
    drifted: list[tuple[datetime, datetime]] = field(default_factory=list)
    fields: set[str] = field(default_factory=set)


class QualityStore:
    """Reads what all replicas have counted, seconds late. Raises asyncpg's errors."""

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self._pool = pool

    async def hours(self, source: str, start: datetime, end: datetime) -> list[tuple[datetime, Measures]]:
        """Returns the hours that begin in a span of time and have events or records, in order."""
        rows = await self._pool.fetch(_HOURS, source, start, end)
        return [(row["hour"], Measures(minutes=row["minutes"], **{name: row[name] for name in COUNTS})) for row in rows]

    async def totals(self, start: datetime, end: datetime) -> dict[str, Measures]:
        """Returns the sums of the hours that begin in a span of time, by source."""
        rows = await self._pool.fetch(_TOTALS, start, end, OWN_SOURCE, MAX_SOURCES)
        # Thousands of sources take a while, and senders do not wait for it.
        return await asyncio.to_thread(lambda: {row["source"]: Measures(**{name: row[name] for name in COUNTS}) for row in rows})

    async def fields(self, source: str, start: datetime, end: datetime, sampled: int, drifted: set[str]) -> list[FieldQuality]:
        """Returns the most frequent fields; `sampled` is how many events were looked at."""
        values: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for row in await self._pool.fetch(_FIELDS, source, start, end, MAX_FIELDS):
            values[row["field"]][row["type"]] = row["events"]
        found = []
        for name, types in values.items():
            total = sum(types.values())
            present = min(total - types.get("null", 0), sampled)
            shares = [(kind, count / total) for kind, count in types.items()]
            found.append(FieldQuality(name, shares, 1.0 - present / sampled if sampled else 0.0, name in drifted))
        return found

    async def occurrences(self, start: datetime, end: datetime, now: datetime, source: str = "") -> dict[str, Occurrences]:
        """Returns what was found in a span of time, of one source or of all; what lasts has lasted until now."""
        found: defaultdict[str, Occurrences] = defaultdict(Occurrences)
        for row in await self._pool.fetch(_OCCURRENCES, source, start, end, now, MAX_OCCURRENCES):
            of_source = found[row["source"]]
            span = (row["since"], row["until"])
            (of_source.silent if row["kind"] == SILENT else of_source.drifted).append(span)
            if row["field"]:
                of_source.fields.add(row["field"])
        return found
