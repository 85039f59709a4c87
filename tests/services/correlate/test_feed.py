"""The feed counts every block once, whatever is delivered how often, and goes on when its parts return."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from elis.correlate.v1 import correlate_pb2 as pb
from tests.services.correlate.peer import MINUTE, START, events
from tests.services.correlate.stage import Stage, eventually

if TYPE_CHECKING:
    from tests.services.correlate.stage import CorrelateStub


async def announce(stage: Stage, *ids: int) -> None:
    async with Redis.from_url(stage.redis_url) as redis:
        for number in ids:
            await redis.xadd("elis:blocks", {"id": number, "cursor": "unused"})


async def count(correlate: CorrelateStub) -> int:
    request = pb.GetStatisticsRequest(start=START, end=START + 600 * MINUTE)
    response: pb.GetStatisticsResponse = await correlate.GetStatistics(request)
    return response.total.events


def some_block(stage: Stage, number: int, size: int = 10) -> None:
    stage.log.add(events(*((number * 7 + second, "shop", f"order {second % 3} placed", 9) for second in range(size))))


async def test_a_block_that_is_announced_three_times_counts_once(stage: Stage) -> None:
    some_block(stage, 0)
    async with stage.correlate() as correlate:
        await announce(stage, 1, 1)
        await eventually(lambda: count(correlate))
        await announce(stage, 1)
        await asyncio.sleep(0.3)
        assert await count(correlate) == 10


async def test_blocks_without_announcement_are_found(stage: Stage) -> None:
    for number in range(5):
        some_block(stage, number)
    async with stage.correlate() as correlate:
        await eventually(lambda: _equals(correlate, 50))
        some_block(stage, 5)
        await eventually(lambda: _equals(correlate, 60))


async def test_replicas_in_parallel_count_everything_once(stage: Stage) -> None:
    async with AsyncExitStack() as running:
        correlates = [await running.enter_async_context(stage.correlate()) for _ in range(3)]
        for number in range(200):
            some_block(stage, number)
            if number % 3:
                await announce(stage, *[number + 1] * (number % 2 + 1))
        await eventually(lambda: _equals(correlates[0], 2000), timeout=20)
        await asyncio.sleep(0.3)
        assert await count(correlates[1]) == 2000
        [(total,)] = await stage.fetch("SELECT sum(events)::int FROM correlate.fingerprint_total")
        assert total == 2000


async def test_the_feed_goes_on_when_ingest_returns(stage: Stage) -> None:
    async with stage.correlate() as correlate:
        some_block(stage, 0)
        await eventually(lambda: _equals(correlate, 10))
        stage.log.down = True
        some_block(stage, 1)
        await announce(stage, 2)
        await asyncio.sleep(0.3)
        assert await count(correlate) == 10
        stage.log.down = False
        await eventually(lambda: _equals(correlate, 20))


async def test_the_feed_needs_no_redis(stage: Stage) -> None:
    async with stage.correlate(redis_url="redis://127.0.0.1:1/0") as correlate:
        some_block(stage, 0)
        await eventually(lambda: _equals(correlate, 10))


async def test_the_feed_survives_a_flushed_redis(stage: Stage) -> None:
    async with stage.correlate() as correlate, Redis.from_url(stage.redis_url) as redis:
        some_block(stage, 0)
        await eventually(lambda: _equals(correlate, 10))
        await redis.flushall()
        some_block(stage, 1)
        await eventually(lambda: _equals(correlate, 20))


async def test_a_restarted_process_goes_on_where_it_was(stage: Stage) -> None:
    some_block(stage, 0)
    async with stage.correlate() as correlate:
        await eventually(lambda: _equals(correlate, 10))
    some_block(stage, 1)
    async with stage.correlate() as correlate:
        await eventually(lambda: _equals(correlate, 20))


async def test_a_late_announcement_of_a_forgotten_block_adds_nothing(stage: Stage) -> None:
    some_block(stage, 0)
    async with stage.correlate() as correlate:
        await eventually(lambda: _equals(correlate, 10))
        await stage.fetch("DELETE FROM correlate.done_block")
        async with Redis.from_url(stage.redis_url) as redis:
            await redis.xadd("elis:blocks", {"id": 1, "cursor": "unused"}, id="1000-0")
        await asyncio.sleep(0.5)
        assert await count(correlate) == 10


async def test_a_summary_that_makes_no_sense_does_not_stop_the_feed(stage: Stage) -> None:
    some_block(stage, 0)
    stage.log.blocks[0].summary.source[0] = 99
    some_block(stage, 1)
    async with stage.correlate() as correlate:
        await eventually(lambda: _equals(correlate, 10))


async def test_names_that_postgresql_cannot_hold_are_counted_all_the_same(stage: Stage) -> None:
    stage.log.add([{"timestamp": START, "source": "a\x00b", "service": "s" * 9000, "body": "nul \x00"}])
    async with stage.correlate() as correlate:
        await eventually(lambda: _equals(correlate, 1))


async def _equals(correlate: CorrelateStub, wanted: int) -> bool:
    return await count(correlate) == wanted
