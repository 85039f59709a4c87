"""Work on the side: counts of sources are written, what other replicas were told is read, what has expired is forgotten."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import structlog

from kit.db import is_unavailable
from services.ingest.endpoint_store import EndpointStore
from services.ingest.quality.book import QualityBook
from services.ingest.quality.watch import QualityWatch
from services.ingest.retention import Retention
from services.ingest.sources import SourceBook

log = structlog.get_logger()

FLUSH_SECONDS = 1.0
ENDPOINT_SECONDS = 2.0
QUALITY_SECONDS = 5.0
WATCH_SECONDS = 60.0
REFRESH_SECONDS = 15.0
"""How long another replica may go on without what this one was told about a source."""
FORGET_SECONDS = 60.0
FORGET_BATCH = 10_000
PARTITION_SECONDS = 600.0
RETENTION_SECONDS = 600.0


class Upkeep:
    """Runs beside the receivers; what PostgreSQL does not do now is tried again at the next turn."""

    def __init__(
        self,
        pool: asyncpg.Pool[Any],
        sources: SourceBook,
        retention: Retention,
        endpoints: EndpointStore,
        quality: QualityBook,
        watch: QualityWatch,
    ) -> None:
        self._pool = pool
        self._sources = sources
        self._retention = retention
        self._endpoints = endpoints
        self._quality = quality
        self._watch = watch

    async def run(self) -> None:
        """Works for ever; the last flushes happen when it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._repeat(self._sources.flush, FLUSH_SECONDS))
                group.create_task(self._repeat(self._sources.refresh, REFRESH_SECONDS))
                group.create_task(self._repeat(self._endpoints.flush, ENDPOINT_SECONDS))
                group.create_task(self._repeat(self._quality.flush, QUALITY_SECONDS))
                group.create_task(self._repeat(self._quality.forget, RETENTION_SECONDS))
                group.create_task(self._repeat(self._watch.watch, WATCH_SECONDS))
                group.create_task(self._repeat(self.forget_digests, FORGET_SECONDS))
                group.create_task(self._repeat(self._endpoints.forget, FORGET_SECONDS))
                group.create_task(self._repeat(self._retention.make_partitions, PARTITION_SECONDS, first=0.0))
                group.create_task(self._repeat(self._retention.drop_expired, RETENTION_SECONDS, first=FORGET_SECONDS))
                group.create_task(self._repeat(self._retention.forget_rejected, RETENTION_SECONDS, first=FORGET_SECONDS))
        finally:
            await self._attempt(self._sources.flush)
            await self._attempt(self._endpoints.flush)
            await self._attempt(self._quality.flush)

    async def forget_digests(self) -> None:
        """Deletes expired request digests, a bounded number at a time."""
        while True:
            status = await self._pool.execute(
                """
                DELETE FROM ingest.request_digests WHERE digest IN
                    (SELECT digest FROM ingest.request_digests WHERE expires_at <= now() LIMIT $1 FOR UPDATE SKIP LOCKED)
                """,
                FORGET_BATCH,
            )
            if int(status.rpartition(" ")[2]) < FORGET_BATCH:
                return

    async def _repeat(self, work: Any, seconds: float, first: float | None = None) -> None:
        """Works every so many seconds; `first` is when it begins, else after one such time."""
        await asyncio.sleep(seconds if first is None else first)
        while True:
            await self._attempt(work)
            await asyncio.sleep(seconds)

    async def _attempt(self, work: Any) -> None:
        try:
            await work()
        except Exception as error:
            if is_unavailable(error):
                log.warning("upkeep put off", work=work.__name__, reason=repr(error))
            elif isinstance(error, asyncpg.PostgresError):
                # Whatever PostgreSQL refuses here, receiving goes on.
                log.error("upkeep refused", work=work.__name__, exc_info=error)
            else:
                raise
