"""Names to small integers: sources, services, hosts, fingerprints, and the series that they form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg

MAX_NAME = 255
"""Characters of a name that are kept: longer ones do not fit the unique index."""
MAX_TEXT = 4096
"""Characters of a template that are kept."""
_CACHE_SIZE = 200_000

SeriesKey = tuple[int, int, int, int, int]
"""Ids of source, service and host, severity number, id of the fingerprint."""


def clean(text: str, limit: int = MAX_NAME) -> str:
    """Returns text as PostgreSQL can hold it: without NUL, cut to `limit` characters."""
    return text.replace("\x00", "�")[:limit]


def to_signed(fingerprint: int) -> int:
    """Returns an unsigned 64-bit fingerprint as PostgreSQL's bigint holds it."""
    return fingerprint - (1 << 64) if fingerprint >= 1 << 63 else fingerprint


def to_hex(fingerprint: int) -> str:
    """Returns the 16 hexadecimal digits of a fingerprint (signed or unsigned)."""
    return f"{fingerprint & 0xFFFF_FFFF_FFFF_FFFF:016x}"


class Cache(dict[Any, int]):
    """Ids that were looked up; forgotten all at once when there are too many (they are cheap to look up again)."""

    def learn(self, pairs: Iterable[tuple[Any, int]]) -> None:
        """Adds ids."""
        if len(self) > _CACHE_SIZE:
            self.clear()
        self.update(pairs)


class Dimensions:
    """Resolves names to ids and creates what is new. Ids never change, so they are cached.

    Rows are created outside of the caller's transaction, in sorted order: a dimension without roll-ups is harmless,
    and replicas that create the same rows at the same time wait for each other instead of deadlocking.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._services = Cache()
        self._hosts = Cache()
        self._fingerprints = Cache()
        self._series = Cache()
        self._sources: dict[str, tuple[int, str, str]] = {}

    async def services(self, names: Sequence[str]) -> list[int]:
        """Returns the ids of services, in the order of the names."""
        return await self._names("service", self._services, names)

    async def hosts(self, names: Sequence[str]) -> list[int]:
        """Returns the ids of hosts, in the order of the names."""
        return await self._names("host", self._hosts, names)

    async def sources(self, rows: Sequence[tuple[str, str, str]]) -> list[int]:
        """Returns the ids of sources given as (name, system, environment), and keeps their newest system and environment."""
        rows = [(clean(name), clean(system), clean(environment)) for name, system, environment in rows]
        changed = sorted({row for row in rows if self._sources.get(row[0], (0, "", ""))[1:] != row[1:]})
        if changed:
            # One row per name: a batch may hold both the old and the new system of a source.
            newest = {row[0]: row for row in rows if row in changed}
            names, systems, environments = zip(*(newest[name] for name in sorted(newest)), strict=True)
            found = await self._pool.fetch(
                """INSERT INTO correlate.source AS s (name, system, environment)
                   SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
                   ON CONFLICT (name) DO UPDATE SET system = excluded.system, environment = excluded.environment
                   RETURNING id, name, system, environment""",
                names,
                systems,
                environments,
            )
            if len(self._sources) > _CACHE_SIZE:
                self._sources.clear()
            self._sources.update({row["name"]: (row["id"], row["system"], row["environment"]) for row in found})
        return [self._sources[name][0] for name, _, _ in rows]

    async def fingerprints(self, fingerprints: Sequence[int], texts: Sequence[str]) -> list[int]:
        """Returns the ids of signed fingerprints; a new one founds its own template."""
        unknown = {value: clean(text, MAX_TEXT) for value, text in zip(fingerprints, texts, strict=True) if value not in self._fingerprints}
        if unknown:
            values = sorted(unknown)
            ordered = [unknown[value] for value in values]
            async with self._pool.acquire() as connection, connection.transaction():
                fresh = await connection.fetch(
                    """INSERT INTO correlate.fingerprint (fingerprint, text, template)
                       SELECT value, text, value FROM unnest($1::bigint[], $2::text[]) AS new (value, text)
                       WHERE NOT EXISTS (SELECT FROM correlate.fingerprint AS known WHERE known.fingerprint = value)
                       ON CONFLICT (fingerprint) DO NOTHING RETURNING fingerprint, text""",
                    values,
                    ordered,
                )
                await connection.execute(
                    """INSERT INTO correlate.template (id, text) SELECT * FROM unnest($1::bigint[], $2::text[])
                       ON CONFLICT (id) DO NOTHING""",
                    [row["fingerprint"] for row in fresh],
                    [row["text"] for row in fresh],
                )
            found = await self._pool.fetch("SELECT fingerprint, id FROM correlate.fingerprint WHERE fingerprint = ANY($1::bigint[])", values)
            self._fingerprints.learn((row["fingerprint"], row["id"]) for row in found)
        return [self._fingerprints[value] for value in fingerprints]

    async def series(self, keys: Iterable[SeriesKey]) -> dict[SeriesKey, int]:
        """Returns the ids of series."""
        wanted = set(keys)
        unknown = sorted(key for key in wanted if key not in self._series)
        if unknown:
            columns = [list(column) for column in zip(*unknown, strict=True)]
            await self._pool.execute(
                """INSERT INTO correlate.series (source_id, service_id, host_id, severity_number, fingerprint_id)
                   SELECT * FROM unnest($1::int[], $2::int[], $3::int[], $4::smallint[], $5::int[]) AS new (a, b, c, d, e)
                   WHERE NOT EXISTS (SELECT FROM correlate.series WHERE (source_id, service_id, host_id, severity_number, fingerprint_id) = (a, b, c, d, e))
                   ON CONFLICT DO NOTHING""",
                *columns,
            )
            found = await self._pool.fetch(
                """SELECT id, source_id, service_id, host_id, severity_number, fingerprint_id FROM correlate.series
                   JOIN unnest($1::int[], $2::int[], $3::int[], $4::smallint[], $5::int[])
                        AS wanted (source_id, service_id, host_id, severity_number, fingerprint_id)
                   USING (source_id, service_id, host_id, severity_number, fingerprint_id)""",
                *columns,
            )
            self._series.learn((tuple(row)[1:], row["id"]) for row in found)
        return {key: self._series[key] for key in wanted}

    async def _names(self, table: str, cache: Cache, names: Sequence[str]) -> list[int]:
        names = [clean(name) for name in names]
        unknown = sorted({name for name in names if name not in cache})
        if unknown:
            # An identity value is spent even on a row that exists: the anti-join keeps the ids small.
            await self._pool.execute(
                f"""INSERT INTO correlate.{table} (name) SELECT new.name FROM unnest($1::text[]) AS new (name)
                    WHERE NOT EXISTS (SELECT FROM correlate.{table} AS known WHERE known.name = new.name)
                    ON CONFLICT (name) DO NOTHING""",  # noqa: S608  the table is one of two literals
                unknown,
            )
            found = await self._pool.fetch(f"SELECT name, id FROM correlate.{table} WHERE name = ANY($1::text[])", unknown)  # noqa: S608
            cache.learn((row["name"], row["id"]) for row in found)
        return [cache[name] for name in names]
