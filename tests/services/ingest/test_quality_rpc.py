"""Reading the quality of sources."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from elis.ingest.v1 import quality_pb2 as pb
from kit.errors import InvalidArgument
from services.ingest.quality.measure import COUNTS
from services.ingest.quality_rpc import QualityServicer

HOUR = timedelta(hours=1)
START = datetime(2026, 11, 20, 8, tzinfo=UTC)


def nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 10**9


async def put_hour(pool: asyncpg.Pool[Any], source: str, hour: datetime, minutes: int = 1, **counts: int) -> None:
    """Writes an hour as a book does."""
    values = [counts.get(name, 0) for name in COUNTS]
    places = ", ".join(f"${number}" for number in range(4, 4 + len(COUNTS)))
    await pool.execute(f"INSERT INTO ingest.quality (source, hour, minutes, {', '.join(COUNTS)}) VALUES ($1, $2, $3, {places})", source, hour, minutes, *values)


async def put_field(pool: asyncpg.Pool[Any], source: str, hour: datetime, field: str, kind: str, events: int) -> None:
    await pool.execute("INSERT INTO ingest.quality_fields VALUES ($1, $2, $3, $4, $5)", source, hour, field, kind, events)


async def put_occurrence(pool: asyncpg.Pool[Any], source: str, kind: str, field: str, since: datetime, until: datetime | None) -> None:
    await pool.execute("INSERT INTO ingest.quality_occurrences VALUES ($1, $2, $3, $4, $4, $5)", source, kind, field, since, until)


async def get(pool: asyncpg.Pool[Any], source: str, start: datetime = START, end: datetime = START + 4 * HOUR) -> pb.DataQuality:
    servicer: Any = QualityServicer(pool)
    request = pb.GetDataQualityRequest(source=source, start=nanoseconds(start), end=nanoseconds(end))
    quality: pb.DataQuality = (await servicer.GetDataQuality(request, None)).quality
    return quality


async def list_all(pool: asyncpg.Pool[Any], size: int = 2) -> list[pb.DataQualitySummary]:
    servicer: Any = QualityServicer(pool)
    found: list[pb.DataQualitySummary] = []
    token = ""
    while True:
        request = pb.ListDataQualityRequest(start=nanoseconds(START), end=nanoseconds(START + 4 * HOUR), page_size=size, page_token=token)
        response = await servicer.ListDataQuality(request, None)
        assert len(response.qualities) <= size
        found += response.qualities
        token = response.next_page_token
        if not token:
            return found


async def test_a_source_has_its_hours_fields_and_reasons(pool: asyncpg.Pool[Any]) -> None:
    await put_hour(pool, "shop", START - HOUR, events=500, unparsed=500)
    await put_hour(pool, "shop", START, 0b111, events=1_000, unparsed=250, sampled=60, timed=1_000, lag_ms=5_000)
    await put_hour(pool, "shop", START + HOUR, 1 << 59, events=1_000, rejected=20, sampled=40)
    await put_hour(pool, "other", START, events=9, unparsed=9)
    for hour, field, kind, events in ((START, "id", "number", 60), (START + HOUR, "id", "text", 20), (START, "user", "text", 15), (START, "user", "null", 5)):
        await put_field(pool, "shop", hour, field, kind, events)
    await put_occurrence(pool, "shop", "field_type", "id", START + HOUR, START + 2 * HOUR)
    quality = await get(pool, "shop")
    assert (quality.source, quality.events, quality.rejected) == ("shop", 2_000, 20)
    assert [(reason.kind, round(reason.share, 4)) for reason in quality.reasons] == [("drift", 0.25), ("unparsed", 0.125), ("rejected", 0.0099)]
    assert quality.score == pytest.approx(100 - sum(reason.points for reason in quality.reasons))
    first, second = quality.hours
    assert (first.hour.ToDatetime(UTC), first.parse_rate, first.active_minutes, first.mean_lag_ms) == (START, 0.75, 3, 5.0)
    assert (second.active_minutes, second.HasField("mean_lag_ms"), second.rejected) == (1, False, 20)
    assert second.score > first.score
    fields = {each.name: each for each in quality.fields}
    assert [(each.type, each.share) for each in fields["id"].types] == [("number", 0.75), ("text", 0.25)]
    assert [fields[name].null_rate for name in ("id", "user")] == pytest.approx([0.2, 0.85])
    assert [fields[name].drifted for name in ("id", "user")] == [True, False]


async def test_a_silent_source_has_a_reason(pool: asyncpg.Pool[Any]) -> None:
    await put_occurrence(pool, "gone", "silent", "", START + HOUR, None)
    quality = await get(pool, "gone")
    assert [(reason.kind, reason.share) for reason in quality.reasons] == [("silent", 0.75)]
    assert quality.score == 62.5


async def test_an_unknown_source_has_no_score(pool: asyncpg.Pool[Any]) -> None:
    quality = await get(pool, "nobody")
    assert not quality.HasField("score")
    assert not quality.reasons


async def test_the_worst_source_comes_first_page_by_page(pool: asyncpg.Pool[Any]) -> None:
    for number in range(5):
        await put_hour(pool, f"s{number}", START, events=1_000, unparsed=number * 200)
    await put_hour(pool, "elis", START, events=1_000, unparsed=1_000)
    await put_occurrence(pool, "gone", "silent", "", START - HOUR, None)
    await put_hour(pool, "old", START - HOUR, events=5)
    found = await list_all(pool)
    assert [quality.source for quality in found] == ["gone", "s4", "s3", "s2", "s1", "s0"]
    assert found[0].score == 50
    assert found[-1].score == 100
    single = await get(pool, "s3")
    assert single.score == found[2].score
    assert [reason.text for reason in single.reasons] == [reason.text for reason in found[2].reasons]


@pytest.mark.parametrize("hours", [0, -1, 24 * 32])
async def test_a_range_that_is_none_or_too_long_is_refused(pool: asyncpg.Pool[Any], hours: int) -> None:
    with pytest.raises(InvalidArgument, match="31 days"):
        await get(pool, "shop", START, START + hours * HOUR)


async def test_a_source_without_a_name_is_refused(pool: asyncpg.Pool[Any]) -> None:
    with pytest.raises(InvalidArgument, match="1 to 1000 characters"):
        await get(pool, "")
