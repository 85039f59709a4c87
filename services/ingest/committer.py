"""Group commit: requests that arrive within a few milliseconds share a transaction, then get their replies."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog

from kit.db import is_unavailable, unavailable
from kit.errors import Unavailable
from services.ingest.announcer import Announcer
from services.ingest.blocks import BlockIds, NewBlock, insert_blocks, store_blocks
from services.ingest.drafts import Draft
from services.ingest.groups import Group, Outcome, Submission
from services.ingest.isolation import TooManyTries, find_failing
from services.ingest.masking.vault import MaskingVault, Placed
from services.ingest.partitions import Partitions
from services.ingest.pipeline import Pipeline
from services.ingest.quality.book import QualityBook
from services.ingest.rejection_store import RejectionStore, mark_replayed
from services.ingest.settings import IngestSettings
from services.ingest.sources import SourceBook
from services.ingest.worker import Worker

if TYPE_CHECKING:
    from kit.db import SqlConnection

log = structlog.get_logger()

MAX_QUEUED = 20_000
"""Requests that wait for a commit; the bound on bytes in work is met first."""
INLINE_RECORDS = 256
"""A group up to this size is prepared on the event loop: handing it to the worker would cost more."""
LARGE_RECORDS = 512
"""Records that are worth a group of their own while another one is being committed."""
COMMIT_TIMEOUT_SECONDS = 20.0


class Committer:
    """Commits submissions in groups. A reply is given only after the commit; any failure is a retryable one."""

    def __init__(
        self,
        settings: IngestSettings,
        pool: asyncpg.Pool[Any],
        sources: SourceBook,
        pipeline: Pipeline,
        rejections: RejectionStore,
        vault: MaskingVault,
        quality: QualityBook,
        announcer: Announcer,
        worker: Worker,
    ) -> None:
        self._pool = pool
        self._pipeline = pipeline
        self.clock = pipeline.clock
        self._worker = worker
        self._sources = sources
        self._rejections = rejections
        self._vault = vault
        self._quality = quality
        self._announcer = announcer
        self._max_events = settings.max_block_events
        self._wait_seconds = settings.commit_wait.total_seconds()
        self._committers = settings.committers
        self._waiting: deque[Submission] = deque()
        self._waiting_records = 0
        self._in_flight = 0
        self._preparing: Sequence[Submission] = ()
        """The group that is being prepared."""
        self._wake = asyncio.Event()
        self._ids = BlockIds()
        self.partitions = Partitions(settings.retention_days)

    async def commit(self, submission: Submission) -> Outcome:
        """Waits until the submission is durable; raises Unavailable (retryable) when it is not."""
        if len(self._waiting) >= MAX_QUEUED:
            raise Unavailable("too many requests wait for a commit; try again", retry_after=1.0)
        self._waiting.append(submission)
        self._waiting_records += submission.records
        if self._due:
            self._wake.set()
        # When the sender hangs up, only this waiting ends: the commit goes on, and its outcome is found by the resend.
        return await submission.done

    async def run(self) -> None:
        """Commits for ever, several groups at a time."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                while not self._due:
                    self._wake.clear()
                    await self._wake.wait()
                await self._await_company()
                self._in_flight += 1
                self._preparing = self._take_group()
                tasks.create_task(self._work(self._preparing))

    @property
    def _due(self) -> bool:
        """Whether a group is to be formed now.

        One at a time is prepared, and a small one waits until the one before it is committed: meanwhile it grows, and fewer
        groups cost less.
        """
        if self._preparing or not self._waiting:
            return False
        return not self._in_flight or (self._waiting_records >= LARGE_RECORDS and self._in_flight < self._committers)

    async def _await_company(self) -> None:
        """Waits until the request that came first has waited for the setting. What came during another commit has its company already."""
        if self._waiting_records < LARGE_RECORDS:
            waited = (time.time_ns() - self._waiting[0].observed_at) / 1e9
            await asyncio.sleep(min(max(self._wait_seconds - waited, 0.0), self._wait_seconds))

    def _take_group(self) -> list[Submission]:
        """Returns the submissions of the next group: all that wait, up to the size of a block."""
        group: list[Submission] = []
        events = 0
        while self._waiting and events < self._max_events:
            group.append(self._waiting.popleft())
            events += group[-1].records
        self._waiting_records -= events
        return group

    async def _work(self, submissions: Sequence[Submission]) -> None:
        try:
            error = await self._commit_all(submissions)
            self._end_preparing(submissions)  # of a group that failed before
            if error is None:
                return
            refused = isinstance(error, asyncpg.PostgresError)
            for submission in submissions:
                if is_unavailable(error) or (refused and len(submissions) == 1):
                    _settle(submission, unavailable(error))
                elif refused:
                    # PostgreSQL does not take what one of them holds: the others do not wait for it.
                    await self._commit_alone(submission)
                else:
                    # ELIS fails on a record: its neighbours do not wait for the mistake to be mended.
                    await self._commit_apart(submission)
        finally:
            self._in_flight -= 1
            self._wake.set()

    def _end_preparing(self, submissions: Sequence[Submission]) -> None:
        """Lets the next group be prepared."""
        if self._preparing is submissions:
            self._preparing = ()
            self._wake.set()

    async def _commit_all(self, submissions: Sequence[Submission]) -> Exception | None:
        """Commits submissions together and settles them; returns the error when nothing was committed."""
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_SECONDS):
                outcomes = await self._commit_group(Group(submissions))
        except Exception as error:
            if is_unavailable(error):
                log.warning("commit failed", reason=repr(error), requests=len(submissions))
            else:
                log.error("commit failed", requests=len(submissions), exc_info=error)
            return error
        for submission, outcome in zip(submissions, outcomes, strict=True):
            _settle(submission, outcome)
        return None

    async def _commit_apart(self, submission: Submission) -> None:
        """Commits a submission alone, without the records that ELIS fails on: those are kept as rejected."""
        try:
            submission.failing = await self._worker.run(lambda: find_failing(self._pipeline, submission), inline=False)
        except TooManyTries as error:
            log.error("request not processed", reason=str(error))
            _settle(submission, unavailable(error))
            return
        await self._commit_alone(submission)

    async def _commit_alone(self, submission: Submission) -> None:
        """Commits a submission by itself, and settles it whatever comes of it."""
        failure = await self._commit_all([submission])
        if failure is not None:
            _settle(submission, unavailable(failure))

    async def _commit_group(self, group: Group) -> list[Outcome]:
        inline = group.size <= INLINE_RECORDS
        await self._worker.run(lambda: group.prepare(self._pipeline), inline=inline)
        drafts = group.draft(self._max_events)
        blocks = await self._build(group, drafts, inline=inline)
        self._end_preparing(group.submissions)
        try:
            with self.clock.wait("commit"):
                blocks = await self._store(group, drafts, blocks, inline=inline)
        except asyncpg.CheckViolationError:
            # Retention dropped the partition of an old day between the look for it and the insert.
            self.partitions.forget(draft.partition for draft in drafts)
            blocks = await self._store(group, drafts, blocks, inline=inline)
        outcomes = group.outcomes()
        try:
            self._announcer.announce([block.id for block in blocks])
            self.partitions.remember(blocks)
            self._vault.remember_joins(group.prepared.masked)
            self._count(group)
        except Exception as error:
            # It is committed, and the senders are told so, whatever fails here.
            log.error("committed but not counted", requests=len(outcomes), exc_info=error)
        return outcomes

    async def _store(self, group: Group, drafts: Sequence[Draft], blocks: list[NewBlock], *, inline: bool) -> list[NewBlock]:
        """Commits digests, blocks and rejected records in one transaction; returns the blocks that are new."""
        async with self._pool.acquire() as connection:
            await self.partitions.ensure(connection, {draft.partition for draft in drafts})
            # Nearly every group holds nothing but events, all of them new: one statement stores it.
            if blocks and group.plain and await store_blocks(connection, blocks, self.partitions.fresh_sources(blocks), group.claims):
                group.settle_claims(set(group.claims))
                return blocks
            async with connection.transaction():
                group.settle_claims(await _claim_digests(connection, group.claims))
                if group.lost:
                    # Some of it is stored already: the blocks were built in the hope that nothing is.
                    drafts = group.draft(self._max_events)
                    blocks = await self._build(group, drafts, inline=inline)
                if blocks:
                    await insert_blocks(connection, blocks, self.partitions.fresh_sources(blocks))
                    placed = [Placed(block.id, block.day, draft.rows) for block, draft in zip(blocks, drafts, strict=True)]
                    await self._vault.insert(connection, group.prepared.masked, placed)
                await self._rejections.insert(connection, ((submission.arrival, rejections) for submission, rejections in group.rejections()))
                for rejected_id in group.replayed():
                    await mark_replayed(connection, rejected_id)
        return blocks

    async def _build(self, group: Group, drafts: Sequence[Draft], *, inline: bool) -> list[NewBlock]:
        ids = [await self._ids.take(self._pool) for _ in drafts]
        return await self._worker.run(lambda: group.build(drafts, ids, self.clock), inline=inline)

    def _count(self, group: Group) -> None:
        for name, measured in group.measures.items():
            self._sources.state(name).events += measured.events
        self._quality.add(group.measures)
        for name, count in group.duplicates_by_source().items():
            self._quality.add_duplicates(name, count)
        for _, rejections in group.rejections():
            for rejection in rejections:
                self._sources.state(rejection.source).rejected += 1
                self._quality.add_rejected(rejection.source, 1, rejection.reason)


def _settle(submission: Submission, result: Outcome | Exception) -> None:
    if submission.done.done():
        return
    if isinstance(result, Exception):
        submission.done.set_exception(result)
        submission.done.exception()  # nobody may be waiting any more
    else:
        submission.done.set_result(result)


async def _claim_digests(connection: SqlConnection, claims: Mapping[bytes, timedelta]) -> set[bytes]:
    """Claims digests, each for its lifetime; returns those that were free. Sorted, so that two replicas cannot deadlock."""
    now = datetime.now(UTC)
    digests = sorted(claims)
    rows = await connection.fetch(
        """
        INSERT INTO ingest.request_digests AS known (digest, expires_at)
        SELECT * FROM unnest($1::bytea[], $2::timestamptz[])
        ON CONFLICT (digest) DO UPDATE SET expires_at = excluded.expires_at WHERE known.expires_at <= now()
        RETURNING digest
        """,
        digests,
        [now + claims[digest] for digest in digests],
    )
    return {bytes(row["digest"]) for row in rows}
