"""Nothing acknowledged is lost and nothing is counted twice, whatever dies under load."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.landscape import Landscape, run_landscape
from tests.system.api import Api, eventually, iso, name_source, open_api
from tests.system.load import DAYS, Senders, send_load

pytestmark = pytest.mark.system

STATISTICS = "query($start: DateTime!, $end: DateTime!) { statistics(range: {start: $start, end: $end}, groupBy: SOURCE) { groups { key events } } }"


@pytest.fixture(scope="module")
def landscape() -> Iterator[Landscape]:
    """Targets that may be killed; every test leaves all of them running."""
    with run_landscape() as running:
        yield running


@pytest.fixture(scope="module")
def public(landscape: Landscape) -> Iterator[Api]:
    """The public ports of the landscape."""
    with open_api(landscape.credentials) as api:
        yield api


def assert_exactly_once(landscape: Landscape, public: Api, source: str, senders: Senders) -> None:
    """Every acknowledged event is there once in the blocks, once in search, once in the statistics, and no other is."""
    assert senders.failures == []
    expected = Counter(senders.acknowledged)
    assert set(expected.values()) == {1}

    stored = landscape.stored_events(source)
    assert Counter(event["body"] for event in stored) == expected
    assert len({event["event_id"] for event in stored}) == len(stored)

    public.await_count(source, len(stored), seconds=30)
    found = public.events(source)
    assert {int(event["id"]): event["body"] for event in found} == {event["event_id"]: event["body"] for event in stored}
    assert len(found) == len(stored)

    now = time.time_ns()
    span = {"start": iso(now - DAYS * 86_400 * 10**9), "end": iso(now + 3600 * 10**9)}

    def counted() -> int:
        groups: list[dict[str, Any]] = public.query(STATISTICS, span)["statistics"]["groups"]
        return next((int(group["events"]) for group in groups if group["key"] == source), 0)

    eventually(lambda: counted() >= len(stored), 30, lambda: f"{counted()} of {len(stored)} counted")
    assert counted() == len(stored)
    assert landscape.ended() == []


def await_progress(senders: Senders, events: int = 200) -> None:
    """Waits until that many more events are acknowledged."""
    before = len(senders.acknowledged)
    eventually(lambda: len(senders.acknowledged) >= before + events, 30)


@pytest.mark.parametrize(("target", "rounds"), [("ingest", 3), ("search", 3), ("correlate", 2), ("auth", 1)])
def test_a_target_is_killed_under_load(landscape: Landscape, public: Api, target: str, rounds: int) -> None:
    source = name_source(f"kill-{target}")
    with send_load(landscape.credentials, source) as senders:
        for _ in range(rounds):
            await_progress(senders)
            time.sleep(random.uniform(0.0, 0.9))
            landscape.kill(target)
            if target != "ingest":
                await_progress(senders)  # nobody who sends notices
            landscape.start(target)
            landscape.await_ready(target)
        await_progress(senders)
    if target == "ingest":
        assert senders.resent > 0
    assert senders.failures == []
    assert_exactly_once(landscape, public, source, senders)


def test_postgres_crashes_under_load(landscape: Landscape, public: Api) -> None:
    source = name_source("kill-postgres")
    with send_load(landscape.credentials, source) as senders:
        for number in (signal.SIGQUIT, signal.SIGKILL) * 2:
            await_progress(senders)
            time.sleep(random.uniform(0.0, 0.5))
            landscape.kill_engine("postgres", number)
            time.sleep(0.3)
            landscape.start_engine("postgres")
        await_progress(senders)
    assert senders.resent > 0
    assert_exactly_once(landscape, public, source, senders)


def test_valkey_crashes_under_load(landscape: Landscape, public: Api) -> None:
    source = name_source("kill-valkey")
    with send_load(landscape.credentials, source) as senders:
        await_progress(senders)
        landscape.kill_engine("valkey")
        await_progress(senders)
        landscape.start_engine("valkey")
        await_progress(senders)
    assert senders.resent == 0
    assert_exactly_once(landscape, public, source, senders)
