"""The recent counts follow the roll-ups: what was read is read again only when it has changed, and no change is missed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from services.correlate.analysis import Analyst
from services.correlate.dimensions import Dimensions
from services.correlate.history import History
from services.correlate.miner import Miner
from services.correlate.recent import RecentCounts
from services.correlate.rollups import AtCursor, Rollups
from services.correlate.topology import Topology
from tests.services.correlate.bench import BlockReader
from tests.services.correlate.peer import MINUTE, START, Log

NOW = START // MINUTE


class Scene:
    """Roll-ups, and the recent counts of one replica."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool
        self._log = Log()
        self._rollups = Rollups(pool, Dimensions(pool))
        self.analyst = Analyst(History(400), BlockReader(), Topology())
        self.recent = RecentCounts(pool, self.analyst, Miner())

    async def count(self, *rows: tuple[int, int]) -> None:
        """Counts (minute, number) of one service."""
        blocks = [
            self._log.add({"timestamp": minute * MINUTE, "source": "job", "service": "job", "body": "record archived"} for _ in range(number))
            for minute, number in rows
        ]
        await self._rollups.count(blocks, AtCursor(""))

    def known(self, first: int, last: int) -> list[int]:
        """Returns the events of each minute as the analyst has them."""
        tracks = self.analyst.history.tracks_of(("application", "job"), None, 0, 24)
        return [self.analyst.history.count(tracks, minute, minute) for minute in range(first, last + 1)]


@pytest.fixture
async def scene(database_url: str) -> AsyncIterator[Scene]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=3) as pool:
        yield Scene(pool)


async def test_only_minutes_that_are_new_or_changed_are_given(scene: Scene) -> None:
    await scene.count((NOW, 3), (NOW + 2, 5))
    assert await scene.recent.load(NOW - 1, NOW + 2) == [NOW, NOW + 2]
    assert await scene.recent.load(NOW - 1, NOW + 2) == []
    await scene.count((NOW, 1), (NOW + 3, 2), (NOW + 5, 7))
    assert await scene.recent.load(NOW - 1, NOW + 4) == [NOW, NOW + 3]
    assert scene.known(NOW, NOW + 5) == [4, 0, 5, 2, 0, 0]
    assert await scene.recent.load(NOW - 1, NOW + 5) == [NOW + 5]
    assert scene.known(NOW, NOW + 5) == [4, 0, 5, 2, 0, 7]


async def test_a_minute_that_was_counted_before_it_came_into_sight_is_read_then(scene: Scene) -> None:
    await scene.count((NOW, 3), (NOW + 10, 5))
    await scene.recent.load(NOW - 1, NOW)
    await scene.recent.load(NOW - 1, NOW)
    assert await scene.recent.load(NOW - 1, NOW + 10) == [NOW + 10]
    assert scene.known(NOW + 9, NOW + 10) == [0, 5]


async def test_a_change_that_ends_after_a_later_one_is_not_missed(scene: Scene) -> None:
    await scene.count((NOW, 3), (NOW + 1, 3))
    await scene.recent.load(NOW - 1, NOW + 1)
    async with scene.pool.acquire() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("UPDATE correlate.roll_up SET events = events + 10 WHERE minute = $1", NOW)
        await slow.execute("UPDATE correlate.minute_change SET changed_in = pg_current_xact_id()::text::bigint WHERE minute = $1", NOW)
        await scene.count((NOW + 1, 2))
        assert await scene.recent.load(NOW - 1, NOW + 1) == [NOW + 1]
        await scene.count((NOW + 1, 2))
        assert await scene.recent.load(NOW - 1, NOW + 1) == [NOW + 1]
        await transaction.commit()
    assert await scene.recent.load(NOW - 1, NOW + 1) == [NOW]
    assert scene.known(NOW, NOW + 1) == [13, 7]
    assert await scene.recent.load(NOW - 1, NOW + 1) == []
