"""The book of quality: measures per source and hour, kept in memory between flushes and then in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg

from services.ingest.quality.measure import COUNTS, Measures
from services.ingest.rejections import storable

MAX_PENDING: Final = 20_000
"""Pairs of source and hour between two flushes; further sources are not measured until then."""
MAX_FIELD_NAME: Final = 200
KEPT_DAYS: Final = 31
FORGET_BATCH: Final = 10_000

# The names are those of a class, and nobody sends them.
_UPSERT: Final = f"""
INSERT INTO ingest.quality AS q (source, hour, {", ".join(COUNTS)})
SELECT * FROM unnest($1::text[], $2::timestamptz[], {", ".join(f"${number}::bigint[]" for number in range(3, 3 + len(COUNTS)))})
ON CONFLICT (source, hour) DO UPDATE SET {", ".join(f"{name} = q.{name} + excluded.{name}" for name in COUNTS)}
"""  # noqa: S608
_UPSERT_FIELDS: Final = """
INSERT INTO ingest.quality_fields AS q (source, hour, field, type, events)
SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::bigint[])
ON CONFLICT (source, hour, field, type) DO UPDATE SET events = q.events + excluded.events
"""


class QualityBook:
    """Takes down measures after each commit. What a killed process had not flushed is missing: these are statistics, not events."""

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self._pool = pool
        self._pending: dict[tuple[str, datetime], Measures] = {}

    def add(self, measures: Mapping[str, Measures]) -> None:
        """Counts measures of sources in the present hour."""
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        for source, measured in measures.items():
            self._of(source, hour).add(measured)

    def add_duplicates(self, source: str, count: int) -> None:
        """Counts records that had been stored before."""
        self._of(source, datetime.now(UTC).replace(minute=0, second=0, microsecond=0)).duplicates += count

    def add_rejected(self, source: str, count: int) -> None:
        """Counts records that could not become events."""
        self._of(source, datetime.now(UTC).replace(minute=0, second=0, microsecond=0)).rejected += count

    def _of(self, source: str, hour: datetime) -> Measures:
        found = self._pending.get((source, hour))
        if found is None:
            found = Measures()
            if len(self._pending) < MAX_PENDING:
                self._pending[source, hour] = found
        return found

    async def flush(self) -> None:
        """Writes what was counted since the last flush; raises asyncpg's errors and then counts on."""
        pending, self._pending = self._pending, {}
        if not pending:
            return
        merged: dict[tuple[str, datetime], Measures] = {}
        for (source, hour), measured in pending.items():
            merged.setdefault((storable(source), hour), Measures()).add(measured)
        keys = sorted(merged)  # so that two replicas cannot deadlock
        fields = sorted(
            {
                (source, hour, storable(name[:MAX_FIELD_NAME]), kind): count
                for source, hour in keys
                for (name, kind), count in merged[source, hour].types.items()
            }.items()
        )
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                columns = ([getattr(merged[key], name) for key in keys] for name in COUNTS)
                await connection.execute(_UPSERT, [source for source, _ in keys], [hour for _, hour in keys], *columns)
                if fields:
                    await connection.execute(_UPSERT_FIELDS, *map(list, zip(*((*key, count) for key, count in fields), strict=True)))
        except BaseException:
            for (source, hour), measured in pending.items():
                self._of(source, hour).add(measured)
            raise

    async def forget(self) -> None:
        """Deletes hours that are older than what is kept, a bounded number at a time."""
        for table in ("quality", "quality_fields"):
            while True:
                status = await self._pool.execute(
                    f"DELETE FROM ingest.{table} WHERE ctid = ANY(ARRAY("  # noqa: S608
                    f"SELECT ctid FROM ingest.{table} WHERE hour < now() - make_interval(days => {KEPT_DAYS}) LIMIT {FORGET_BATCH}))"
                )
                if int(status.rpartition(" ")[2]) < FORGET_BATCH:
                    break
