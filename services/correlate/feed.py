"""The feed: takes every committed block from ingest to the roll-ups, through the stream when it is there and without it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from elis.ingest.v1 import ingest_pb2 as ingest
from services.correlate.outages import is_outage
from services.correlate.rollups import AnnouncedAt, AtCursor, MovedOn, Rollups
from services.correlate.settings import CorrelateSettings

if TYPE_CHECKING:
    from elis.ingest.v1 import ingest_pb2_grpc as ingest_rpc

log = structlog.get_logger()

STREAM = "elis:blocks"
GROUP = "correlate"
BLOCK_SECONDS = 1.0
"""Longest wait for an announcement."""
LINGER_SECONDS = 0.25
"""Pause after announcements: blocks that come one by one are counted several at a time, which costs a fraction."""
_PAGE = 1000
_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Position:
    """Every block up to `cursor` is counted; that is everything that was acknowledged before `as_of`."""

    cursor: str
    as_of: datetime


class Feed:
    """Counts blocks as they are announced, and what was not announced as the list of blocks shows it.

    The stream only makes it fast and spreads the work: entries are read without acknowledgement, because the cursor
    over ListBlocks finds whatever a replica took and did not count.
    """

    def __init__(self, settings: CorrelateSettings, pool: asyncpg.Pool, redis: Redis, blocks: ingest_rpc.IngestServiceAsyncStub, rollups: Rollups) -> None:
        self._pool = pool
        self._redis = redis
        self._ingest = blocks
        self._rollups = rollups
        self._batch = settings.feed_batch
        self._interval = settings.feed_interval.total_seconds()
        self._retention = settings.done_retention
        self._consumer = settings.replica
        self._stream_works = False
        self._missing: set[int] = set()

    async def follow_stream(self) -> None:
        """Counts announced blocks until cancelled."""
        try:
            while True:
                try:
                    await self._count_announced()
                except RedisError as error:
                    await self._wait_for_stream(error)
                except MovedOn:
                    continue  # the list of blocks has what these announcements named
                except Exception as error:
                    if not is_outage(error):
                        raise
                    log.warning("announced blocks not counted yet", reason=repr(error))
                    await asyncio.sleep(_PATIENCE_SECONDS)
        finally:
            await self._leave_group()

    async def follow_list(self) -> None:
        """Counts blocks that no announcement brought, and moves the cursor, until cancelled."""
        while True:
            more = False
            try:
                more = await self.advance()
            except MovedOn:
                more = True
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("list of blocks not read", reason=repr(error))
            if not more:
                await asyncio.sleep(self._interval)

    async def advance(self) -> bool:
        """Moves the cursor over the blocks that are counted, and counts those that are overdue; says whether there is more."""
        (cursor, now), *_ = await self._pool.fetch("SELECT cursor, clock_timestamp() FROM correlate.feed_position WHERE id = 1")
        response: ingest.ListBlocksResponse = await self._ingest.ListBlocks(ingest.ListBlocksRequest(after=cursor, limit=_PAGE))
        if response.HasField("complete_until"):
            now = min(now, response.complete_until.ToDatetime(UTC))
        listed = [block.id for block in response.blocks]
        done = await self._done(listed)
        missing = [number for number in listed if number not in done]
        full = len(listed) >= _PAGE
        # A block that was just announced is being counted by whoever got the announcement: give it one interval.
        overdue = missing if full or not self._stream_works else [number for number in missing if number in self._missing]
        self._missing = set(missing).difference(overdue)
        for start in range(0, len(overdue), self._batch):
            batch = overdue[start : start + self._batch]
            await self._count(batch, AtCursor(cursor))
            done.update(batch)
        passed = 0
        while passed < len(listed) and listed[passed] in done:
            passed += 1
        await self._move(cursor, response.blocks[:passed], now if passed == len(listed) and not full else None)
        return full and passed > 0

    async def position(self) -> Position:
        """Returns how far the feed is."""
        row, *_ = await self._pool.fetch("SELECT cursor, as_of FROM correlate.feed_position WHERE id = 1")
        return Position(row["cursor"], row["as_of"])

    async def _count_announced(self) -> None:
        await self._join_group()
        self._stream_works = True
        while True:
            answer: Any = await self._redis.xreadgroup(GROUP, self._consumer, {STREAM: ">"}, count=self._batch, block=int(BLOCK_SECONDS * 1000), noack=True)
            entries = [entry for _, entries in answer or () for entry in entries]
            if entries:
                announced = min(int(entry_id.split(b"-")[0]) for entry_id, _ in entries)
                ids = sorted({int(fields[b"id"]) for _, fields in entries})
                await self._count(ids, AnnouncedAt(announced, self._retention.total_seconds() / 6))
                if len(entries) < self._batch:
                    await asyncio.sleep(LINGER_SECONDS)

    async def _count(self, ids: Sequence[int], proof: AtCursor | AnnouncedAt) -> None:
        response: ingest.GetBlocksResponse = await self._ingest.GetBlocks(ingest.GetBlocksRequest(ids=ids, with_summary=True))
        if response.blocks:
            await self._rollups.count(response.blocks, proof)

    async def _done(self, ids: Sequence[int]) -> set[int]:
        rows = await self._pool.fetch("SELECT block_id FROM correlate.done_block WHERE block_id = ANY($1::bigint[])", ids) if ids else []
        return {row["block_id"] for row in rows}

    async def _move(self, cursor: str, passed: Sequence[ingest.Block], complete_at: datetime | None) -> None:
        """Moves the cursor unless another replica did, and forgets blocks that were passed long ago."""
        if not passed and complete_at is None:
            return
        target = passed[-1].cursor if passed else cursor
        as_of = complete_at or passed[-1].created_at.ToDatetime(UTC)
        await self._pool.execute(
            "UPDATE correlate.feed_position SET cursor = $2, as_of = greatest(as_of, $3) WHERE id = 1 AND cursor = $1", cursor, target, as_of
        )
        if complete_at is not None:
            # Whatever was counted before `as_of` lies before the cursor; the retention is far longer than any transaction.
            await self._pool.execute(
                "DELETE FROM correlate.done_block WHERE done_at < (SELECT as_of FROM correlate.feed_position WHERE id = 1) - $1::interval",
                self._retention,
            )

    async def _join_group(self) -> None:
        try:
            await self._redis.xgroup_create(STREAM, GROUP, id="$", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def _leave_group(self) -> None:
        try:
            await self._redis.xgroup_delconsumer(STREAM, GROUP, self._consumer)
        except RedisError as error:
            log.info("consumer not removed", reason=repr(error))

    async def _wait_for_stream(self, error: RedisError) -> None:
        if self._stream_works:
            log.warning("stream not read; the list of blocks is followed instead", reason=repr(error))
        self._stream_works = False
        await asyncio.sleep(_PATIENCE_SECONDS)
