"""A disk that is full and other refusals of PostgreSQL: a retryable refusal before any acknowledgement, and nothing else."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import asyncpg
import orjson
import pytest
from prometheus_client import CollectorRegistry

from kit.db import open_pool
from kit.errors import Unavailable
from services.ingest.batch import Batch
from services.ingest.blocks import decompress_lines, list_blocks
from services.ingest.digests import digest_request
from services.ingest.endpoint_store import EndpointStore
from services.ingest.endpoints import Endpoints
from services.ingest.groups import Outcome
from services.ingest.intake import Intake
from services.ingest.partitions import Partitions, current_day
from services.ingest.quality.book import QualityBook
from services.ingest.quality.watch import QualityWatch
from services.ingest.rejections import Rejection, RejectReason
from services.ingest.retention import Retention
from services.ingest.settings import IngestSettings
from services.ingest.sources import SourceBook
from services.ingest.upkeep import Upkeep
from tests.services.ingest.conftest import ARRIVAL, RunningIngest, run_intake

DAY = 86_400 * 10**9
LETTERS = str.maketrans("0123456789", "ghijklmnop")
"""Text without digits, in which masking finds nothing."""
REFUSALS = {
    "disk full": "53100",
    "out of memory": "53200",
    "read-only": "25006",
    "permission": "42501",
    "input/output": "58030",
    "deadlock": "40P01",
    "something else": "P0001",
}


def batch_of(*bodies: str) -> Batch:
    batch = Batch()
    for number, body in enumerate(bodies):
        batch.append(body, source="shop", timestamp=current_day() * DAY + hash(body) % 10**9 + number)
    return batch


async def bodies_of(pool: asyncpg.Pool[Any]) -> list[str]:
    blocks, _ = await list_blocks(pool, "", limit=1000, with_lines=True, with_summary=False, max_bytes=1 << 30)
    return [orjson.loads(line)["body"] for block in blocks for line in decompress_lines(block.lines).splitlines()]


async def refuse(pool: asyncpg.Pool[Any], table: str, state: str) -> None:
    """Lets PostgreSQL refuse writes to a table with this state."""
    await pool.execute(f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$")
    await pool.execute(f"CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION refuse()")


async def allow(pool: asyncpg.Pool[Any]) -> None:
    await pool.execute("DROP FUNCTION refuse() CASCADE")


async def check_refusal(intake: Intake, pool: asyncpg.Pool[Any], table: str, state: str) -> None:
    """Checks that a request is refused, leaves nothing, and is taken once PostgreSQL writes again."""
    body = f"{table} {state}"
    await refuse(pool, table, state)
    with pytest.raises(Unavailable) as refused:
        await intake.take(batch_of(body), ARRIVAL, default_system="application")
    assert refused.value.detail["retry_after"] > 0
    await allow(pool)
    assert body not in await bodies_of(pool)
    outcome = await intake.take(batch_of(body), ARRIVAL, default_system="application")
    assert outcome.accepted == 1
    assert body in await bodies_of(pool)


async def test_a_refused_write_is_a_retryable_refusal(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    for state in REFUSALS.values():
        await check_refusal(intake, pool, "ingest.feed", state)


async def test_it_is_one_at_every_step_of_a_commit(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    for table in ("ingest.held_sources", "ingest.request_digests"):
        await check_refusal(intake, pool, table, REFUSALS["disk full"])


async def test_a_request_that_postgresql_does_not_take_holds_up_no_other(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    bad, good = batch_of("bad"), batch_of("good")
    digest = digest_request(ARRIVAL.agent.id, bad).hex()
    await pool.execute("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '54000'; END $$")
    refusing = f"WHEN (NEW.digest = '\\x{digest}') EXECUTE FUNCTION refuse()"
    await pool.execute(f"CREATE TRIGGER refuse BEFORE INSERT ON ingest.request_digests FOR EACH ROW {refusing}")
    together = [intake.take(batch, ARRIVAL, default_system="application") for batch in (bad, good)]
    refused, taken = await asyncio.gather(*together, return_exceptions=True)
    await allow(pool)
    assert isinstance(refused, Unavailable)
    assert isinstance(taken, Outcome)
    assert await bodies_of(pool) == ["good"]


async def test_what_could_not_be_stored_is_not_charged_to_its_sender(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    limited = replace(ARRIVAL, agent=replace(ARRIVAL.agent, id="limited", events_per_second=1))
    await refuse(pool, "ingest.feed", REFUSALS["disk full"])
    for _ in range(3):
        with pytest.raises(Unavailable):
            await intake.take(batch_of("charged once"), limited, default_system="application")
    await allow(pool)
    assert (await intake.take(batch_of("charged once"), limited, default_system="application")).accepted == 1


async def test_a_rejected_record_that_cannot_be_kept_is_refused_too(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    rejection = Rejection("shop", RejectReason.INVALID_DOCUMENT, "no object", b"x")
    for table in ("ingest.rejection_groups", "ingest.rejected_events"):
        await refuse(pool, table, REFUSALS["disk full"])
        with pytest.raises(Unavailable):
            await intake.take(Batch(), ARRIVAL, default_system="application", rejections=[rejection])
        await allow(pool)
    outcome = await intake.take(Batch(), ARRIVAL, default_system="application", rejections=[rejection])
    assert outcome.rejected == 1


async def test_a_read_only_database_refuses_and_recovers(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    headers = {"Authorization": f"Splunk {running_ingest.token}"}
    database = await pool.fetchval("SELECT current_database()")

    async def post() -> int:
        response = await running_ingest.web.post("/services/collector", headers=headers, json={"event": "hello", "time": 1_760_000_000})
        return response.status_code

    assert await post() == 200
    await pool.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    await pool.execute(ends)
    assert await post() == 503
    async with pool.acquire() as connection:
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
        await connection.execute(ends)
    statuses = [await post() for _ in range(20)]  # each may meet a connection that was ended
    assert statuses[-1] == 200


async def test_upkeep_outlives_what_it_may_not_write(pool: asyncpg.Pool[Any], intake: Intake) -> None:
    sources = SourceBook(pool)
    retention = Retention(pool, Partitions(30), retention_days=30, rejected_days=30)
    watch = QualityWatch(pool, intake, CollectorRegistry())
    upkeep = Upkeep(pool, sources, retention, EndpointStore(pool, Endpoints(str)), QualityBook(pool), watch)
    for state in REFUSALS.values():
        sources.register(state, system="", default_system="application")
        await refuse(pool, "ingest.sources", state)
        await upkeep._attempt(sources.flush)
        await allow(pool)
    await upkeep._attempt(sources.flush)
    assert await pool.fetchval("SELECT count(*) FROM ingest.sources") == len(REFUSALS)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 4 MiB that PostgreSQL may write to; a test that cannot mount one is skipped."""
    folder = Path(mkdtemp(prefix="elis-small-disk-"))
    mounted = os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=777", "tmpfs", folder], capture_output=True).returncode == 0
    if not mounted:
        folder.rmdir()
        pytest.skip("mounting a file system takes root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
    shutil.rmtree(folder, ignore_errors=True)


def _give_to_postgres(folder: Path, data_directory: str) -> None:
    owner = Path(data_directory).stat()
    os.chown(folder, owner.st_uid, owner.st_gid)


def _grow(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=16m", folder], check=True)


@pytest.fixture
async def tablespace(small_disk: Path, pool: asyncpg.Pool[Any]) -> AsyncIterator[str]:
    """A tablespace on the small disk, in which new partitions of this test's database are made."""
    _give_to_postgres(small_disk, await pool.fetchval("SELECT setting FROM pg_settings WHERE name = 'data_directory'"))
    name = f"small_{os.getpid()}"
    async with pool.acquire() as connection:
        await connection.execute(f"CREATE TABLESPACE {name} LOCATION '{small_disk}'")
        await connection.execute(f"ALTER DATABASE {await connection.fetchval('SELECT current_database()')} SET default_tablespace = {name}")
    yield name
    rows = await pool.fetch("SELECT oid::regclass::text AS name FROM pg_class WHERE reltablespace <> 0 AND relkind = 'r' AND relpersistence = 'p'")
    for row in rows:
        if row["name"].startswith("ingest."):
            await pool.execute(f"DROP TABLE {row['name']}")
    with suppress(asyncpg.PostgresError):
        await pool.execute(f"DROP TABLESPACE {name}")


@pytest.mark.usefixtures("tablespace")
async def test_a_full_disk_refuses_what_is_not_stored_and_keeps_what_is(small_disk: Path, settings: IngestSettings) -> None:
    async with open_pool(settings, "fresh") as pool, run_intake(settings, pool) as intake:  # new connections see the tablespace
        acknowledged: list[str] = []
        refused = cause = ""
        for number in range(100):
            body = f"{number} {os.urandom(60_000).hex().translate(LETTERS)}"
            try:
                await intake.take(batch_of(body), ARRIVAL, default_system="application")
            except Unavailable as error:
                refused, cause = body, error.detail["cause"]
                break
            acknowledged.append(body)
        assert len(acknowledged) > 10
        assert cause == "DiskFullError"
        assert await bodies_of(pool) == acknowledged
        await asyncio.to_thread(_grow, small_disk)
        outcome = await intake.take(batch_of(refused), ARRIVAL, default_system="application")
        assert outcome.accepted == 1
        assert await bodies_of(pool) == [*acknowledged, refused]
