"""Group commit and the feed of blocks, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import asyncpg
import orjson
import pytest

from kit.errors import InvalidArgument, Unavailable
from services.ingest.batch import Batch
from services.ingest.blocks import NewBlock, decompress_lines, get_blocks, get_events, list_blocks, parse_cursor, read_horizon, store_blocks
from services.ingest.intake import Intake
from services.ingest.partitions import Partition, Partitions, current_day
from services.ingest.quality.book import QualityBook
from services.ingest.rejections import Sealer
from services.ingest.settings import IngestSettings
from tests.services.ingest.conftest import ARRIVAL

DAY = 86_400 * 10**9


def batch_of(*bodies: str, source: str = "s", timestamp: int | None = None) -> Batch:
    """Returns a batch of timed records."""
    batch = Batch()
    base = time.time_ns() if timestamp is None else timestamp
    for number, body in enumerate(bodies):
        batch.append(body, source=source, timestamp=base + number)
    return batch


async def take(intake: Intake, batch: Batch, **options: Any) -> tuple[int, int, int]:
    """Takes a batch in; returns accepted, duplicates, rejected."""
    outcome = await intake.take(batch, ARRIVAL, default_system="application", **options)
    return outcome.accepted, outcome.duplicates, outcome.rejected


async def feed(pool: asyncpg.Pool[Any], after: str = "") -> tuple[list[Any], str]:
    return await list_blocks(pool, after, limit=100, with_lines=True, with_summary=True, max_bytes=1 << 30)


async def events_of(pool: asyncpg.Pool[Any]) -> list[dict[str, Any]]:
    blocks, _ = await feed(pool)
    return [orjson.loads(line) for block in blocks for line in decompress_lines(block.lines).splitlines()]


async def test_an_accepted_event_is_one_canonical_line(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    batch = Batch()
    batch.append(
        "order 42 failed",
        source="shop",
        timestamp=1_760_000_000_123_456_789,
        severity_number=17,
        severity_text="ERROR",
        host="h1",
        service="orders",
        attributes={"order": {"id": 42}},
        trace_id="a" * 32,
        span_id="b" * 16,
    )
    assert await take(intake, batch, systems=["application"], environments=["test"]) == (1, 0, 0)
    (event,) = await events_of(pool)
    event_id, observed_at, fingerprint = event.pop("event_id"), event.pop("observed_at"), event.pop("fingerprint")
    assert event == {
        "timestamp": 1_760_000_000_123_456_789,
        "source": "shop",
        "system": "application",
        "severity_number": 17,
        "body": "order 42 failed",
        "environment": "test",
        "host": "h1",
        "service": "orders",
        "severity_text": "ERROR",
        "attributes": {"order": {"id": 42}},
        "trace_id": "a" * 32,
        "span_id": "b" * 16,
    }
    assert abs(observed_at - time.time_ns()) < 60 * 10**9
    assert len(fingerprint) == 16
    assert orjson.loads((await get_events(pool, [event_id]))[0])["body"] == "order 42 failed"


async def test_a_resent_request_adds_nothing(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    stamp = time.time_ns()
    assert await take(intake, batch_of("a", "b", timestamp=stamp)) == (2, 0, 0)
    assert await take(intake, batch_of("a", "b", timestamp=stamp)) == (0, 2, 0)
    assert len(await events_of(pool)) == 2


async def test_the_same_request_racing_with_itself_counts_once(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    stamp = time.time_ns()
    outcomes = await asyncio.gather(*(take(intake, batch_of("a", timestamp=stamp)) for _ in range(20)))
    assert sorted(outcomes) == [(0, 1, 0)] * 19 + [(1, 0, 0)]
    assert len(await events_of(pool)) == 1


async def test_a_record_with_an_id_is_recognised_in_any_request(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    stamp = time.time_ns()
    assert await take(intake, batch_of("a", "b", timestamp=stamp), record_keys=["1", "2"]) == (2, 0, 0)
    outcome = await intake.take(batch_of("c", "b", "plain", timestamp=stamp + 9), ARRIVAL, default_system="application", record_keys=["3", "2", ""])
    assert (outcome.accepted, outcome.duplicates, outcome.duplicate_rows) == (2, 1, frozenset({1}))
    assert await take(intake, batch_of("c", "b", "plain", timestamp=stamp + 9), record_keys=["3", "2", ""]) == (0, 3, 0)
    assert sorted(event["body"] for event in await events_of(pool)) == ["a", "b", "c", "plain"]


async def test_an_id_twice_in_one_request_counts_once(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    assert await take(intake, batch_of("a", "a again", "b"), record_keys=["1", "1", "2"]) == (2, 1, 0)
    assert [event["body"] for event in await events_of(pool)] == ["a", "b"]


async def test_records_with_ids_race_with_themselves_in_other_requests(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    keys = [str(number) for number in range(40)]
    parts = [keys[start : start + 10] for start in range(0, 31, 3)]
    outcomes = await asyncio.gather(*(take(intake, batch_of(*part), record_keys=part) for part in parts))
    assert sum(accepted for accepted, _, _ in outcomes) == 40
    assert sum(duplicates for _, duplicates, _ in outcomes) == 10 * len(parts) - 40
    assert sorted(event["body"] for event in await events_of(pool)) == sorted(keys)
    blocks, _ = await feed(pool)
    assert sum(sum(block.summary.count) for block in blocks) == 40


async def test_an_oversize_record_with_an_id_is_rejected_once(intake: Intake, pool: asyncpg.Pool[Any], settings: IngestSettings) -> None:
    huge = "x" * (settings.max_record_bytes + 1)
    assert await take(intake, batch_of(huge, "b"), record_keys=["1", "2"]) == (1, 0, 1)
    assert await take(intake, batch_of("c", huge), record_keys=["3", "1"]) == (1, 1, 0)
    assert await pool.fetchval("SELECT count(*) FROM ingest.rejected_events") == 1


async def test_what_another_replica_claims_meanwhile_is_not_stored_in_part(pool: asyncpg.Pool[Any]) -> None:
    day, hour = current_day(), timedelta(hours=1)
    claims = {b"one": hour, b"two": hour}
    async with pool.acquire() as other:
        await Partitions(1).ensure(other, [Partition(day, 0)])
        transaction = other.transaction()
        await transaction.start()
        await other.execute("INSERT INTO ingest.request_digests VALUES ('two', now() + interval '1 hour')")
        storing = asyncio.create_task(store_blocks(pool, [NewBlock(1, day, 1, 0, 0, b"", b"")], [(day, 0, "s")], claims))  # type: ignore[arg-type]
        await asyncio.sleep(0.1)
        await transaction.commit()
    assert not await storing
    assert await pool.fetchval("SELECT count(*) FROM ingest.request_digests") == 1
    for table in ("blocks", "feed", "held_sources"):
        assert await pool.fetchval(f"SELECT count(*) FROM ingest.{table}") == 0


async def test_requests_of_another_sender_are_other_requests(intake: Intake) -> None:
    stamp = time.time_ns()
    assert await take(intake, batch_of("a", timestamp=stamp, source="one")) == (1, 0, 0)
    assert await take(intake, batch_of("a", timestamp=stamp, source="two")) == (1, 0, 0)


async def test_an_untimed_request_is_forgotten_soon_and_a_timed_one_is_not(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    await take(intake, batch_of("ping", timestamp=0).__class__(source=["s"], body=["ping"], timestamp=[0], **_blank(1)))
    await take(intake, batch_of("timed"))
    rows = await pool.fetch("SELECT extract(epoch FROM expires_at - now()) AS left FROM ingest.request_digests ORDER BY 1")
    assert [round(float(row["left"]) / 60) for row in rows] == [1, 2 * 24 * 60]
    await pool.execute("UPDATE ingest.request_digests SET expires_at = now()")
    assert await take(intake, Batch(source=["s"], body=["ping"], timestamp=[0], **_blank(1))) == (1, 0, 0)


def _blank(rows: int) -> dict[str, Any]:
    return {
        "severity_number": [0] * rows,
        "severity_text": [""] * rows,
        "host": [""] * rows,
        "service": [""] * rows,
        "attributes": [None] * rows,
        "trace_id": [""] * rows,
        "span_id": [""] * rows,
    }


async def test_a_request_that_spans_days_makes_a_block_a_day(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    today = time.time_ns() // DAY * DAY
    batch = batch_of("old", timestamp=today - 400 * DAY)
    batch.append("new", source="s", timestamp=today + 5)
    batch.append("old too", source="s", timestamp=today - 400 * DAY + 7)
    assert await take(intake, batch) == (3, 0, 0)
    blocks, _ = await feed(pool)
    assert sorted((block.day, block.events) for block in blocks) == [(today // DAY - 400, 2), (today // DAY, 1)]


async def test_a_request_larger_than_a_block_makes_several(settings: IngestSettings, intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    count = settings.max_block_events * 2 + 1
    assert await take(intake, batch_of(*(f"event {number}" for number in range(count)), timestamp=1_760_000_000 * 10**9)) == (count, 0, 0)
    blocks, _ = await feed(pool)
    assert [block.events for block in blocks] == [settings.max_block_events, settings.max_block_events, 1]
    assert len({event["event_id"] for event in await events_of(pool)}) == count


async def test_the_summary_counts_what_the_lines_hold(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    await take(intake, batch_of(*(f"user {number} logged in" for number in range(10)), "disk full", timestamp=1_760_000_000 * 10**9))
    (block,), _ = await feed(pool)
    summary = block.summary
    assert sum(summary.count) == block.events == 11
    assert list(summary.sources) == ["s"]
    assert sorted(summary.count) == [1, 10]
    lines = decompress_lines(block.lines).splitlines()
    for fingerprint, ordinal in zip(summary.fingerprint, summary.first_ordinal, strict=True):
        assert orjson.loads(lines[ordinal])["fingerprint"] == f"{summary.fingerprints[fingerprint]:016x}"


async def test_unbelievable_times_become_now_and_are_kept_aside(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    far = time.time_ns() + 400 * DAY
    await take(intake, batch_of("from the future", timestamp=far))
    (event,) = await events_of(pool)
    assert abs(event["timestamp"] - time.time_ns()) < 60 * 10**9
    assert event["attributes"] == {"elis.original_time": far}


async def test_an_oversize_record_is_rejected_and_its_neighbours_are_kept(intake: Intake, pool: asyncpg.Pool[Any], settings: IngestSettings) -> None:
    huge = "x" * (settings.max_record_bytes + 1)
    assert await take(intake, batch_of("before", huge, "after")) == (2, 0, 1)
    assert [event["body"] for event in await events_of(pool)] == ["before", "after"]
    row = await pool.fetchrow("SELECT e.id, reason, raw, key_id FROM ingest.rejected_events AS e JOIN ingest.rejection_groups AS g ON g.id = group_id")
    assert row is not None
    assert row["reason"] == "record_too_large"
    assert b"xxxx" not in row["raw"]
    assert Sealer([bytes(32)]).open(row["raw"], row["key_id"], row["id"]).raw == huge.encode()


async def test_the_feed_shows_a_block_only_when_none_can_appear_before_it(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    async with pool.acquire() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("INSERT INTO ingest.feed (id, day) VALUES (1, 1)")  # an older transaction, still open
        await take(intake, batch_of("later"))
        blocks, cursor = await feed(pool)
        assert (blocks, cursor) == ([], "")
        await transaction.rollback()
    blocks, cursor = await feed(pool)
    assert len(blocks) == 1
    assert await feed(pool, cursor) == ([], cursor)


async def test_the_feed_is_complete_up_to_what_is_held_back(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    async with pool.acquire() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("INSERT INTO ingest.feed (id, day) VALUES (1, 1)")
        began = await slow.fetchval("SELECT now()")
        await take(intake, batch_of("later"))
        assert await read_horizon(pool) == began
        await transaction.rollback()
    before = await pool.fetchval("SELECT clock_timestamp()")
    assert await read_horizon(pool) > before


async def test_following_the_cursor_reads_every_block_once(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    await asyncio.gather(*(take(intake, batch_of(f"event {number}")) for number in range(30)))
    seen: list[str] = []
    cursor = ""
    while True:
        blocks, following = await list_blocks(pool, cursor, limit=3, with_lines=True, with_summary=False, max_bytes=200)
        if following == cursor:
            break
        seen += [orjson.loads(line)["body"] for block in blocks for line in decompress_lines(block.lines).splitlines()]
        cursor = following
    assert sorted(seen) == sorted(f"event {number}" for number in range(30))


async def test_blocks_are_found_by_id(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    await take(intake, batch_of("a"))
    (block,), _ = await feed(pool)
    (found,) = await get_blocks(pool, [block.id, 123], with_lines=True, with_summary=False)
    assert (found.id, found.cursor, found.lines) == (block.id, block.cursor, block.lines)


@pytest.mark.parametrize("cursor", ["x", "1", "1-", "-1", "1-2-3", "１-2", "9" * 50 + "-1"])
def test_a_cursor_of_another_kind_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_cursor(cursor)


async def test_without_room_a_request_is_refused_before_it_is_read(intake: Intake, settings: IngestSettings) -> None:
    with intake.admit(ARRIVAL, settings.max_pending_bytes), pytest.raises(Unavailable), intake.admit(ARRIVAL, 1):
        pass
    with intake.admit(ARRIVAL, 1):
        pass


async def test_what_fails_after_the_commit_does_not_undo_it(intake: Intake, pool: asyncpg.Pool[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the counts are broken")

    monkeypatch.setattr(QualityBook, "add", fail)
    assert await take(intake, batch_of("a")) == (1, 0, 0)
    assert [event["body"] for event in await events_of(pool)] == ["a"]


async def test_a_failed_commit_is_a_retryable_refusal_and_leaves_nothing(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    await pool.execute("ALTER TABLE ingest.feed RENAME TO feed_away")
    with pytest.raises(Unavailable):
        await take(intake, batch_of("a", timestamp=5 * DAY * 3000))
    await pool.execute("ALTER TABLE ingest.feed_away RENAME TO feed")
    assert await take(intake, batch_of("a", timestamp=5 * DAY * 3000)) == (1, 0, 0)
