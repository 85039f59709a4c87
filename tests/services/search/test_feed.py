"""The index follows the feed of blocks, whatever stops and starts around it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from elis.search.v1 import search_pb2 as pb
from services.search import state
from services.search.engine import DAY, DayState
from services.search.engines.tantivy.engine import FolderInUse, TantivyOptions, open_tantivy
from services.search.engines.tantivy.schema import SCHEMA_VERSION
from services.search.feed import stretch_interval
from tests.services.search.corpus import NOON, make_blocks
from tests.services.search.stage import SERVICE_SCOPES, Stage, eventually, until_found

if TYPE_CHECKING:
    from tests.services.search.stage import SearchStub


def some(count: int, first: int = 0) -> list[dict[str, object]]:
    return [{"timestamp": NOON + n % 2 * DAY + n, "body": f"event number {n}"} for n in range(first, first + count)]


async def found_ids(search: SearchStub) -> list[int]:
    ids: list[int] = []
    after = ""
    while True:
        response = await search.SearchEvents(pb.SearchEventsRequest(first=1000, after=after, projection=[pb.ProjectedField(field="event_id")]))
        ids += [int(json.loads(row)["event_id"]) for row in response.rows]
        if not response.has_next_page:
            return ids
        after = response.cursors[-1]


async def test_announced_blocks_are_found_at_once(stage: Stage) -> None:
    async with stage.search(feed_poll_interval=timedelta(seconds=60)) as search:
        await asyncio.sleep(0.3)
        await stage.log.commit(some(10))
        await until_found(search, 10)
        await stage.log.commit(some(10, 10))
        await until_found(search, 20)


async def test_blocks_that_nobody_announced_are_found(stage: Stage) -> None:
    async with stage.search(redis_url="redis://127.0.0.1:1/0") as search:
        stage.log.add(make_blocks(some(10)))
        await until_found(search, 10)
        stage.log.add(make_blocks(some(10, 10), first_id=100))
        await until_found(search, 20)


async def test_an_outage_of_ingest_is_waited_out(stage: Stage) -> None:
    async with stage.search() as search:
        await stage.log.commit(some(10))
        await until_found(search, 10)
        stage.log.down = True
        await stage.log.commit(some(10, 10))

        async def lags() -> bool:
            response = await search.SearchEvents(pb.SearchEventsRequest(first=1))
            return response.freshness.lag_seconds > 0.5

        await eventually(lags)
        stage.log.down = False
        await until_found(search, 20)


async def test_interleaved_days_are_taken_in_one_after_the_other(stage: Stage) -> None:
    """Changing the day costs as much as indexing thousands of lines: done for every block, these would take minutes."""
    days = 8
    events = [{"timestamp": NOON + number % days * DAY, "body": f"event number {number}"} for number in range(1000)]
    for start in range(0, len(events), days):
        await stage.log.commit(events[start : start + days], size=1)
    async with stage.search() as search:
        await until_found(search, len(events))


async def test_a_restart_goes_on_where_it_stopped(stage: Stage) -> None:
    await stage.log.commit(some(300), size=10)
    async with stage.search(feed_page_bytes=64 * 1024) as search:
        await until_found(search, 300)
    await stage.log.commit(some(50, 300), size=10)
    async with stage.search() as search:
        await until_found(search, 350)
        assert sorted(await found_ids(search)) == sorted(line.event_id for line in stage.log.events)


@pytest.mark.parametrize(("file", "kept"), [("meta.json", 20), ("lines", 20), ("lines.table", 0)])
async def test_a_damaged_day_is_made_anew_from_the_feed(stage: Stage, data_dir: Path, file: str, kept: int) -> None:
    await stage.log.commit(some(100), size=10)
    async with stage.search() as search:
        await until_found(search, 100)
    os.truncate(data_dir / f"search/tantivy-{SCHEMA_VERSION}/days/2024-10-04" / file, kept)
    async with stage.search() as search:
        await until_found(search, 100)
        assert sorted(await found_ids(search)) == sorted(line.event_id for line in stage.log.events)


def test_commits_are_rarer_while_the_index_is_behind_and_never_rarer_than_allowed() -> None:
    assert [stretch_interval(age, 0.75, 5.0) for age in (-1.0, 0.0, 0.75, 2.0, 5.0, 3600.0)] == [0.75, 0.75, 0.75, 2.0, 5.0, 5.0]
    assert stretch_interval(3600.0, 10.0, 5.0) == 10.0


async def test_a_backlog_is_found_while_it_is_still_being_indexed(stage: Stage) -> None:
    stage.log.add(make_blocks(some(5_000), size=5))
    for block in stage.log.blocks:
        block.created_at.FromSeconds(NOON // 1_000_000_000)
    async with stage.search(index_longest_commit_interval=timedelta(milliseconds=100)) as search:
        await eventually(lambda: found_ids(search), timeout=30)
        await until_found(search, 5_000)


async def test_one_process_writes_to_a_folder(tmp_path: Path) -> None:
    async with open_tantivy(tmp_path, TantivyOptions()):
        with pytest.raises(FolderInUse, match="another search process"):
            async with open_tantivy(tmp_path, TantivyOptions()):
                pass


async def test_days_are_written_down_for_operators(stage: Stage) -> None:
    await stage.log.commit(some(100))
    async with stage.search() as search:
        await until_found(search, 100)
    async with stage.search():

        async def rows() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(stage.database_url)
            try:
                return await connection.fetch("SELECT engine, day - DATE '1970-01-01' AS day, events, position FROM search.index_day ORDER BY day")
            finally:
                await connection.close()

        found = await eventually(rows)
    assert [(row["engine"], DayState(row["day"], row["events"])) for row in found] == [
        ("tantivy", DayState(20_000, 50)),
        ("tantivy", DayState(20_001, 50)),
    ]
    assert {row["position"] for row in found} == {stage.log.blocks[-1].cursor}


async def test_sigkill_while_indexing_neither_loses_nor_doubles(stage: Stage, data_dir: Path) -> None:
    """Kills the process again and again at moments of work, then lets it finish: every event is there once.

    An index is committed before the position that says so. A kill between the two is rare, so the test puts the position
    of an earlier commit back: the next process gets blocks again that the index has, and must leave them out.
    """
    chance = random.Random(11)
    total = 60_000
    stage.log.add(make_blocks(({"timestamp": NOON + n % 3 * DAY + n, "body": f"event number {n} of many"} for n in range(total)), size=250))
    given = {
        "addresses": {"ingest": stage.ingest},
        "data_dir": str(data_dir),
        "database_url": stage.database_url,
        "feed_page_bytes": 64 * 1024,
        "index_commit_interval": 0.05,
        "index_longest_commit_interval": 0.05,
        "index_heap_bytes": 15_000_000,
        "index_open_writers": 2,
        "redis_url": stage.redis_url,
        "service_secret": "s" * 32,
    }
    token = stage.issuer.token(*SERVICE_SCOPES, kind="service", role="service")
    position = data_dir / "search" / f"tantivy-{SCHEMA_VERSION}" / "position"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["protos/gen", "."])}
    killed_at = [""]
    while killed_at[-1] < stage.log.blocks[-1].cursor and len(killed_at) <= 2:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.services.search.indexer", json.dumps(given), token, env=environment, stderr=asyncio.subprocess.DEVNULL
        )

        async def moved(process: asyncio.subprocess.Process = process) -> bool:
            assert process.returncode is None, "the process ended by itself"
            return position.exists() and position.read_text() > killed_at[-1]

        await eventually(moved, timeout=20)
        await asyncio.sleep(chance.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
        killed_at.append(position.read_text())
        position.write_text(killed_at[-2])
    assert len(killed_at) > 2, "the process had finished before it was killed a second time"
    async with stage.search() as search:
        await until_found(search, total)
        counts = Counter(await found_ids(search))
    assert len(counts) == total
    assert set(counts.values()) == {1}
    assert counts.keys() == {line.event_id for line in stage.log.events}


async def test_an_outage_of_postgres_does_not_end_the_writing_of_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "INTERVAL_SECONDS", 0.01)
    database = create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:1/none")
    async with open_tantivy(tmp_path, TantivyOptions()) as engine:
        await engine.index(make_blocks(some(10)))
        await engine.commit("1-1")
        writing = asyncio.create_task(state.IndexStates(database, engine).run())
        await asyncio.sleep(0.5)
        assert not writing.done()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    await database.dispose()
