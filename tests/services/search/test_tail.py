"""Live tails: what arrives, what is left out, and how to come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from elis.search.v1 import search_pb2 as pb
from kit.errors import RateLimited
from services.search.lines import Line
from tests.services.search.corpus import NOON
from tests.services.search.stage import Stage, until_found

if TYPE_CHECKING:
    from tests.services.search.stage import SearchStub


def some(count: int, word: str = "red") -> list[dict[str, Any]]:
    return [{"timestamp": NOON + n, "body": f"{word} {n}"} for n in range(count)]


def ids(lines: Sequence[Line]) -> list[int]:
    return [line.event_id for line in lines]


async def take(stream: AsyncIterator[pb.TailResponse], count: int) -> tuple[list[int], str]:
    """Returns the ids of the next events and the cursor after them; skips heartbeats."""
    found: list[int] = []
    cursor = ""
    async with asyncio.timeout(10):
        async for response in stream:
            assert not response.HasField("gap")
            found += [event.event_id for event in response.events.events]
            cursor = response.events.cursor or cursor
            if len(found) >= count:
                break
    return found, cursor


async def started(search: SearchStub, request: pb.TailRequest) -> AsyncIterator[pb.TailResponse]:
    """Returns a stream whose tail is at its place (it has said so by a heartbeat)."""
    stream: AsyncIterator[pb.TailResponse] = search.Tail(request).__aiter__()
    async with asyncio.timeout(10):
        assert (await anext(stream)).HasField("heartbeat")
    return stream


async def test_matching_events_arrive_as_they_are_committed(stage: Stage) -> None:
    await stage.log.commit(some(10))
    async with stage.search(tail_heartbeat_interval=timedelta(milliseconds=200)) as search:
        await until_found(search, 10)
        stream = await started(search, pb.TailRequest(filter=pb.Filter(query="red", min_severity=9)))
        await stage.log.commit(some(5, "green"))
        lines = await stage.log.commit(some(120), size=30)
        found, _ = await take(stream, 120)
        assert found == ids(lines)


async def test_a_quiet_tail_says_that_it_is_alive(stage: Stage) -> None:
    await stage.log.commit(some(1))
    async with stage.search(tail_heartbeat_interval=timedelta(milliseconds=100)) as search:
        await until_found(search, 1)
        stream = await started(search, pb.TailRequest())
        first, second = [(await anext(stream)).heartbeat.ToNanoseconds() for _ in range(2)]
        assert stage.log.blocks[-1].created_at.ToNanoseconds() < first < second


async def test_a_tail_that_comes_back_misses_and_repeats_nothing(stage: Stage) -> None:
    async with stage.search(tail_heartbeat_interval=timedelta(milliseconds=100)) as search:
        stream = await started(search, pb.TailRequest(filter=pb.Filter(query="red")))
        first = await stage.log.commit(some(700), size=700)
        found, cursor = await take(stream, 1)
        assert len(found) < 700, "a message holds a part of the block, so the cursor lies inside it"
        second = await stage.log.commit([*some(10, "green"), *some(60)], size=20)
        resumed = search.Tail(pb.TailRequest(filter=pb.Filter(query="red"), after=cursor)).__aiter__()
        expected = ids(first)[len(found) :] + [line.event_id for line in second if "red" in line.body]
        more, cursor = await take(resumed, len(expected))
        assert more == expected
        third = await stage.log.commit(some(3))
        assert (await take(resumed, 3))[0] == ids(third)
        again, _ = await take(search.Tail(pb.TailRequest(filter=pb.Filter(query="red"), after=cursor)).__aiter__(), 3)
        assert again == ids(third)


async def test_a_slow_tail_is_told_what_it_missed(stage: Stage) -> None:
    async with stage.search(tail_queue_events=100, tail_heartbeat_interval=timedelta(milliseconds=100)) as search:
        call = search.Tail(pb.TailRequest())
        stream = call.__aiter__()
        assert (await anext(stream)).HasField("heartbeat")
        text = "x" * 40_000
        lines: list[Line] = []
        for _ in range(8):
            lines += await stage.log.commit([{"timestamp": NOON + n, "body": f"{n} {text}"} for n in range(50)])
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)
        found: list[int] = []
        gaps: list[pb.TailResponse.Gap] = []
        async with asyncio.timeout(10):
            async for response in stream:
                found += [event.event_id for event in response.events.events]
                if response.HasField("gap"):
                    gaps.append(response.gap)
                if gaps and response.HasField("heartbeat"):
                    break
        assert len(found) + sum(gap.dropped for gap in gaps) == len(lines)
        assert 0 < len(found) < len(lines)
        missed = ids(lines)[len(found) :]
        resumed, _ = await take(search.Tail(pb.TailRequest(after=gaps[0].resume_cursor)).__aiter__(), gaps[0].dropped)
        assert resumed[: gaps[0].dropped] == missed[: gaps[0].dropped]


async def test_tails_at_the_same_place_share_their_reads(stage: Stage) -> None:
    async with stage.search(feed_poll_interval=timedelta(seconds=30), tail_heartbeat_interval=timedelta(milliseconds=200)) as search:
        streams = [await started(search, pb.TailRequest()) for _ in range(10)]
        before = stage.log.reads
        lines = await stage.log.commit(some(20))
        for stream in streams:
            assert (await take(stream, 20))[0] == ids(lines)
        assert stage.log.reads - before < 10


async def test_too_many_tails_are_refused(stage: Stage) -> None:
    async with stage.search(tail_limit=2, tail_heartbeat_interval=timedelta(milliseconds=50)) as search:
        streams = [search.Tail(pb.TailRequest()) for _ in range(2)]
        for stream in streams:
            await anext(stream.__aiter__())
        with pytest.raises(RateLimited, match="2 live tails"):
            await anext(search.Tail(pb.TailRequest()).__aiter__())


async def test_an_outage_of_ingest_only_pauses_a_tail(stage: Stage) -> None:
    async with stage.search(tail_heartbeat_interval=timedelta(milliseconds=100)) as search:
        stream = await started(search, pb.TailRequest())
        stage.log.down = True
        lines = await stage.log.commit(some(5))
        await asyncio.sleep(0.3)
        stage.log.down = False
        assert (await take(stream, 5))[0] == ids(lines)


async def test_a_tail_starts_at_the_newest_block_while_the_index_lags(stage: Stage) -> None:
    """While the feed of blocks cannot be read, the announcement still tells the newest block."""
    old = await stage.log.commit(some(10))
    stage.log.down = True
    async with stage.search(tail_heartbeat_interval=timedelta(milliseconds=100)) as search:
        stream = await started(search, pb.TailRequest())
        stage.log.down = False
        lines = await stage.log.commit(some(5, "new"))
        found, _ = await take(stream, 5)
        assert found == ids(lines)
        assert not set(found) & set(ids(old))
