"""Retention: what is kept, what goes, and that neither readers nor writers notice, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import orjson
import pytest

from elis.ingest.v1 import retention_pb2, retention_pb2_grpc, sources_pb2, sources_pb2_grpc
from kit.db import open_pool
from kit.errors import InvalidArgument, PermissionDenied
from kit.server import Application, Servicer
from services.ingest.batch import Batch
from services.ingest.blocks import decompress_lines, get_events, list_blocks
from services.ingest.intake import Intake
from services.ingest.partitions import Partition, Partitions, current_day, held_partitions
from services.ingest.retention import RETENTION_LOCK, Retention
from services.ingest.retention_rpc import RetentionServicer
from services.ingest.settings import IngestSettings
from services.ingest.sources import SourceBook
from services.ingest.sources_rpc import SourceServicer
from tests.fixtures.callers import Issuer
from tests.fixtures.servers import run_service
from tests.services.ingest.conftest import ARRIVAL

DAY = 86_400 * 10**9
KEEP = 30


@pytest.fixture
def retention(pool: asyncpg.Pool[Any]) -> Retention:
    """Retention on this test's database."""
    return Retention(pool, Partitions(KEEP), retention_days=KEEP, rejected_days=KEEP)


async def store(intake: Intake, age: int, *bodies: str, source: str = "shop") -> None:
    """Stores events that happened so many days ago."""
    batch = Batch()
    for number, body in enumerate(bodies):
        batch.append(body, source=source, timestamp=(current_day() - age) * DAY + number)
    outcome = await intake.take(batch, ARRIVAL, default_system="application")
    assert outcome.accepted == len(bodies)


async def age(pool: asyncpg.Pool[Any], days: int) -> None:
    """Lets all that is stored have arrived so many days earlier."""
    await pool.execute("UPDATE ingest.blocks SET created_at = created_at - make_interval(days => $1)", days)


async def bodies_of(pool: asyncpg.Pool[Any], after: str = "") -> list[str]:
    blocks, _ = await list_blocks(pool, after, limit=1000, with_lines=True, with_summary=False, max_bytes=1 << 30)
    return sorted(orjson.loads(line)["body"] for block in blocks for line in decompress_lines(block.lines).splitlines())


async def partitions(pool: asyncpg.Pool[Any]) -> list[Partition]:
    async with pool.acquire() as connection:
        return await held_partitions(connection)


async def keep(pool: asyncpg.Pool[Any], book: SourceBook, source: str, days: int) -> None:
    """Has a source's events kept for so many days."""
    row = await pool.fetchrow(
        """
        INSERT INTO ingest.sources (name, system, environment, format, detected_by, confidence, retention_days, configured_at)
        VALUES ($1, 'application', 'test', '', '', 0, $2, clock_timestamp())
        ON CONFLICT (name) DO UPDATE SET retention_days = $2, configured_at = clock_timestamp() RETURNING *
        """,
        source,
        days,
    )
    assert row is not None
    book.configure(row)


async def test_a_day_is_dropped_with_all_that_points_into_it(intake: Intake, pool: asyncpg.Pool[Any], retention: Retention) -> None:
    await store(intake, KEEP + 1, "old", "old too")
    await store(intake, KEEP, "kept")
    blocks, _ = await list_blocks(pool, "", limit=10, with_lines=True, with_summary=False, max_bytes=1 << 30)
    ids = [orjson.loads(line)["event_id"] for block in blocks for line in decompress_lines(block.lines).splitlines()]
    await age(pool, KEEP + 1)
    await retention.drop_expired()
    assert await partitions(pool) == [Partition(current_day() - KEEP, 0)]
    assert await bodies_of(pool) == ["kept"]
    assert await bodies_of(pool, blocks[0].cursor) == ["kept"]
    assert len(await get_events(pool, ids)) == 1
    assert await pool.fetchval("SELECT count(*) FROM ingest.feed") == 1
    assert await pool.fetchval("SELECT array_agg(day) FROM ingest.held_sources") == [current_day() - KEEP]


async def test_history_is_kept_as_long_after_its_arrival(intake: Intake, pool: asyncpg.Pool[Any], retention: Retention) -> None:
    await store(intake, 400, "imported")
    await age(pool, KEEP - 1)
    await retention.drop_expired()
    assert await bodies_of(pool) == ["imported"]
    await age(pool, 2)
    await retention.drop_expired()
    assert await bodies_of(pool) == []


