"""The endpoints of all replicas: counts in slots of ten seconds, the last clients, the last error; in PostgreSQL.

Each process adds what it has counted every two seconds. Counts are kept for two hours, endpoints and clients for a day after
they were seen last. While PostgreSQL is away counts wait in memory and are added to the slot in which it is back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from services.ingest.endpoints import MAX_CLIENTS, Counts, Endpoint, Endpoints
from services.ingest.rejections import storable

SLOT_SECONDS = 10
COUNTS_KEPT = timedelta(hours=2)
ENDPOINTS_KEPT = timedelta(days=1)
FORGET_BATCH = 10_000
STORM_REQUESTS = 20
"""Fewer requests in a minute are no storm."""

_COUNTED = tuple(column.name for column in fields(Counts))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_PUT_ENDPOINTS = """
INSERT INTO ingest.endpoints AS e (protocol, token_id, token_name, source, last_seen_at, last_error, last_error_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::timestamptz[])
ON CONFLICT (protocol, token_id) DO UPDATE SET
    token_name = excluded.token_name,
    source = excluded.source,
    last_seen_at = greatest(e.last_seen_at, excluded.last_seen_at),
    last_error = CASE WHEN excluded.last_error_at >= coalesce(e.last_error_at, excluded.last_error_at) THEN excluded.last_error ELSE e.last_error END,
    last_error_at = greatest(e.last_error_at, excluded.last_error_at)
