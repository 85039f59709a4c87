"""One replica holds the lease; one that lost it without noticing cannot write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from kit.db import unit_of_work
from services.correlate.lease import Lease, LeaseLost
from tests.services.correlate.stage import eventually


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(database_url.replace("postgresql://", "postgresql+asyncpg://", 1))
    yield engine
    await engine.dispose()


def lease(database_url: str, holder: str) -> Lease:
    return Lease(database_url, "test", 99, holder, patience=0.05)


async def test_the_second_waits_until_the_first_lets_go(database_url: str) -> None:
    events: list[str] = []

    async def second() -> None:
        async with lease(database_url, "two").hold() as hold:
            events.append(f"two has {hold.token}")

    async with lease(database_url, "one").hold() as hold:
        waiting = asyncio.create_task(second())
        await asyncio.sleep(0.3)
        events.append(f"one has {hold.token}")
    await waiting
    assert events == ["one has 1", "two has 2"]


async def test_a_holder_that_was_passed_over_cannot_write(database_url: str, engine: AsyncEngine) -> None:
    async with lease(database_url, "one").hold() as old:
        async with unit_of_work(engine) as session:
            await old.fence(session)
        # The connection breaks while the holder is busy elsewhere: PostgreSQL gives the lock to the next.
        async with unit_of_work(engine) as session:
            connection = await session.connection()
            await connection.exec_driver_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'elis-correlate-lease-test'")
        async with lease(database_url, "two").hold() as new:
            assert new.token == old.token + 1
            with pytest.raises(LeaseLost):
                async with unit_of_work(engine) as session:
                    await old.fence(session)
            async with unit_of_work(engine) as session:
                await new.fence(session)


async def test_a_write_under_way_is_not_overtaken(database_url: str, engine: AsyncEngine) -> None:
    async with lease(database_url, "one").hold() as old:
        async with unit_of_work(engine) as session:
            await old.fence(session)
            old.connection.terminate()
            taken: list[int] = []

            async def take() -> None:
                async with lease(database_url, "two").hold() as hold:
                    taken.append(hold.token)

            waiting = asyncio.create_task(take())
            await asyncio.sleep(0.3)
            assert taken == []

        async def done() -> bool:
            return taken == [2]

        await eventually(done)
        await waiting
        with pytest.raises(LeaseLost):
            old.check()
