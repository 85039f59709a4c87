"""A record that ELIS itself fails on is kept as rejected; its neighbours and everything after it are stored."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.ingest.batch import Batch
from services.ingest.blocks import decompress_lines, list_blocks
from services.ingest.formats import FORMATS
from services.ingest.formats.plain import Plain
from services.ingest.intake import Intake
from tests.services.ingest.conftest import ARRIVAL

NOW = 1_760_000_000 * 10**9
POISON = "poison jane.doe@example.com"


class Clumsy(Plain):
    """A format with a mistake."""

    name = "clumsy"

    def parse(self, batch: Batch, rows: Any, zone: Any) -> int:
        for row in rows:
            batch.host[row] = "parsed"
            if batch.body[row].startswith("poison"):
                raise ZeroDivisionError(batch.body[row])
        return len(rows)


@pytest.fixture(autouse=True)
def clumsy_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adds the format with a mistake."""
    monkeypatch.setitem(FORMATS, "clumsy", Clumsy())


def batch_of(bodies: list[str], start: int = 0) -> Batch:
    batch = Batch()
    for number, body in enumerate(bodies):
        batch.append(body, source="shop", timestamp=NOW + start + number)
    return batch


async def take(intake: Intake, bodies: list[str], start: int = 0, **options: Any) -> Any:
    return await intake.take(batch_of(bodies, start), ARRIVAL, default_system="application", formats=["clumsy"] * len(bodies), **options)


async def bodies_of(pool: asyncpg.Pool[Any]) -> list[str]:
    blocks, _ = await list_blocks(pool, "", limit=1000, with_lines=True, with_summary=False, max_bytes=1 << 30)
    return sorted(orjson.loads(line)["body"] for block in blocks for line in decompress_lines(block.lines).splitlines())


async def test_a_failing_record_is_rejected_alone(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    bodies = ["a", POISON, "b", "c", POISON + " again", "d"]
    outcome = await take(intake, bodies)
    assert (outcome.accepted, outcome.duplicates, outcome.rejected) == (4, 0, 2)
    assert await bodies_of(pool) == ["a", "b", "c", "d"]
    again = await take(intake, bodies)
    assert (again.accepted, again.duplicates, again.rejected) == (0, 6, 0)
    (group,) = await pool.fetch("SELECT * FROM ingest.rejection_groups")
    assert (group["reason"], group["count"]) == ("processing_failed", 2)
    assert group["detail"] == "ZeroDivisionError while the record was parsed, masked or encoded"


async def test_what_no_json_can_hold_is_rejected_alone(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    batch = batch_of(["a", "b", "c"])
    batch.attributes[1] = {"number": 2**70}
    for expected in ((2, 0, 1), (0, 3, 0)):
        outcome = await intake.take(batch, ARRIVAL, default_system="application")
        assert (outcome.accepted, outcome.duplicates, outcome.rejected) == expected
    assert await bodies_of(pool) == ["a", "c"]


async def test_requests_of_the_same_commit_do_not_suffer(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    requests = [[f"request {number}"] for number in range(20)] + [[POISON]]
    outcomes = await asyncio.gather(*(take(intake, bodies, start=100 * number) for number, bodies in enumerate(requests)))
    assert [(outcome.accepted, outcome.rejected) for outcome in outcomes] == [(1, 0)] * 20 + [(0, 1)]
    assert await bodies_of(pool) == sorted(f"request {number}" for number in range(20))


async def test_ids_of_records_keep_their_places(intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    await take(intake, ["a"], record_keys=["1"])
    outcome = await take(intake, [POISON, "a", "b"], start=10, record_keys=["0", "1", "2"])
    assert (outcome.accepted, outcome.duplicates, outcome.rejected, outcome.duplicate_rows) == (1, 1, 1, frozenset({1}))
    again = await take(intake, ["c", POISON], start=20, record_keys=["3", "0"])
    assert (again.accepted, again.duplicates, again.rejected) == (1, 1, 0)
    assert await bodies_of(pool) == ["a", "b", "c"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(marks=st.lists(st.booleans(), min_size=1, max_size=40), start=st.integers(0, 2**40))
async def test_every_record_is_an_event_or_rejected(intake: Intake, marks: list[bool], start: int) -> None:
    outcome = await take(intake, [f"{'poison' if mark else 'good'} {start} {number}" for number, mark in enumerate(marks)], start=start)
    assert outcome.accepted + outcome.rejected + outcome.duplicates == len(marks)
    assert outcome.duplicates in (0, len(marks))
    if not outcome.duplicates:
        assert outcome.rejected == sum(marks)
