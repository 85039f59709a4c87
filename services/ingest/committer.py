"""Group commit: requests that arrive within a few milliseconds share a transaction, then get their replies."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog
import zstandard

from kit.db import is_unavailable, unavailable
from kit.errors import Unavailable
from services.ingest.announcer import Announcer
from services.ingest.blocks import BlockIds, DayPartitions, NewBlock, insert_blocks
from services.ingest.lines import number_lines
from services.ingest.pipeline import Chunk, Prepared
from services.ingest.rejections import Sealer, insert_rejections
from services.ingest.settings import IngestSettings
from services.ingest.sources import SourceBook
from services.ingest.summary import SummaryRows

if TYPE_CHECKING:
    from kit.db import SqlConnection

log = structlog.get_logger()

MAX_QUEUED = 20_000
"""Requests that wait for a commit; the bound on bytes in work is met first."""
COMPRESSION_LEVEL = 3
COMMIT_TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request, after the commit."""

    accepted: int
    duplicates: int
    rejected: int


@dataclass(slots=True)
class Submission:
    """A prepared request that waits for its commit."""

    digest: bytes
    lifetime: timedelta
    prepared: Prepared
    sender: str
    done: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def records(self) -> int:
        """Events and rejected records."""
        return self.prepared.events + len(self.prepared.rejections)


class Committer:
    """Commits submissions in groups. A reply is given only after the commit; any failure is a retryable one."""

    def __init__(self, settings: IngestSettings, pool: asyncpg.Pool[Any], sources: SourceBook, sealer: Sealer, announcer: Announcer) -> None:
        self._pool = pool
        self._sources = sources
        self._sealer = sealer
        self._announcer = announcer
        self._max_events = settings.max_block_events
        self._wait_seconds = settings.commit_wait.total_seconds()
        self._committers = settings.committers
        self._queue: asyncio.Queue[Submission] = asyncio.Queue(MAX_QUEUED)
        self._ids = BlockIds()
        self._partitions = DayPartitions()

    async def commit(self, submission: Submission) -> Outcome:
        """Waits until the submission is durable; raises Unavailable (retryable) when it is not."""
        try:
            self._queue.put_nowait(submission)
        except asyncio.QueueFull:
            raise Unavailable("too many requests wait for a commit; try again", retry_after=1.0) from None
        # The commit goes on when the sender hangs up: its outcome is then found by the resend.
        return await asyncio.shield(submission.done)

    async def run(self) -> None:
        """Commits for ever, several groups at a time."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._committers):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            submissions = await self._collect()
            try:
                async with asyncio.timeout(COMMIT_TIMEOUT_SECONDS):
                    outcomes = await self._commit_group(submissions)
            except Exception as error:
                if is_unavailable(error):
                    log.warning("commit failed", reason=repr(error), requests=len(submissions))
                else:
                    log.error("commit failed", requests=len(submissions), exc_info=error)
                for submission in submissions:
                    _settle(submission, unavailable(error))
            else:
                for submission, outcome in zip(submissions, outcomes, strict=True):
                    _settle(submission, outcome)

    async def _collect(self) -> list[Submission]:
        """Returns the submissions of the next group: all that wait, up to the size of a block."""
        group = [await self._queue.get()]
        events = group[0].records
        if self._queue.empty() and events < self._max_events // 4:
            await asyncio.sleep(self._wait_seconds)
        while events < self._max_events and not self._queue.empty():
            group.append(self._queue.get_nowait())
            events += group[-1].records
        return group

    async def _commit_group(self, submissions: Sequence[Submission]) -> list[Outcome]:
        first: dict[bytes, Submission] = {}
        for submission in submissions:
            first.setdefault(submission.digest, submission)
        async with self._pool.acquire() as connection:
            await self._partitions.ensure(connection, {chunk.day for s in first.values() for chunk in s.prepared.chunks})
            async with connection.transaction():
                fresh = await _insert_digests(connection, list(first.values()))
                new = [submission for digest, submission in first.items() if digest in fresh]
                blocks = await self._build_blocks(connection, [chunk for s in new for chunk in s.prepared.chunks])
                if blocks:
                    await insert_blocks(connection, blocks)
                for submission in new:
                    if submission.prepared.rejections:
                        await insert_rejections(connection, submission.prepared.rejections, submission.sender, self._sealer)
        self._announcer.announce([block.id for block in blocks])
        self._count(new)
        winners = {id(submission) for submission in new}
        return [_outcome(submission, is_new=id(submission) in winners) for submission in submissions]

    async def _build_blocks(self, connection: SqlConnection, chunks: Sequence[Chunk]) -> list[NewBlock]:
        days: defaultdict[int, list[Chunk]] = defaultdict(list)
        for chunk in chunks:
            days[chunk.day].append(chunk)
        blocks: list[NewBlock] = []
        for day_chunks in days.values():
            start = 0
            while start < len(day_chunks):
                end, events = start, 0
                while end < len(day_chunks) and (end == start or events + len(day_chunks[end].lines) <= self._max_events):
                    events += len(day_chunks[end].lines)
                    end += 1
                block_id = await self._ids.take(connection)
                part = day_chunks[start:end]
                blocks.append(await asyncio.to_thread(_build_block, block_id, part) if events > 500 else _build_block(block_id, part))
                start = end
        return blocks

    def _count(self, submissions: Sequence[Submission]) -> None:
        for submission in submissions:
            for chunk in submission.prepared.chunks:
                for key, count in chunk.rows.counts.items():
                    self._sources.state(key[1]).events += count
            for rejection in submission.prepared.rejections:
                self._sources.state(rejection.source).rejected += 1


def _settle(submission: Submission, result: Outcome | Exception) -> None:
    if submission.done.done():
        return
    if isinstance(result, Exception):
        submission.done.set_exception(result)
        submission.done.exception()  # nobody may be waiting any more
    else:
        submission.done.set_result(result)


def _outcome(submission: Submission, *, is_new: bool) -> Outcome:
    if is_new:
        return Outcome(submission.prepared.events, 0, len(submission.prepared.rejections))
    return Outcome(0, submission.records, 0)


async def _insert_digests(connection: SqlConnection, submissions: Sequence[Submission]) -> set[bytes]:
    """Claims the digests; returns those that were free. Sorted, so that two replicas cannot deadlock."""
    now = datetime.now(UTC)
    pairs = sorted((submission.digest, now + submission.lifetime) for submission in submissions)
    rows = await connection.fetch(
        """
        INSERT INTO ingest.request_digests AS known (digest, expires_at)
        SELECT * FROM unnest($1::bytea[], $2::timestamptz[])
        ON CONFLICT (digest) DO UPDATE SET expires_at = excluded.expires_at WHERE known.expires_at <= now()
        RETURNING digest
        """,
        [digest for digest, _ in pairs],
        [expires_at for _, expires_at in pairs],
    )
    return {bytes(row["digest"]) for row in rows}


def _build_block(block_id: int, chunks: Sequence[Chunk]) -> NewBlock:
    counts = SummaryRows()
    for chunk in chunks:
        counts.merge(chunk.rows)
    lines = [line for chunk in chunks for line in chunk.lines]
    compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL)
    return NewBlock(
        id=block_id,
        day=chunks[0].day,
        events=len(lines),
        first_timestamp=min(chunk.first_timestamp for chunk in chunks),
        last_timestamp=max(chunk.last_timestamp for chunk in chunks),
        summary=compressor.compress(counts.to_proto().SerializeToString()),
        lines=compressor.compress(number_lines(lines, block_id)),
    )