async def test_sources_of_one_day_are_kept_each_for_its_time(intake: Intake, pool: asyncpg.Pool[Any], retention: Retention) -> None:
    book = intake._sources
    await keep(pool, book, "chatty", 7)
    await keep(pool, book, "audit", 400)
    for source in ("chatty", "audit", "shop"):
        await store(intake, 10, source, source=source)
    day = current_day() - 10
    assert await partitions(pool) == [Partition(day, 0), Partition(day, 7), Partition(day, 400)]
    await age(pool, 10)
    await retention.drop_expired()
    assert await bodies_of(pool) == ["audit", "shop"]
    assert [row["source"] for row in await pool.fetch("SELECT source FROM ingest.held_sources ORDER BY 1")] == ["audit", "shop"]


async def test_a_request_of_sources_with_different_times_is_one_commit(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    await keep(pool, intake._sources, "audit", 400)
    batch = Batch()
    for number, source in enumerate(["audit", "shop", "audit"]):
        batch.append(f"{source} {number}", source=source, timestamp=current_day() * DAY + number)
    outcome = await intake.take(batch, ARRIVAL, default_system="application")
    assert (outcome.accepted, await bodies_of(pool)) == (3, ["audit 0", "audit 2", "shop 1"])
    assert await pool.fetchval("SELECT count(DISTINCT xmin::text) FROM ingest.blocks") == 1


async def test_another_number_of_days_holds_for_new_events(intake: Intake, pool: asyncpg.Pool[Any], retention: Retention) -> None:
    await store(intake, 10, "before")
    await keep(pool, intake._sources, "shop", 7)
    await store(intake, 10, "after")
    await age(pool, 10)
    await retention.drop_expired()
    assert await bodies_of(pool) == ["before"]


async def test_partitions_are_made_ahead_for_every_time_in_use(intake: Intake, pool: asyncpg.Pool[Any], retention: Retention) -> None:
    await keep(pool, intake._sources, "audit", 400)
    await retention.make_partitions()
    await retention.make_partitions()
    today = current_day()
    assert await partitions(pool) == [Partition(day, days) for day in range(today, today + 3) for days in (0, 400)]


async def test_late_and_early_events_find_their_partition(intake: Intake, pool: asyncpg.Pool[Any], retention: Retention) -> None:
    await retention.make_partitions()
    ages = (0, -0, 1, 2, 29, 31, 364)
    for number, days in enumerate(ages):
        await store(intake, days, str(number))
    batch = Batch()
    batch.append("tomorrow", source="shop", timestamp=(current_day() + 1) * DAY)
    await intake.take(batch, ARRIVAL, default_system="application")
    assert await bodies_of(pool) == sorted([*map(str, range(len(ages))), "tomorrow"])


async def test_an_event_of_a_day_that_was_just_dropped_makes_it_anew(intake: Intake, pool: asyncpg.Pool[Any], retention: Retention) -> None:
    await store(intake, 50, "first")
    await age(pool, KEEP + 1)
    await retention.drop_expired()
    assert await bodies_of(pool) == []
    await store(intake, 50, "second")
    assert await bodies_of(pool) == ["second"]
    assert await pool.fetchval("SELECT source FROM ingest.held_sources") == "shop"


async def test_a_partition_that_vanishes_under_a_commit_is_made_again(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    await store(intake, 3, "first")
    await pool.execute(f"DROP TABLE ingest.{Partition(current_day() - 3, 0).table}")
    await store(intake, 3, "second")
    assert await bodies_of(pool) == ["second"]


async def test_a_late_event_that_races_with_the_drop_is_kept(intake: Intake, pool: asyncpg.Pool[Any], retention: Retention) -> None:
    await store(intake, 50, "old")
    await age(pool, KEEP + 1)
    partition = Partition(current_day() - 50, 0)
    async with pool.acquire() as writer:
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute(
            "INSERT INTO ingest.blocks (id, day, events, first_timestamp, last_timestamp, summary, lines) VALUES (7, $1, 1, 0, 0, '', '')", partition.day
        )
        dropping = asyncio.create_task(retention.drop_expired())
        await asyncio.sleep(0.1)
        await store(intake, 0, "others go on meanwhile")
        await transaction.commit()
    await dropping
    assert partition in await partitions(pool)
    assert await pool.fetchval("SELECT count(*) FROM ingest.blocks WHERE id = 7") == 1


async def test_a_reader_under_way_is_not_broken(intake: Intake, pool: asyncpg.Pool[Any], retention: Retention) -> None:
    await store(intake, 50, "old")
    await age(pool, KEEP + 1)
    async with pool.acquire() as reader, reader.transaction():
        assert await reader.fetchval("SELECT count(*) FROM ingest.blocks") == 1
        dropping = asyncio.create_task(retention.drop_expired())
        await asyncio.sleep(0.5)
        await store(intake, 0, "new")
        assert await reader.fetchval("SELECT count(*) FROM ingest.blocks WHERE day = $1", current_day() - 50) == 1
    await dropping
    assert await bodies_of(pool) == ["new"]


async def test_only_one_replica_drops(intake: Intake, pool: asyncpg.Pool[Any], retention: Retention, settings: IngestSettings) -> None:
    await store(intake, 50, "old")
    await age(pool, KEEP + 1)
    async with open_pool(settings, "other") as other, other.acquire() as holder:
        await holder.execute("SELECT pg_advisory_lock($1)", RETENTION_LOCK)
        await retention.drop_expired()
        assert await bodies_of(pool) == ["old"]
    await asyncio.gather(retention.drop_expired(), retention.drop_expired())
    assert await bodies_of(pool) == []


async def test_an_administrator_sets_how_long_a_source_is_kept(intake: Intake, pool: asyncpg.Pool[Any], retention: Retention, issuer: Issuer) -> None:
    servicers = [
        Servicer(
            sources_pb2.DESCRIPTOR.services_by_name["SourceService"],
            sources_pb2_grpc.add_SourceServiceServicer_to_server,
            SourceServicer(pool, intake._sources),
        ),
        Servicer(
            retention_pb2.DESCRIPTOR.services_by_name["RetentionService"],
            retention_pb2_grpc.add_RetentionServiceServicer_to_server,
            RetentionServicer(pool),
        ),
    ]
    request = sources_pb2.UpdateSourceRequest(name="chatty", retention_days=7, create=True)
    async with run_service(Application(servicers=servicers, verifier=issuer.verifier())) as address:
        async with issuer.connect(address, "sources:write") as channel:
            with pytest.raises(PermissionDenied, match="retention:write"):
                await sources_pb2_grpc.SourceServiceStub(channel).UpdateSource(request)
        async with issuer.connect(address, "sources:write", "retention:write", "blocks:read") as channel:
            sources, kept = sources_pb2_grpc.SourceServiceStub(channel), retention_pb2_grpc.RetentionServiceStub(channel)
            assert (await sources.UpdateSource(request)).source.retention_days == 7
            for days in (-1, 40_000):
                with pytest.raises(InvalidArgument):
                    await sources.UpdateSource(sources_pb2.UpdateSourceRequest(name="chatty", retention_days=days))
            await store(intake, 10, "gone", source="chatty")
            await store(intake, 10, "kept", source="shop")
            day = current_day() - 10
            asked = retention_pb2.ListHeldSourcesRequest(days=[day, 1])
            assert list((await kept.ListHeldSources(asked)).days) == [retention_pb2.HeldDay(day=day, sources=["chatty", "shop"])]
            await age(pool, 10)
            await retention.drop_expired()
            assert list((await kept.ListHeldSources(asked)).days) == [retention_pb2.HeldDay(day=day, sources=["shop"])]
            back = await sources.UpdateSource(sources_pb2.UpdateSourceRequest(name="chatty", retention_days=0))
            assert not back.source.HasField("retention_days")
    await store(intake, 10, "as the others", source="chatty")
    assert Partition(day, 7) not in await partitions(pool)


async def test_rejected_events_go_after_their_time(pool: asyncpg.Pool[Any], retention: Retention, intake: Intake, settings: IngestSettings) -> None:
    for number in range(2):
        batch = Batch()
        batch.append("x" * (settings.max_record_bytes + 1), source="shop", timestamp=current_day() * DAY + number)
        await intake.take(batch, ARRIVAL, default_system="application")
    await pool.execute("UPDATE ingest.rejected_events SET rejected_at = rejected_at - interval '31 days' WHERE number = 1")
    await retention.forget_rejected()
    assert [row["number"] for row in await pool.fetch("SELECT number FROM ingest.rejected_events")] == [2]
    assert await pool.fetchval("SELECT count(*) FROM ingest.rejection_groups") == 1
    await pool.execute("UPDATE ingest.rejected_events SET rejected_at = rejected_at - interval '31 days'")
    await pool.execute("UPDATE ingest.rejection_groups SET day = day - 31")
    await retention.forget_rejected()
    assert await pool.fetchval("SELECT count(*) FROM ingest.rejection_groups") == 0
