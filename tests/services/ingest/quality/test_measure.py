"""What is counted of the events of a source, from the request to the table."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson

from services.ingest.attributes import OVERFLOW
from services.ingest.batch import Batch
from services.ingest.blocks import decompress_lines, list_blocks
from services.ingest.intake import Intake
from services.ingest.quality.book import QualityBook
from services.ingest.quality.measure import MAX_FIELDS, Measures
from services.ingest.settings import IngestSettings
from tests.services.ingest.conftest import ARRIVAL

DAY = 86_400 * 10**9
UNEXAMINED = ("lag_ms", "sampled", "minutes")


async def measured(intake: Intake, pool: asyncpg.Pool[Any]) -> dict[str, dict[str, int]]:
    """Flushes the book and returns the non-zero counts by source."""
    book: QualityBook = intake._committer._quality
    await book.flush()
    rows = await pool.fetch("SELECT * FROM ingest.quality")
    return {row["source"]: {name: value for name, value in row.items() if isinstance(value, int) and value and name not in UNEXAMINED} for row in rows}


async def take(intake: Intake, batch: Batch, **options: Any) -> None:
    await intake.take(batch, ARRIVAL, default_system="application", **options)


async def test_what_is_wrong_with_events_is_counted_by_source(intake: Intake, pool: asyncpg.Pool[Any], settings: IngestSettings) -> None:
    now = time.time_ns()
    batch = Batch()
    batch.append("fine", source="good", timestamp=now - 5 * 10**9, severity_number=9)
    batch.append("no time", source="bad", severity_number=9)
    batch.append("no severity", source="bad", timestamp=now)
    batch.append("tomorrow", source="bad", timestamp=now + DAY // 24, severity_number=9)
    batch.append("next year", source="bad", timestamp=now + 300 * DAY, severity_number=9)
    batch.append("long ago", source="bad", timestamp=now - 12_000 * DAY, severity_number=9)
    batch.append("br\ufffdken", source="bad", timestamp=now, severity_number=9)
    batch.append("x" * (settings.max_record_bytes + 1), source="bad", timestamp=now, severity_number=9)
    await take(intake, batch, formats=["plain"] * len(batch))
    found = await measured(intake, pool)
    assert found["good"] == {"events": 1, "timed": 1}
    assert found["bad"] == {
        "events": 6,
        "unparsed": 2,
        "rejected": 1,
        "truncated": 1,
        "field_values": 2,
        "missing_time": 1,
        "unknown_severity": 1,
        "future_time": 1,
        "past_time": 1,
        "ahead": 1,
        "repaired": 1,
        "timed": 3,
    }


async def test_duplicates_are_counted_and_their_events_are_not(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    now = time.time_ns()
    for _ in range(3):
        batch = Batch()
        batch.append("a", source="s", timestamp=now, severity_number=9)
        batch.append("b", source="s", timestamp=now, severity_number=9)
        await take(intake, batch)
    assert (await measured(intake, pool))["s"] == {"events": 2, "duplicates": 4, "timed": 2}


async def test_flushes_add_up(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    for number in range(3):
        batch = Batch()
        batch.append(
            f"event {number}", source="s", timestamp=time.time_ns(), severity_number=9, attributes={"id": number if number < 2 else "two", "user": "u"}
        )
        await take(intake, batch)
        assert (await measured(intake, pool))["s"]["events"] == number + 1
    types = await pool.fetch("SELECT field, type, events FROM ingest.quality_fields ORDER BY 1, 2")
    assert [tuple(row) for row in types] == [("id", "number", 2), ("id", "text", 1), ("user", "text", 3)]


async def test_attributes_beyond_the_limit_are_kept_in_one(intake: Intake, pool: asyncpg.Pool[Any], settings: IngestSettings) -> None:
    attributes = {f"field{number:05d}": number for number in range(settings.max_attributes * 3)}
    batch = Batch()
    batch.append("wide", source="s", timestamp=time.time_ns(), severity_number=9, attributes=attributes)
    await take(intake, batch)
    (block,), _ = await list_blocks(pool, "", limit=1, with_lines=True, with_summary=False, max_bytes=1 << 30)
    stored = orjson.loads(decompress_lines(block.lines))["attributes"]
    assert len(stored) == settings.max_attributes + 1
    overflow = orjson.loads(stored.pop(OVERFLOW))
    assert {**stored, **overflow} == attributes
    assert (await measured(intake, pool))["s"]["overflowing"] == 1


async def test_nulls_and_the_minutes_of_arrival_are_counted(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    batch = Batch()
    batch.append("a", source="s", timestamp=time.time_ns(), attributes={"user": None, "id": 1})
    batch.append("b", source="s", timestamp=time.time_ns(), attributes={"id": 2})
    before = datetime.now(UTC)
    await take(intake, batch)
    found = (await measured(intake, pool))["s"]
    assert (found["field_values"], found["null_values"]) == (3, 1)
    minutes = [row["minutes"] for row in await pool.fetch("SELECT minutes FROM ingest.quality")]
    assert minutes in ([1 << before.minute], [1 << datetime.now(UTC).minute])


async def test_minutes_of_replicas_are_joined(pool: asyncpg.Pool[Any]) -> None:
    for minutes in (0b101, 0b110, 1 << 59):
        book = QualityBook(pool)
        book.add({"s": Measures(events=1)})
        (pending,) = book._pending.values()
        pending.minutes = minutes
        await book.flush()
    assert await pool.fetchval("SELECT bit_or(minutes) FROM ingest.quality") == 0b111 | 1 << 59


async def test_a_source_that_invents_fields_does_not_fill_the_table(pool: asyncpg.Pool[Any]) -> None:
    book = QualityBook(pool)
    for turn in range(4):
        book.add({"s": Measures(events=1, types=Counter({(f"field{turn * 200 + number}", "text"): 1 for number in range(200)}))})
        await book.flush()
    assert 0 < await pool.fetchval("SELECT count(*) FROM ingest.quality_fields") <= 2 * MAX_FIELDS  # twice: the hour may change meanwhile


async def test_what_a_team_says_is_plain_text_is_understood(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    for number, pinned in enumerate((frozenset[str](), frozenset({"format"}))):
        state = intake._sources.register("s", system="", default_system="application")
        state.format, state.detected_by, state.pinned = "plain", "declared", pinned
        batch = Batch()
        batch.append(f"just words {number}", source="s", timestamp=time.time_ns())
        await take(intake, batch)
    assert (await measured(intake, pool))["s"] == {"events": 2, "timed": 2, "unparsed": 1, "unknown_severity": 2}


async def test_plain_text_is_understood_when_its_sender_said_time_and_severity(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    now = time.time_ns()
    batch = Batch()
    batch.append("2026-01-02 10:00:00 WARN a stamp and a level", source="s", timestamp=now, severity_number=9)
    batch.append("just words", source="s", timestamp=now, severity_number=9)
    batch.append("2026-01-02 10:00:00 WARN found in the text", source="s")
    batch.append("words of unknown severity", source="s", timestamp=now)
    await take(intake, batch, formats=["plain"] * len(batch))
    assert (await measured(intake, pool))["s"]["unparsed"] == 1
