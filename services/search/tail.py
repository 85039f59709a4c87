"""Live tails: events that match, as they arrive.

Every tail follows the feed of blocks by a cursor of its own, so that one that comes back continues exactly where it
stopped. Tails at the same place share one read and one decoding of it. A tail that catches up waits for its reader;
a live one whose reader is too slow leaves events out and says so.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from elis.ingest.v1 import ingest_pb2 as ingest
from elis.search.v1 import search_pb2 as pb
from kit.errors import ElisError, RateLimited
from kit.paging import decode_token, encode_token
from services.search.feed import READ_SECONDS, Feed, read_page
from services.search.lines import ORDINAL_BITS, Line, decode_line, split_lines, to_event, to_timestamp
from services.search.matcher import Candidate, Predicate, compile_selection
from services.search.selection import Selection
from services.search.settings import SearchSettings
from services.search.wake import Wake

if TYPE_CHECKING:
    from elis.ingest.v1 import ingest_pb2_grpc as ingest_rpc

log = structlog.get_logger()

STREAM = "elis:blocks"
_PAGE_BYTES = 256 * 1024
_CACHED_PAGES = 4
_MESSAGE_EVENTS = 500
_MESSAGE_BYTES = 2 * 1024 * 1024
_QUEUE_BYTES = 16 * 1024 * 1024
_LINE_BYTES = 300
"""About what an event takes besides body and attributes."""
_SLICE = 2_000
"""Events that are matched before other work gets its turn."""
_FRESH_SECONDS = 3.0
_PATIENCE_SECONDS = 1.0
_LINGER_SECONDS = 0.02
_START_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Cursor:
    """Place of a tail: after the block at `feed`, and in the block that follows after `ordinal`."""

    feed: str
    block: int = -1
    ordinal: int = -1

    def encode(self) -> str:
        """Returns the opaque text of the cursor."""
        return encode_token(self.feed, self.block, self.ordinal)

    @classmethod
    def decode(cls, token: str) -> Cursor | None:
        """Returns the cursor of a text; None for the empty one. Raises InvalidArgument."""
        parts = decode_token(token, str, int, int)
        return cls(*parts) if parts else None


@dataclass(frozen=True, slots=True)
class LiveBlock:
    """A block with its events decoded."""

    id: int
    before: str
    """Feed cursor before the block."""
    after: str
    candidates: list[Candidate]


@dataclass(frozen=True, slots=True)
class LivePage:
    """What lay after a cursor; `complete` when that is nothing. Everything acknowledged before `as_of` lies before its end."""

    blocks: list[LiveBlock]
    next: str
    as_of: int
    complete: bool


@dataclass(frozen=True, slots=True)
class _Batch:
    """Matching events of one block, and the place after the last of them."""

    lines: list[Line]
    cursor: Cursor
    size: int
    """About how many bytes it takes."""


class SharedReader:
    """Reads the feed for all tails: one call for those at the same place, the newest pages remembered."""

    def __init__(self, blocks: ingest_rpc.IngestServiceAsyncStub) -> None:
        self._blocks = blocks
        self._pages: OrderedDict[str, asyncio.Task[LivePage]] = OrderedDict()

    async def read(self, after: str) -> LivePage:
        """Returns the page after a feed cursor."""
        task = self._pages.get(after)
        if task is None:
            task = self._pages[after] = asyncio.create_task(self._read(after))
            task.add_done_callback(lambda done: self._keep(after, done))
        # One tail that goes away must not take the page from the others.
        return await asyncio.shield(task)

    def _keep(self, after: str, task: asyncio.Task[LivePage]) -> None:
        if task.cancelled() or task.exception() is not None or task.result().complete:
            self._pages.pop(after, None)
        while len(self._pages) > _CACHED_PAGES:
            self._pages.popitem(last=False)

    async def _read(self, after: str) -> LivePage:
        page = await read_page(self._blocks, after, _PAGE_BYTES)
        blocks = []
        before = after
        for block in page.blocks:
            blocks.append(LiveBlock(block.id, before, block.cursor, await asyncio.to_thread(_decode, block.lines)))
            before = block.cursor
        return LivePage(blocks, page.next, page.as_of, page.complete)


def _decode(compressed: bytes) -> list[Candidate]:
    candidates = []
    for line in split_lines(compressed):
        try:
            candidates.append(Candidate(decode_line(line)))
        except msgspec.DecodeError as error:
            log.error("line not canonical", reason=str(error))
    return candidates


class Tails:
    """The live tails of this process."""

    def __init__(self, settings: SearchSettings, blocks: ingest_rpc.IngestServiceAsyncStub, feed: Feed, wake: Wake, redis: Redis) -> None:
        self._settings = settings
        self._blocks = blocks
        self._reader = SharedReader(blocks)
        self._feed = feed
        self._wake = wake
        self._redis = redis
        self._count = 0

    async def follow(self, selection: Selection, after: str) -> AsyncIterator[pb.TailResponse]:
        """Yields matching events, gaps and heartbeats until the caller goes; raises RateLimited when there are too many tails."""
        given = Cursor.decode(after)
        if self._count >= self._settings.tail_limit:
            raise RateLimited(f"there are {self._count} live tails already; try again later", retry_after=10.0)
        self._count += 1
        pump: asyncio.Task[None] | None = None
        try:
            start = given or Cursor(await self._now())
            tail = _Tail(compile_selection(selection), start, 0 if given else self._feed.as_of, self._settings.tail_queue_events)
            pump = asyncio.create_task(self._pump(tail))
            while True:
                yield await self._next(tail, pump)
        finally:
            self._count -= 1
            if pump is not None:
                pump.cancel()

    async def _next(self, tail: _Tail, pump: asyncio.Task[None]) -> pb.TailResponse:
        """Returns what comes next: queued events, then a gap, then a heartbeat when nothing else comes for long."""
        heartbeat = self._settings.tail_heartbeat_interval.total_seconds()
        waiting = asyncio.create_task(tail.filled.wait())
        try:
            await asyncio.wait([waiting, pump], timeout=heartbeat, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not tail.filled.is_set():
            if pump.done():
                await pump
            return pb.TailResponse(heartbeat=to_timestamp(tail.as_of))
        return tail.take()

    async def _pump(self, tail: _Tail) -> None:
        """Moves a tail along the feed."""
        away = False
        while True:
            seen = self._wake.count
            try:
                page = await self._reader.read(tail.cursor.feed)
            except ElisError as error:
                if not away:
                    log.warning("live tail waits for the feed", reason=error.message)
                away = True
                await asyncio.sleep(_PATIENCE_SECONDS)
                continue
            away = False
            for block in page.blocks:
                await tail.offer(block)
            tail.pass_over(page.next)
            tail.as_of = page.as_of
            if page.complete:
                tail.live = True
                await self._wake.wait(seen, self._settings.feed_poll_interval.total_seconds())
                await asyncio.sleep(_LINGER_SECONDS)

    async def _now(self) -> str:
        """Returns the feed cursor of this moment: where the index reads, or, when that lags, the newest announced block."""
        if self._feed.lag_seconds < _FRESH_SECONDS:
            return self._feed.cursor
        try:
            async with asyncio.timeout(_START_SECONDS):
                entries: Any = await self._redis.xrevrange(STREAM, count=1)
            if entries:
                request = ingest.GetBlocksRequest(ids=[int(entries[0][1][b"id"])])
                response: ingest.GetBlocksResponse = await self._blocks.GetBlocks(request, timeout=READ_SECONDS)
                if response.blocks:
                    return response.blocks[0].cursor
        except (RedisError, OSError, ElisError) as error:
            log.info("newest announced block not known; the tail starts where the index reads", reason=repr(error))
        return self._feed.cursor


class _Tail:
    """One tail: its place, its bounded queue, and what it had to leave out."""

    def __init__(self, matches: Predicate, cursor: Cursor, as_of: int, capacity: int) -> None:
        self.cursor = cursor
        self.live = False
        """Whether it has caught up: from then on it does not wait for its reader."""
        self.as_of = as_of
        """Everything acknowledged before this moment was looked at, nanoseconds since 1970."""
        self.filled = asyncio.Event()
        self._taken = asyncio.Event()
        self._matches = matches
        self._capacity = capacity
        self._queue: deque[_Batch] = deque()
        self._events = 0
        self._bytes = 0
        self._dropped = 0
        self._resume = cursor

    def pass_over(self, feed: str) -> None:
        """Moves past everything up to a feed cursor."""
        if feed != self.cursor.feed:
            self.cursor = Cursor(feed)

    async def offer(self, block: LiveBlock) -> None:
        """Queues the events of a block that match and lie after the cursor."""
        skip = self.cursor.ordinal if self.cursor.block == block.id else -1
        candidates = block.candidates
        for start in range(0, len(candidates), _SLICE):
            found = [candidate.line for candidate in candidates[start : start + _SLICE] if self._matches(candidate)]
            for batch in _batch([line for line in found if _ordinal(line) > skip], block):
                await self._put(batch)
            await asyncio.sleep(0)
        self.cursor = Cursor(block.after)

    async def _put(self, batch: _Batch) -> None:
        while not self.live and self._queue and self._is_full(batch):
            self._taken.clear()
            await self._taken.wait()
        if self._dropped or (self._queue and self._is_full(batch)):
            if not self._dropped:
                self._resume = self.cursor
            self._dropped += len(batch.lines)
        else:
            self._queue.append(batch)
            self._events += len(batch.lines)
            self._bytes += batch.size
        self.cursor = batch.cursor
        self.filled.set()

    def _is_full(self, batch: _Batch) -> bool:
        return self._events + len(batch.lines) > self._capacity or self._bytes + batch.size > _QUEUE_BYTES

    def take(self) -> pb.TailResponse:
        """Returns the oldest queued events, or the gap after them."""
        if self._queue:
            batch = self._queue.popleft()
            self._events -= len(batch.lines)
            self._bytes -= batch.size
            response = pb.TailResponse(events=pb.TailEvents(events=map(to_event, batch.lines), cursor=batch.cursor.encode()))
        else:
            response = pb.TailResponse(gap=pb.TailResponse.Gap(dropped=self._dropped, resume_cursor=self._resume.encode()))
            self._dropped = 0
        if not self._queue and not self._dropped:
            self.filled.clear()
        self._taken.set()
        return response


def _ordinal(line: Line) -> int:
    return line.event_id & ((1 << ORDINAL_BITS) - 1)


def _batch(lines: list[Line], block: LiveBlock) -> list[_Batch]:
    """Cuts matching events of a block into messages of bounded size."""
    batches: list[_Batch] = []
    part: list[Line] = []
    size = 0
    for number, line in enumerate(lines, 1):
        part.append(line)
        size += len(line.body) + len(bytes(line.attributes)) + _LINE_BYTES
        if len(part) == _MESSAGE_EVENTS or size >= _MESSAGE_BYTES or number == len(lines):
            batches.append(_Batch(part, Cursor(block.before, block.id, _ordinal(line)), size))
            part, size = [], 0
    return batches
