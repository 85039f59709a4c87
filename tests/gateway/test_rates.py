from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.metrics import Metrics
from gateway.rates import Rates
from gateway.settings import RateLimits
from kit.cache import open_redis
from kit.engines import run_valkey
from kit.errors import RateLimited
from tests.gateway.stack import create_settings


@asynccontextmanager
async def open_rates(redis_url: str, metrics: Metrics, **limits: str) -> AsyncIterator[Rates]:
    async with open_redis(create_settings(redis_url, {})) as redis:
        yield Rates(RateLimits(**limits), redis, metrics)


def mode(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("elis_gateway_rates_shared")


async def test_one_too_many_is_refused_with_the_time_to_wait(valkey_url: str) -> None:
    metrics = Metrics()
    async with open_rates(valkey_url, metrics, login="3/minute") as rates:
        for _ in range(3):
            await rates.spend("login", "10.0.0.1", "one too many")
        with pytest.raises(RateLimited) as caught:
            await rates.spend("login", "10.0.0.1", "one too many")
        assert 0 < caught.value.detail["retry_after"] <= 60
        await rates.spend("login", "10.0.0.1", "somebody else")
        await rates.spend("refresh", "10.0.0.1", "one too many")
    assert mode(metrics) == 1
    assert metrics.registry.get_sample_value("elis_gateway_rate_refusals_total", {"endpoint": "login"}) == 1


async def test_all_gateways_count_together(valkey_url: str) -> None:
    async with open_rates(valkey_url, Metrics(), login="2/minute") as one, open_rates(valkey_url, Metrics(), login="2/minute") as other:
        await one.spend("login", "together")
        await other.spend("login", "together")
        with pytest.raises(RateLimited):
            await one.spend("login", "together")
        with pytest.raises(RateLimited):
            await other.spend("login", "together")


async def test_without_redis_each_gateway_counts_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics()
    async with open_rates(f"unix://{tmp_path}/valkey/valkey.sock", metrics, login="2/minute") as rates:
        await rates.spend("login", "alone")
        assert mode(metrics) == 0
        await rates.spend("login", "alone")
        with pytest.raises(RateLimited) as caught:
            await rates.spend("login", "alone")
        assert 0 < caught.value.detail["retry_after"] <= 60
        monkeypatch.setattr("gateway.rates.RETRY_SECONDS", 0.0)
        rates._retry_at = 0.0
        with run_valkey(tmp_path / "valkey"):
            await rates.spend("login", "alone")
            assert mode(metrics) == 1


def test_a_limit_that_is_not_one_is_named() -> None:
    with pytest.raises(ValidationError, match="login"):
        RateLimits(login="often")