"""
_PUT_CLIENTS = """
INSERT INTO ingest.endpoint_clients AS c (protocol, token_id, address, user_agent, last_seen_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
ON CONFLICT (protocol, token_id, address, user_agent) DO UPDATE SET last_seen_at = greatest(c.last_seen_at, excluded.last_seen_at)
"""
_ADD_COUNTS = f"""
INSERT INTO ingest.endpoint_counts AS c (slot, protocol, token_id, {", ".join(_COUNTED)})
SELECT $1, * FROM unnest($2::text[], $3::text[], {", ".join(f"${number}::bigint[]" for number in range(4, 4 + len(_COUNTED)))})
ON CONFLICT (protocol, token_id, slot) DO UPDATE SET {", ".join(f"{name} = c.{name} + excluded.{name}" for name in _COUNTED)}
"""  # noqa: S608 - names of this module
_LIST = """
SELECT * FROM ingest.endpoints WHERE (protocol, token_id) > ($1, $2) AND ($3 = '' OR protocol = $3) ORDER BY protocol, token_id LIMIT $4
"""
_SUM = f"""
SELECT c.protocol, c.token_id, {", ".join(f"sum(c.{name})::bigint AS {name}" for name in _COUNTED)}
FROM ingest.endpoint_counts AS c JOIN unnest($1::text[], $2::text[]) AS k (protocol, token_id) USING (protocol, token_id)
WHERE c.slot > $3 GROUP BY c.protocol, c.token_id
"""  # noqa: S608 - names of this module
_CLIENTS = """
SELECT c.* FROM unnest($1::text[], $2::text[]) AS k (protocol, token_id), LATERAL (
    SELECT * FROM ingest.endpoint_clients AS e WHERE e.protocol = k.protocol AND e.token_id = k.token_id
    ORDER BY e.last_seen_at DESC, e.address, e.user_agent LIMIT $3
) AS c
"""
_FORGET_COUNTS = """
DELETE FROM ingest.endpoint_counts WHERE (protocol, token_id, slot) IN
    (SELECT protocol, token_id, slot FROM ingest.endpoint_counts WHERE slot < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
_FORGET_CLIENTS = """
DELETE FROM ingest.endpoint_clients WHERE (protocol, token_id, address, user_agent) IN (
    SELECT protocol, token_id, address, user_agent FROM (
        SELECT *, row_number() OVER (PARTITION BY protocol, token_id ORDER BY last_seen_at DESC) AS place FROM ingest.endpoint_clients
    ) AS c WHERE place > $1 OR last_seen_at < $2
)
"""


@dataclass(slots=True)
class Overview:
    """What all replicas know of an endpoint."""

    protocol: str
    token_id: str
    token_name: str
    source: str
    last_seen_at: datetime
    last_error: str
    last_error_at: datetime | None
    minute: Counts = field(default_factory=Counts)
    """Of the last minute: the running slot and the five before it."""
    hour: Counts = field(default_factory=Counts)
    clients: list[tuple[str, str, datetime]] = field(default_factory=list)
    """Address, user agent and when it was last seen; the last ones first."""

    @property
    def retry_storm(self) -> bool:
        """Whether most of what comes is in vain: of at least 20 requests of the last minute, more than half were refused or resent."""
        return self.minute.requests >= STORM_REQUESTS and 2 * (self.minute.refused + self.minute.resent) > self.minute.requests


class EndpointStore:
    """Writes what this process has counted, and reads what all have."""

    def __init__(self, pool: asyncpg.Pool[Any], endpoints: Endpoints) -> None:
        self._pool = pool
        self._endpoints = endpoints
        self._unwritten: dict[tuple[str, str], tuple[Endpoint, Counts]] = {}
        self._flushed_at = 0

    async def flush(self) -> None:
        """Adds the counts since the last flush; raises asyncpg's errors and keeps them then."""
        for endpoint, counts in self._endpoints.draw():
            _, unwritten = self._unwritten.setdefault((endpoint.protocol, _plain(endpoint.token_id)), (endpoint, Counts()))
            unwritten.add(counts)
        if not self._unwritten:
            return
        rows = sorted(self._unwritten.items())  # all replicas lock rows in the same order
        keys = [[key[0] for key, _ in rows], [key[1] for key, _ in rows]]
        endpoints = [endpoint for _, (endpoint, _) in rows]
        newest = max(endpoint.last_seen_at for endpoint in endpoints)
        clients = {
            (*key, _plain(address), _plain(user_agent)): _moment(seen)
            for key, (endpoint, _) in rows
            for (address, user_agent), seen in endpoint.clients.items()
            if seen > self._flushed_at
        }
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(
                _PUT_ENDPOINTS,
                *keys,
                [_plain(endpoint.token_name) for endpoint in endpoints],
                [_plain(endpoint.source) for endpoint in endpoints],
                [_moment(endpoint.last_seen_at) for endpoint in endpoints],
                [_plain(endpoint.last_error) for endpoint in endpoints],
                [_moment(endpoint.last_error_at) if endpoint.last_error_at else None for endpoint in endpoints],
            )
            await connection.execute(_ADD_COUNTS, _slot(datetime.now(UTC)), *keys, *([getattr(counts, name) for _, (_, counts) in rows] for name in _COUNTED))
            if clients:
                await connection.execute(_PUT_CLIENTS, *map(list, zip(*((*client, seen) for client, seen in sorted(clients.items())), strict=True)))
        self._unwritten.clear()
        self._flushed_at = newest

    async def forget(self) -> None:
        """Deletes what is older than it is kept, and the clients beyond the last 16 of an endpoint."""
        now = datetime.now(UTC)
        while True:
            status = await self._pool.execute(_FORGET_COUNTS, now - COUNTS_KEPT, FORGET_BATCH)
            if int(status.rpartition(" ")[2]) < FORGET_BATCH:
                break
        await self._pool.execute(_FORGET_CLIENTS, MAX_CLIENTS, now - ENDPOINTS_KEPT)
        await self._pool.execute("DELETE FROM ingest.endpoints WHERE last_seen_at < $1", now - ENDPOINTS_KEPT)

    async def list(self, *, protocol: str, after: tuple[str, str], limit: int) -> Sequence[Overview]:
        """Returns endpoints in order of protocol and token id, those behind `after`; of one protocol unless it is empty."""
        now = _slot(datetime.now(UTC))
        async with self._pool.acquire() as connection:
            rows = await connection.fetch(_LIST, *after, protocol, limit)
            overviews = {(row["protocol"], row["token_id"]): Overview(**row) for row in rows}
            keys = [key[0] for key in overviews], [key[1] for key in overviews]
            for row in await connection.fetch(_SUM, *keys, now - timedelta(minutes=1)):
                overviews[row["protocol"], row["token_id"]].minute = _counts_of(row)
            for row in await connection.fetch(_SUM, *keys, now - timedelta(hours=1)):
                overviews[row["protocol"], row["token_id"]].hour = _counts_of(row)
            for row in await connection.fetch(_CLIENTS, *keys, MAX_CLIENTS):
                overviews[row["protocol"], row["token_id"]].clients.append((row["address"], row["user_agent"], row["last_seen_at"]))
        return list(overviews.values())


def _counts_of(row: Mapping[str, Any]) -> Counts:
    return Counts(**{name: row[name] for name in _COUNTED})


def _plain(text: str) -> str:
    """Returns text that PostgreSQL can hold, whatever a sender calls itself."""
    return storable(text).encode("utf-8", "replace").decode()


def _slot(moment: datetime) -> datetime:
    seconds = int(moment.timestamp())
    return _EPOCH + timedelta(seconds=seconds - seconds % SLOT_SECONDS)


def _moment(nanoseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=nanoseconds // 1_000)
