"""The book of quality: measures per source and hour, kept in memory between flushes and then in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg

from services.ingest.quality.measure import COUNTS, MAX_FIELDS, Measures
from services.ingest.rejections import RejectReason, storable

MAX_PENDING: Final = 20_000
"""Pairs of source and hour between two flushes; further sources are not measured until then."""
MAX_FIELD_NAME: Final = 200
MAX_HOURLY_FIELDS: Final = 100_000
"""Pairs of field and type of all sources that a process writes in an hour; what is new after that is not told apart."""
KEPT_DAYS: Final = 31
FORGET_BATCH: Final = 10_000

_TRUNCATING: Final = frozenset({RejectReason.RECORD_TOO_LARGE, RejectReason.FRAME_BROKEN})

# The names are those of a class, and nobody sends them.
_UPSERT: Final = f"""
INSERT INTO ingest.quality AS q (source, hour, minutes, {", ".join(COUNTS)})
SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::bigint[], {", ".join(f"${number}::bigint[]" for number in range(4, 4 + len(COUNTS)))})
ON CONFLICT (source, hour) DO UPDATE SET minutes = q.minutes | excluded.minutes,
    {", ".join(f"{name} = q.{name} + excluded.{name}" for name in COUNTS)}
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
        self._written: dict[str, set[tuple[str, str]]] = {}
        self._written_hour: datetime | None = None
        self._written_count = 0

    def add(self, measures: Mapping[str, Measures]) -> None:
        """Counts measures of sources in the present hour."""
        now = datetime.now(UTC)
        hour = _hour_of(now)
        for source, measured in measures.items():
            found = self._of(source, hour)
            found.add(measured)
            if measured.events:
                found.minutes |= 1 << now.minute

    def add_duplicates(self, source: str, count: int) -> None:
        """Counts records that had been stored before."""
        self._of(source, _hour_of(datetime.now(UTC))).duplicates += count

    def add_rejected(self, source: str, count: int, reason: RejectReason) -> None:
        """Counts records that could not become events, all for the same reason."""
        found = self._of(source, _hour_of(datetime.now(UTC)))
        found.rejected += count
        if reason in _TRUNCATING:
            found.truncated += count

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
                for (name, kind), count in self._bound_types(source, hour, merged[source, hour]).items()
            }.items()
        )
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                minutes = [merged[key].minutes for key in keys]
                columns = ([getattr(merged[key], name) for key in keys] for name in COUNTS)
                await connection.execute(_UPSERT, [source for source, _ in keys], [hour for _, hour in keys], minutes, *columns)
                if fields:
                    await connection.execute(_UPSERT_FIELDS, *map(list, zip(*((*key, count) for key, count in fields), strict=True)))
        except BaseException:
            for (source, hour), measured in pending.items():
                self._of(source, hour).add(measured)
            raise

    def _bound_types(self, source: str, hour: datetime, measured: Measures) -> dict[tuple[str, str], int]:
        """Returns the types of fields without those that are too many: a source that invents names must not fill the table."""
        if self._written_hour is None or hour > self._written_hour:
            self._written, self._written_hour, self._written_count = {}, hour, 0
        written = self._written.setdefault(source, set())
        bounded: dict[tuple[str, str], int] = {}
        for key, count in measured.types.items():
            if key not in written:
                if len(written) >= MAX_FIELDS or self._written_count >= MAX_HOURLY_FIELDS:
                    continue
                written.add(key)
                self._written_count += 1
            bounded[key] = count
        return bounded

    async def forget(self) -> None:
        """Deletes hours that are older than what is kept, a bounded number at a time."""
        for table, column in (("quality", "hour"), ("quality_fields", "hour"), ("quality_occurrences", "coalesce(ended_at, told_at)")):
            while True:
                status = await self._pool.execute(
                    f"DELETE FROM ingest.{table} WHERE ctid = ANY(ARRAY("  # noqa: S608
                    f"SELECT ctid FROM ingest.{table} WHERE {column} < now() - make_interval(days => {KEPT_DAYS}) LIMIT {FORGET_BATCH}))"
                )
                if int(status.rpartition(" ")[2]) < FORGET_BATCH:
                    break


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
