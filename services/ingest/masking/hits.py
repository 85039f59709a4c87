"""Counters of what the rules replaced: a metric per rule, and a small table per hour, rule and source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

import asyncpg
from prometheus_client import CollectorRegistry
from prometheus_client import Counter as Metric

from services.ingest.rejections import storable

MAX_PENDING: Final = 10_000
"""Pairs of rule and source between two flushes; beyond it, hits are counted without their source."""
KEPT_DAYS: Final = 31
TOP_SOURCES: Final = 10


class MaskingHits:
    """Counts in memory and flushes to ingest.masking_hits; safe to add to from several threads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._metric = Metric("elis_masking_hits", "Values that a masking rule replaced.", ["rule"], registry=registry)
        self._pending: Counter[tuple[str, str]] = Counter()
        self._lock = Lock()

    def add(self, hits: Mapping[tuple[str, str], int]) -> None:
        """Counts hits by rule and source."""
        with self._lock:
            for (rule, source), count in hits.items():
                key = (rule, source) if len(self._pending) < MAX_PENDING or (rule, source) in self._pending else (rule, "")
                self._pending[key] += count
                self._metric.labels(rule).inc(count)

    async def flush(self, pool: asyncpg.Pool[Any]) -> None:
        """Writes what was counted since the last flush; raises asyncpg's errors and then counts on."""
        with self._lock:
            pending, self._pending = self._pending, Counter()
        if not pending:
            return
        # Sorted, so that two replicas cannot deadlock.
        rows = sorted((rule, storable(source), count) for (rule, source), count in pending.items())
        merged: Counter[tuple[str, str]] = Counter()
        for rule, source, count in rows:
            merged[rule, source] += count
        try:
            await pool.execute(
                """
                INSERT INTO ingest.masking_hits AS h (hour, rule, source, hits)
                SELECT date_trunc('hour', now()), * FROM unnest($1::text[], $2::text[], $3::bigint[])
                ON CONFLICT (hour, rule, source) DO UPDATE SET hits = h.hits + excluded.hits
                """,
                [rule for rule, _ in merged],
                [source for _, source in merged],
                list(merged.values()),
            )
        except BaseException:
            with self._lock:
                self._pending.update(pending)
            raise


@dataclass(frozen=True, slots=True)
class RuleHits:
    """What one rule replaced in the last 24 hours, the current one included."""

    total: int
    by_source: list[tuple[str, int]]
    """The sources with most, at most TOP_SOURCES."""


async def read_hits(pool: asyncpg.Pool[Any]) -> dict[str, RuleHits]:
    """Returns the hits by rule."""
    rows = await pool.fetch(
        """
        SELECT rule, source, hits::bigint, total::bigint FROM (
            SELECT rule, source, sum(hits) AS hits, sum(sum(hits)) OVER (PARTITION BY rule) AS total,
                row_number() OVER (PARTITION BY rule ORDER BY sum(hits) DESC, source) AS place
            FROM ingest.masking_hits WHERE hour > now() - interval '24 hours' GROUP BY rule, source
        ) ranked WHERE place <= $1 ORDER BY rule, place
        """,
        TOP_SOURCES,
    )
    found: dict[str, RuleHits] = {}
    for row in rows:
        found.setdefault(row["rule"], RuleHits(row["total"], [])).by_source.append((row["source"], row["hits"]))
    return found


async def forget_hits(pool: asyncpg.Pool[Any]) -> None:
    """Deletes counts that are older than KEPT_DAYS."""
    await pool.execute("DELETE FROM ingest.masking_hits WHERE hour < now() - make_interval(days => $1)", KEPT_DAYS)
