"""What has come at this time before is the season; the roll-ups remember it. Old roll-ups go in batches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from kit.db import unit_of_work
from services.correlate.detectors.base import Observation
from services.correlate.dimensions import Dimensions
from services.correlate.retention import Retention
from services.correlate.rollups import AtCursor, Rollups
from services.correlate.scene import Track
from services.correlate.seasons import DAY, RollupSeasons
from services.correlate.settings import CorrelateSettings
from tests.services.correlate.peer import MINUTE, START, Log

NOW = START // MINUTE


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=2) as pool:
        yield pool


async def count(pool: asyncpg.Pool, *rows: tuple[int, int]) -> int:
    """Counts events of one service at (minute, number); returns its template."""
    log = Log()
    for minute, number in rows:
        log.add({"timestamp": minute * MINUTE, "source": "job", "service": "job", "body": "record archived"} for _ in range(number))
    await Rollups(pool, Dimensions(pool)).count(log.blocks, AtCursor(""))
    template: int = await pool.fetchval("SELECT id FROM correlate.template")
    return template


def observation(template: int, expected: float, observed: float) -> Observation:
    track = Track("application", "job", "job", template, 9)
    return Observation("volume_spike", "application", "job", "job", None, 0, NOW - 1, NOW, expected, observed, 20.0, 0.5, "", "", (track,))


async def explained(pool: asyncpg.Pool, found: Observation) -> bool:
    return await RollupSeasons(pool).sift([found]) == []


async def test_a_job_that_ran_on_two_days_before_is_the_season(pool: asyncpg.Pool) -> None:
    template = await count(pool, (NOW - 2 * DAY - 4, 90), (NOW - DAY + 6, 110), (NOW, 100), (NOW - 3 * DAY, 1))
    assert await explained(pool, observation(template, 2, 100))
    assert not await explained(pool, observation(template, 2, 900))


async def test_what_came_once_among_many_days_is_none(pool: asyncpg.Pool) -> None:
    template = await count(pool, (NOW - 6 * DAY, 1), (NOW - 2 * DAY, 110), (NOW, 100))
    assert not await explained(pool, observation(template, 2, 100))


async def test_the_same_weekday_a_week_ago_is_enough(pool: asyncpg.Pool) -> None:
    template = await count(pool, (NOW - 8 * DAY, 1), (NOW - 7 * DAY, 110), (NOW, 100))
    assert await explained(pool, observation(template, 2, 100))


async def test_a_quiet_night_is_no_drop(pool: asyncpg.Pool) -> None:
    template = await count(pool, (NOW - 3 * DAY, 20), (NOW - 2 * DAY, 4), (NOW - DAY, 6), (NOW, 5))
    assert await explained(pool, observation(template, 90, 5))


async def test_within_the_first_day_nothing_is_known(pool: asyncpg.Pool) -> None:
    template = await count(pool, (NOW - 100, 50), (NOW, 100))
    assert not await explained(pool, observation(template, 2, 100))


async def test_old_rollups_go_in_batches(pool: asyncpg.Pool, database_url: str) -> None:
    recent = int((datetime.now(UTC) - timedelta(days=2)).timestamp()) // 60
    await count(pool, (recent - 50 * DAY, 1), (recent - 40 * DAY, 1), (recent, 1))
    settings = CorrelateSettings(database_url=database_url, redis_url="redis://nowhere", service_secret="s" * 32, rollup_retention=timedelta(days=30))
    engine = create_async_engine(database_url.replace("postgresql://", "postgresql+asyncpg://", 1))
    left = []
    for _ in range(3):
        async with unit_of_work(engine) as session:
            await Retention(settings).apply(session)
        left.append(await pool.fetchval("SELECT count(*) FROM correlate.roll_up"))
    await engine.dispose()
    assert left == [2, 1, 1]
