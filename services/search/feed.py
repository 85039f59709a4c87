"""The feed: takes every committed block from ingest into the engine, in order, and knows how fresh the index is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import monotonic, time_ns
from typing import TYPE_CHECKING

import structlog

from elis.ingest.v1 import ingest_pb2 as ingest
from kit.errors import ElisError
from services.search.engine import Engine, LineBlock
from services.search.settings import SearchSettings
from services.search.wake import Wake

if TYPE_CHECKING:
    from elis.ingest.v1 import ingest_pb2_grpc as ingest_rpc

log = structlog.get_logger()

PAGE_BLOCKS = 500
GROUP_EVENTS = 10_000
"""Events that are taken in between two looks at the clock."""
READ_SECONDS = 30.0
_FIRST_PATIENCE = 0.1
_LONGEST_PATIENCE = 5.0
_LINGER_SECONDS = 0.05
"""Pause after a read, so that blocks that arrive one by one are read several at a time."""


@dataclass(frozen=True, slots=True)
class Page:
    """Blocks as they were read; `complete` when there were no more of those acknowledged before `asked_at` (nanoseconds since 1970)."""

    blocks: list[ingest.Block]
    next: str
    asked_at: int
    complete: bool

    @property
    def as_of(self) -> int:
        """Everything acknowledged before this moment lies before the end of the page."""
        if self.complete or not self.blocks:
            return self.asked_at
        return self.blocks[-1].created_at.ToNanoseconds()


class Feed:
    """Follows the feed of blocks for one engine. There is one in a process, and it is the only one that writes."""

    def __init__(self, settings: SearchSettings, blocks: ingest_rpc.IngestServiceAsyncStub, engine: Engine, wake: Wake) -> None:
        self._blocks = blocks
        self._engine = engine
        self._wake = wake
        self._commit_interval = settings.index_commit_interval.total_seconds()
        self._longest_interval = settings.index_longest_commit_interval.total_seconds()
        self._poll_interval = settings.feed_poll_interval.total_seconds()
        self._page_bytes = settings.feed_page_bytes
        self.cursor = engine.position
        """Position up to which blocks were read."""
        self.as_of = 0
        """Everything acknowledged before this moment can be found, nanoseconds since 1970; 0 while that is not known."""
        self._patience = 0.0
        self._dirty_since: float | None = None
        """When the oldest block was read that is not committed, on the monotonic clock."""

    @property
    def lag_seconds(self) -> float:
        """Age of the newest moment that the index covers."""
        return max(0, time_ns() - self.as_of) / 1e9

    async def run(self) -> None:
        """Follows the feed for ever. When a part is away or the engine fails, starts again from what is durable."""
        while True:
            try:
                await self._follow()
            except (ElisError, OSError, ValueError, RuntimeError) as error:
                if not self._patience:
                    log.warning("feed of blocks interrupted", reason=str(error), kind=type(error).__name__)
                self._patience = min(_LONGEST_PATIENCE, self._patience * 2 or _FIRST_PATIENCE)
                await self._engine.rollback()
                await asyncio.sleep(self._patience)

    async def _follow(self) -> None:
        self.cursor = self._engine.position
        self._dirty_since = None
        seen = self._wake.count
        reading = asyncio.create_task(read_page(self._blocks, self.cursor, self._page_bytes))
        try:
            while True:
                page = await reading
                if page.complete:
                    await self._commit_if_due(page.asked_at)
                    await self._wake.wait(seen, self._time_to_wait())
                    await asyncio.sleep(_LINGER_SECONDS)
                # The next page is on its way while this one is indexed.
                seen = self._wake.count
                reading = asyncio.create_task(read_page(self._blocks, page.next, self._page_bytes))
                for group in _cut(page.blocks):
                    await self._engine.index([LineBlock(block.id, block.day, block.lines) for block in group])
                    await self._advance(group[-1].cursor, group[-1].created_at.ToNanoseconds())
                if page.next != self.cursor:
                    await self._advance(page.next, page.asked_at)
        finally:
            reading.cancel()

    async def _advance(self, cursor: str, as_of: int) -> None:
        self.cursor = cursor
        self._dirty_since = self._dirty_since or monotonic()
        await self._commit_if_due(as_of)

    async def _commit_if_due(self, as_of: int) -> None:
        """Commits what waits for long enough; everything acknowledged before `as_of` was read."""
        interval = stretch_interval((time_ns() - as_of) / 1e9, self._commit_interval, self._longest_interval)
        if self._dirty_since is not None and monotonic() - self._dirty_since >= interval:
            await self._engine.commit(self.cursor)
            self._dirty_since = None
        if self._dirty_since is None:
            self.as_of = max(self.as_of, as_of)
            self._recover()

    def _time_to_wait(self) -> float:
        """Returns the seconds until there is something to do, even if nothing is announced."""
        if self._dirty_since is None:
            return self._poll_interval
        return max(0.0, min(self._poll_interval, self._dirty_since + self._commit_interval - monotonic()))

    def _recover(self) -> None:
        if self._patience:
            log.info("feed of blocks is read again")
            self._patience = 0.0


def stretch_interval(age: float, shortest: float, longest: float) -> float:
    """Returns the seconds between two commits while what is read is so many seconds old: late events wait as long again, within bounds."""
    return max(shortest, min(longest, age))


def _cut(blocks: Sequence[ingest.Block]) -> Iterator[list[ingest.Block]]:
    """Yields a page in groups: long enough to be worth a change of day, short enough for a commit in between."""
    group: list[ingest.Block] = []
    events = 0
    for block in blocks:
        group.append(block)
        events += block.events
        if events >= GROUP_EVENTS:
            yield group
            group, events = [], 0
    if group:
        yield group


async def read_page(blocks: ingest_rpc.IngestServiceAsyncStub, after: str, max_bytes: int) -> Page:
    """Reads the blocks after a cursor."""
    asked_at = time_ns()
    request = ingest.ListBlocksRequest(after=after, limit=PAGE_BLOCKS, with_lines=True, max_bytes=max_bytes)
    response: ingest.ListBlocksResponse = await blocks.ListBlocks(request, timeout=READ_SECONDS)
    if response.HasField("complete_until"):
        asked_at = min(asked_at, response.complete_until.ToNanoseconds())
    return Page(list(response.blocks), response.next, asked_at, complete=response.next == after)
