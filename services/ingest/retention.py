"""Retention: partitions whose time is over are dropped, and with them what points into them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog

from services.ingest.partitions import DAYS_AHEAD, Partition, Partitions, current_day, held_partitions

if TYPE_CHECKING:
    from kit.db import SqlConnection

log = structlog.get_logger()

RETENTION_LOCK = 0x656C6973_0002
"""Advisory lock of the replica that drops."""
DROP_LOCK_TIMEOUT = "200ms"
"""How long writers and readers may have to wait behind a drop that waits itself."""
DROP_ATTEMPTS = 20
DROP_PAUSE_SECONDS = 0.5
FEED_BATCH = 5_000
REJECTED_BATCH = 500


class Retention:
    """Makes the partitions of the next days and drops those whose time is over.

    A partition goes when its day is further back than its events are kept and nothing has come into it for as long:
    history that is sent today is kept as long as the events of today.
    """

    def __init__(self, pool: asyncpg.Pool[Any], partitions: Partitions, *, retention_days: int, rejected_days: int) -> None:
        self._pool = pool
        self._partitions = partitions
        self._retention_days = retention_days
        self._rejected_days = rejected_days

    async def make_partitions(self) -> None:
        """Makes the partitions of today and the days after it, for every number of days in use."""
        async with self._pool.acquire() as connection:
            rows = await connection.fetch("SELECT DISTINCT retention_days FROM ingest.sources")
            classes = {0} | {row["retention_days"] for row in rows}
            today = current_day()
            await self._partitions.ensure(connection, {Partition(day, keep) for day in range(today, today + DAYS_AHEAD + 1) for keep in classes})

    async def drop_expired(self) -> None:
        """Drops the partitions whose time is over, unless another replica is at it."""
        async with self._pool.acquire() as connection, _alone(connection) as alone:
            if not alone:
                return
            today = current_day()
            for partition in await held_partitions(connection):
                if partition.day + self._keep_days(partition) < today and await self._drop(connection, partition):
                    log.info("partition dropped", day=partition.day, keep_days=self._keep_days(partition))

    async def forget_rejected(self) -> None:
        """Deletes rejected records whose time is over, then the groups of their days; a bounded number at a time."""
        limit = datetime.now(UTC) - timedelta(days=self._rejected_days)
        await self._delete(
            """
            DELETE FROM ingest.rejected_events WHERE id IN
                (SELECT id FROM ingest.rejected_events WHERE rejected_at < $1 ORDER BY rejected_at LIMIT $2 FOR UPDATE SKIP LOCKED)
            """,
            limit,
        )
        await self._delete(
            """
            DELETE FROM ingest.rejection_groups WHERE id IN
                (SELECT id FROM ingest.rejection_groups AS g WHERE day < $1
                 AND NOT EXISTS (SELECT FROM ingest.rejected_events WHERE group_id = g.id) LIMIT $2 FOR UPDATE SKIP LOCKED)
            """,
            current_day() - self._rejected_days,
        )

    async def _delete(self, statement: str, limit: object) -> None:
        while True:
            status = await self._pool.execute(statement, limit, REJECTED_BATCH)
            if int(status.rpartition(" ")[2]) < REJECTED_BATCH:
                return

    def _keep_days(self, partition: Partition) -> int:
        return partition.keep_days or self._retention_days

    async def _drop(self, connection: SqlConnection, partition: Partition) -> bool:
        """Drops a partition and says whether it is gone; False while it is in use or something came into it lately."""
        limit = datetime.now(UTC) - timedelta(days=self._keep_days(partition))
        if await _has_newer(connection, partition, limit):
            return False
        await _forget_feed(connection, partition)
        for _ in range(DROP_ATTEMPTS):
            try:
                return await _drop_if_quiet(connection, partition, limit)
            except asyncpg.LockNotAvailableError:
                # Readers and writers that queued behind this go first.
                await asyncio.sleep(DROP_PAUSE_SECONDS)
        log.info("partition in use; dropped at the next turn", day=partition.day, keep_days=partition.keep_days)
        return False


@asynccontextmanager
async def _alone(connection: SqlConnection) -> AsyncIterator[bool]:
    """Holds the lock of retention if it is free; yields whether it is held. It ends with the connection at the latest."""
    held = await connection.fetchval("SELECT pg_try_advisory_lock($1)", RETENTION_LOCK)
    try:
        yield held
    finally:
        if held and not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", RETENTION_LOCK)


async def _has_newer(connection: SqlConnection, partition: Partition, limit: datetime) -> bool:
    query = f"SELECT EXISTS (SELECT FROM ingest.{partition.table} WHERE created_at >= $1)"  # noqa: S608  the name is made of two numbers
    found: bool = await connection.fetchval(query, limit)
    return found


async def _forget_feed(connection: SqlConnection, partition: Partition) -> None:
    """Takes the blocks of a partition out of the feed, a bounded number at a time."""
    after: int | None = 0
    while after is not None:
        after = await connection.fetchval(
            f"""
            WITH blocks AS (SELECT id FROM ingest.{partition.table} WHERE id > $1 ORDER BY id LIMIT {FEED_BATCH}),
                 gone AS (DELETE FROM ingest.feed WHERE id IN (SELECT id FROM blocks))
            SELECT max(id) FROM blocks
            """,  # noqa: S608  the name is made of two numbers
            after,
        )


async def _drop_if_quiet(connection: SqlConnection, partition: Partition, limit: datetime) -> bool:
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{DROP_LOCK_TIMEOUT}'")
        # No writer is half-way while this is held: what it sent is seen below, or it finds the partition gone and makes a new one.
        await connection.execute("LOCK TABLE ingest.blocks IN ACCESS EXCLUSIVE MODE")
        if await _has_newer(connection, partition, limit):
            return False
        await connection.execute("DELETE FROM ingest.held_sources WHERE day = $1 AND keep_days = $2", *partition)
        await connection.execute(f"DROP TABLE ingest.{partition.table}")
    return True
