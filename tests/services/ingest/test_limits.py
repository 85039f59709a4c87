"""Limits of tokens: what is let in, when it is let in again, and how replicas share a limit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from kit.cache import open_redis
from kit.errors import RateLimited
from services.ingest import limits as module
from services.ingest.limits import Limits
from services.ingest.settings import IngestSettings
from services.ingest.shares import Shares
from services.ingest.tokens import NOBODY, Agent

AGENT = Agent("token-1", "web", "", events_per_second=100)


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def wait_of(limits: Limits, agent: Agent = AGENT) -> float:
    """Returns the seconds after which the agent may send again."""
    try:
        limits.check(agent)
    except RateLimited as error:
        return float(error.detail["retry_after"])
    return 0.0


def test_a_sender_without_a_limit_is_never_refused() -> None:
    limits = Limits()
    free = Agent("token-2", "free", "")
    limits.charge_bytes(free, 10**12)
    limits.charge_events(free, 10**9)
    limits.check(free)
    assert not limits.allowances()


def test_what_is_over_the_limit_waits_for_exactly_as_long_as_it_says() -> None:
    clock = Clock()
    limits = Limits(clock=clock)
    limits.charge_events(AGENT, 130)
    with pytest.raises(RateLimited, match="100 events per second") as refused:
        limits.charge_events(AGENT, 1)
    assert refused.value.detail["retry_after"] == pytest.approx(0.3)
    clock.now += 0.29
    assert wait_of(limits) > 0.0
    clock.now += 0.011
    assert wait_of(limits) == 0.0


def test_a_request_larger_than_a_second_allows_passes_and_is_paid_for() -> None:
    clock = Clock()
    limits = Limits(clock=clock)
    limits.charge_events(AGENT, 1_100)
    assert wait_of(limits) == pytest.approx(10.0)
    clock.now += 10.0
    limits.charge_events(AGENT, 1_000)


def test_bytes_and_events_are_limits_of_their_own() -> None:
    clock = Clock()
    limits = Limits(clock=clock)
    agent = Agent("token-3", "both", "", events_per_second=10, bytes_per_second=1_000)
    limits.charge_bytes(agent, 3_000)
    with pytest.raises(RateLimited, match="1000 bytes per second"):
        limits.check(agent)
    clock.now += 2.0
    limits.charge_events(agent, 11)
    with pytest.raises(RateLimited, match="10 events per second"):
        limits.check(agent)


@given(st.lists(st.tuples(st.integers(1, 500), st.floats(0.0, 2.0)), min_size=1, max_size=60))
def test_no_more_than_the_limit_and_one_request_is_let_in_over_any_time(requests: list[tuple[int, float]]) -> None:
    clock = Clock()
    limits = Limits(clock=clock)
    taken, largest = 0, 0
    for count, pause in requests:
        clock.now += pause
        if wait_of(limits) == 0.0:
            limits.charge_events(AGENT, count)
            taken, largest = taken + count, max(largest, count)
    assert taken <= 100 * (clock.now - 1_000.0) + 100 + largest + 1e-6


def test_the_default_holds_for_senders_without_a_limit_of_their_own() -> None:
    limits = Limits(default_events=5)
    limits.charge_events(Agent("syslog", "syslog", ""), 50)
    assert wait_of(limits, Agent("syslog", "syslog", "")) > 0.0
    assert wait_of(limits, AGENT) == 0.0
    limits.charge_events(NOBODY, 50)
    assert wait_of(limits, NOBODY) == 0.0


def test_a_changed_limit_holds_from_the_next_request_on() -> None:
    clock = Clock()
    limits = Limits(clock=clock)
    limits.charge_events(AGENT, 1_100)
    assert wait_of(limits, replace(AGENT, events_per_second=1_000)) == pytest.approx(1.0)
    assert wait_of(limits, replace(AGENT, events_per_second=0, bytes_per_second=1)) == 0.0


def test_silent_senders_are_forgotten_unless_they_owe_something(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    limits = Limits(clock=clock)
    limits.charge_events(AGENT, 1)
    limits.charge_events(replace(AGENT, id="debtor"), 1_000_000)
    clock.now += 61.0
    assert list(limits.allowances()) == ["debtor"]
    monkeypatch.setattr(module, "MAX_SENDERS", 3)
    for number in range(10):
        limits.check(replace(AGENT, id=f"token-{number}"))
    assert len(limits.allowances()) == 3


async def test_replicas_share_a_limit_by_what_each_is_asked_to_take(settings: IngestSettings) -> None:
    clock = Clock()
    busy, quiet = Limits(clock=clock), Limits(clock=clock)
    async with open_redis(settings) as redis:
        shares = [Shares(redis, busy), Shares(redis, quiet)]
        taken = 0
        for second in range(30):
            for tenth in range(10):
                for limits, count in ((busy, 30), (quiet, 10 if tenth == 0 else 0)):
                    if count and wait_of(limits) == 0.0:
                        limits.charge_events(AGENT, count)
                        taken += count if second >= 10 else 0
                clock.now += 0.1
            for share in shares:
                await share.exchange()
        parts = [limits.allowances()["token-1"].events.share for limits in (busy, quiet)]
    assert sum(parts) <= 1.1
    assert parts[0] > 3 * parts[1]
    assert 1_600 <= taken <= 2_400  # twenty seconds of 100


async def test_a_replica_that_is_gone_leaves_its_share(settings: IngestSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.ingest.shares.SILENT_MS", 0)
    clock = Clock()
    first, second = Limits(clock=clock), Limits(clock=clock)
    async with open_redis(settings) as redis:
        for limits in (first, second):
            limits.charge_events(AGENT, 50)
            await Shares(redis, limits).exchange()
        await _tick(redis)
        await Shares(redis, first).exchange()
    assert first.allowances()["token-1"].events.share == 1.0


async def test_without_redis_each_replica_keeps_its_last_share(settings: IngestSettings) -> None:
    clock = Clock()
    first, second = Limits(clock=clock), Limits(clock=clock)
    async with open_redis(settings) as redis:
        shares = [Shares(redis, first), Shares(redis, second)]
        for _ in range(4):
            for limits, share in zip((first, second), shares, strict=True):
                if wait_of(limits) == 0.0:
                    limits.charge_events(AGENT, 10)
                await share.exchange()
    half = first.allowances()["token-1"].events.share
    assert half == pytest.approx(0.5, abs=0.1)
    async with open_redis(settings.model_copy(update={"redis_url": type(settings.redis_url)("redis://127.0.0.1:1/0")})) as gone:
        await Shares(gone, first).exchange()
    clock.now += 10.0
    first.charge_events(AGENT, 1_000)
    assert first.allowances()["token-1"].events.share == half
    assert wait_of(first) == pytest.approx((1_000 - 100 * half) / (100 * half), rel=0.01)


async def _tick(redis: Redis) -> None:
    """Waits until the clock of Redis shows another millisecond."""
    begin = await redis.time()
    while (await redis.time())[1] // 1_000 == begin[1] // 1_000:
        pass
