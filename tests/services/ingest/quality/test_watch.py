"""What the watch over quality tells: once, as ordinary events, however many replicas watch."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson
import pytest
from prometheus_client import CollectorRegistry

from services.ingest.blocks import decompress_lines, list_blocks
from services.ingest.intake import Intake
from services.ingest.quality.occurrences import MAX_FIELDS_TOLD
from services.ingest.quality.watch import WATCH_LOCK, QualityWatch
from tests.services.ingest.conftest import run_intake
from tests.services.ingest.test_quality_rpc import put_field, put_hour

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
NOW = datetime.now(UTC).replace(minute=30, second=0, microsecond=0)
THIS_HOUR = NOW.replace(minute=0)
ALL_MINUTES = 2**60 - 1
AT_ONCE = timedelta(0)


def watch_over(pool: asyncpg.Pool[Any], intake: Intake, settle: timedelta = AT_ONCE) -> QualityWatch:
    return QualityWatch(pool, intake, CollectorRegistry(), settle=settle)


async def events_of(pool: asyncpg.Pool[Any]) -> list[dict[str, Any]]:
    """Returns the canonical events of all blocks."""
    blocks, _ = await list_blocks(pool, "", limit=500, with_lines=True, with_summary=False, max_bytes=1 << 30)
    return [orjson.loads(line) for block in blocks for line in decompress_lines(block.lines).splitlines()]


async def told(pool: asyncpg.Pool[Any]) -> list[tuple[str, str, str]]:
    """Returns kind, source and field of what was told, sorted."""
    shown = [event["attributes"] for event in await events_of(pool)]
    return sorted((each["elis.quality.kind"], each["elis.quality.source"], each.get("elis.quality.field", "")) for each in shown)


async def hear(pool: asyncpg.Pool[Any], source: str, moment: datetime) -> None:
    """Notes that a source was heard last at a moment."""
    await pool.execute(
        """
        INSERT INTO ingest.sources (name, system, environment, format, detected_by, confidence, last_seen_at)
        VALUES ($1, 'application', 'production', '', '', 0, $2) ON CONFLICT (name) DO UPDATE SET last_seen_at = $2
        """,
        source,
        moment,
    )


async def put_regular(pool: asyncpg.Pool[Any], source: str, last: datetime, hours: int = 3) -> None:
    """A source that was heard every minute until a moment."""
    for number in range(1, hours + 1):
        await put_hour(pool, source, last.replace(minute=0) - number * HOUR, ALL_MINUTES, events=600)
    await put_hour(pool, source, last.replace(minute=0), 2 ** (last.minute + 1) - 1, events=10)
    await hear(pool, source, last)


async def put_fields(pool: asyncpg.Pool[Any], source: str, hour: datetime, **types: str) -> None:
    await put_hour(pool, source, hour, events=60, sampled=60, timed=60)
    for field, kind in types.items():
        await put_field(pool, source, hour, field, kind, 60)


async def test_a_regular_source_that_falls_silent_is_told_once(pool: asyncpg.Pool[Any], intake: Intake) -> None:
    last = NOW - 10 * MINUTE
    await put_regular(pool, "shop", last)
    await put_regular(pool, "busy", NOW - MINUTE)
    await put_hour(pool, "once", THIS_HOUR - 5 * HOUR, 1, events=1)
    await hear(pool, "once", THIS_HOUR - 5 * HOUR)
    await put_regular(pool, "elis", last)
    watch = watch_over(pool, intake)
    for minute in range(4):
        await watch.watch(NOW + minute * MINUTE / 10)
    [event] = await events_of(pool)
    assert (event["source"], event["service"], event["severity_number"], event["severity_text"]) == ("elis", "data-quality", 13, "WARN")
    assert event["body"] == "data quality of source shop: silent for 10 min, at most 5 min was expected"
    assert event["attributes"] == {
        "elis.quality.kind": "silent",
        "elis.quality.source": "shop",
        "elis.quality.expected": "an event within 5 min",
        "elis.quality.observed": "none for 10 min",
        "elis.quality.since": last.isoformat(),
    }


async def test_replicas_and_restarts_tell_it_once(pool: asyncpg.Pool[Any], intake: Intake) -> None:
    await put_regular(pool, "shop", NOW - 10 * MINUTE)
    await asyncio.gather(*(watch_over(pool, intake).watch(NOW) for _ in range(3)))
    await watch_over(pool, intake).watch(NOW + MINUTE)
    # A replica that died between telling and noting it down:
    await pool.execute("DELETE FROM ingest.quality_occurrences")
    await watch_over(pool, intake).watch(NOW + 2 * MINUTE)
    assert await told(pool) == [("silent", "shop", "")]
    assert await pool.fetchval("SELECT count(*) FROM ingest.quality_occurrences") == 1


async def test_only_one_replica_watches_at_a_time(pool: asyncpg.Pool[Any], intake: Intake) -> None:
    await put_regular(pool, "shop", NOW - 10 * MINUTE)
    async with pool.acquire() as other:
        await other.execute("SELECT pg_advisory_lock($1)", WATCH_LOCK)
        await watch_over(pool, intake).watch(NOW)
        assert await told(pool) == []
        await other.execute("SELECT pg_advisory_unlock($1)", WATCH_LOCK)
    await watch_over(pool, intake).watch(NOW)
    assert await told(pool) == [("silent", "shop", "")]


async def test_after_a_start_senders_have_time_to_come_back(pool: asyncpg.Pool[Any], intake: Intake) -> None:
    await put_regular(pool, "shop", NOW - 10 * MINUTE)
    watch = watch_over(pool, intake, settle=10 * MINUTE)
    for minute in (0, 4, 8):
        await watch.watch(NOW + minute * MINUTE)
    assert await told(pool) == []
    await watch.watch(NOW + 60 * MINUTE)  # turns were missed: as after a start
    assert await told(pool) == []
    for minute in (64, 68, 71):
        await watch.watch(NOW + minute * MINUTE)
    assert await told(pool) == [("silent", "shop", "")]


async def test_a_source_that_comes_back_is_told(pool: asyncpg.Pool[Any], intake: Intake) -> None:
    await put_regular(pool, "shop", NOW - 10 * MINUTE)
    watch = watch_over(pool, intake)
    await watch.watch(NOW)
    await hear(pool, "shop", NOW + MINUTE)
    for minute in (1, 2):
        await watch.watch(NOW + minute * MINUTE)
    assert await told(pool) == [("returned", "shop", ""), ("silent", "shop", "")]
    [event] = [event for event in await events_of(pool) if event["severity_number"] == 9]
    assert event["body"] == "data quality of source shop: sends again after 11 min of silence"
    assert await pool.fetchval("SELECT ended_at FROM ingest.quality_occurrences") == NOW + MINUTE


async def test_a_source_that_flaps_does_not_flood(pool: asyncpg.Pool[Any], intake: Intake) -> None:
    await put_regular(pool, "shop", NOW)
    watch = watch_over(pool, intake)
    for minute in range(1, 121):
        if minute % 9 == 0:
            await hear(pool, "shop", NOW + minute * MINUTE)
        await watch.watch(NOW + minute * MINUTE)
    kinds = Counter(kind for kind, _, _ in await told(pool))
    assert 1 <= kinds["silent"] <= 3
    assert kinds["returned"] <= kinds["silent"]


async def test_a_field_that_changes_its_type_or_vanishes_is_told(pool: asyncpg.Pool[Any], intake: Intake) -> None:
    await put_fields(pool, "shop", THIS_HOUR - HOUR, id="number", user="text", amount="number")
    await put_fields(pool, "shop", THIS_HOUR, id="text", amount="number")
    watch = watch_over(pool, intake)
    for minute in range(3):
        await watch.watch(NOW + minute * MINUTE)
    assert await told(pool) == [("field_type", "shop", "id"), ("field_vanished", "shop", "user")]
    changed = next(event for event in await events_of(pool) if event["attributes"]["elis.quality.kind"] == "field_type")
    assert (changed["attributes"]["elis.quality.expected"], changed["attributes"]["elis.quality.observed"]) == ("number", "text")


async def test_a_drift_ends_when_it_is_as_before(pool: asyncpg.Pool[Any], intake: Intake) -> None:
    await put_fields(pool, "shop", THIS_HOUR - 2 * HOUR, id="number")
    await put_fields(pool, "shop", THIS_HOUR, id="text")
    watch = watch_over(pool, intake)
    await watch.watch(NOW)
    await put_fields(pool, "shop", THIS_HOUR + HOUR, id="number")
    await pool.execute("DELETE FROM ingest.quality_fields WHERE hour = $1", THIS_HOUR)
    await watch.watch(NOW + HOUR)
    assert await told(pool) == [("field_type", "shop", "id")]
    assert await pool.fetchval("SELECT ended_at FROM ingest.quality_occurrences") == NOW + HOUR


async def test_a_release_that_drops_all_fields_does_not_flood(pool: asyncpg.Pool[Any], intake: Intake) -> None:
    await put_fields(pool, "shop", THIS_HOUR - HOUR, **{f"field{number}": "text" for number in range(40)})
    await put_fields(pool, "shop", THIS_HOUR)
    watch = watch_over(pool, intake)
    for minute in range(3):
        await watch.watch(NOW + minute * MINUTE)
    assert len(await told(pool)) == MAX_FIELDS_TOLD


@pytest.mark.parametrize(
    ("kind", "before", "now"),
    [
        ("parse_rate", {"events": 500, "unparsed": 10}, {"events": 200, "unparsed": 100}),
        ("clock_ahead", {"events": 500, "timed": 500}, {"events": 200, "timed": 200, "ahead": 150}),
    ],
)
async def test_a_rate_that_gets_worse_is_told(pool: asyncpg.Pool[Any], intake: Intake, kind: str, before: dict[str, int], now: dict[str, int]) -> None:
    await put_hour(pool, "shop", THIS_HOUR - HOUR, **before)
    await put_hour(pool, "steady", THIS_HOUR - HOUR, **before)
    await put_hour(pool, "steady", THIS_HOUR, **before)
    await put_hour(pool, "shop", THIS_HOUR, **now)
    watch = watch_over(pool, intake)
    for minute in range(3):
        await watch.watch(NOW + minute * MINUTE)
    assert await told(pool) == [(kind, "shop", "")]


async def test_few_events_tell_nothing(pool: asyncpg.Pool[Any], intake: Intake) -> None:
    await put_fields(pool, "shop", THIS_HOUR - HOUR, id="number")
    await put_hour(pool, "shop", THIS_HOUR, events=9, unparsed=9, sampled=9)
    await put_field(pool, "shop", THIS_HOUR, "id", "text", 9)
    await watch_over(pool, intake).watch(NOW)
    assert await told(pool) == []


async def test_what_cannot_be_stored_now_is_told_later(pool: asyncpg.Pool[Any], settings: Any) -> None:
    await put_regular(pool, "shop", NOW - 10 * MINUTE)
    async with run_intake(settings, pool) as intake:
        watch = watch_over(pool, intake)
        await pool.execute("ALTER TABLE ingest.feed RENAME TO feed_away")
        await watch.watch(NOW)
        assert await pool.fetchval("SELECT count(*) FROM ingest.quality_occurrences") == 0
        await pool.execute("ALTER TABLE ingest.feed_away RENAME TO feed")
        await watch.watch(NOW + MINUTE)
        assert await told(pool) == [("silent", "shop", "")]


async def test_a_source_with_more_fields_than_are_taken_down_has_not_lost_them(pool: asyncpg.Pool[Any], intake: Intake) -> None:
    await put_fields(pool, "wide", THIS_HOUR - HOUR, **{f"field{number}": "text" for number in range(20)})
    await put_hour(pool, "wide", THIS_HOUR, events=60, sampled=60, field_values=60 * 20)
    for number in range(15):
        await put_field(pool, "wide", THIS_HOUR, f"field{number}", "text", 60)
    await watch_over(pool, intake).watch(NOW)
    assert await told(pool) == []
