"""How often a caller may do what: counted in Redis for all gateways together.

When Redis does not answer, every gateway counts for itself with the same limits, and says so in its metric
`elis_gateway_rates_shared`: N gateways then let through up to N times as much, but nobody is locked out and
nobody is let through uncounted. Redis is asked again after a few seconds.
"""

from __future__ import annotations

import asyncio
from time import monotonic, time

import structlog
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from prometheus_client import Counter, Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.metrics import Metrics
from gateway.settings import RateLimits
from kit.errors import RateLimited

log = structlog.get_logger()

ANSWER_SECONDS = 0.25
RETRY_SECONDS = 5.0


class Rates:
    """The rate limits of all endpoints."""

    def __init__(self, limits: RateLimits, redis: Redis, metrics: Metrics) -> None:
        self._items: dict[str, RateLimitItem] = {endpoint: parse(rate) for endpoint, rate in limits.model_dump().items()}
        storage = RedisStorage("async+redis://", implementation="redispy", key_prefix="elis:rates", connection_pool=redis.connection_pool)  # type: ignore[arg-type]
        self._shared = FixedWindowRateLimiter(storage)
        self._local = FixedWindowRateLimiter(MemoryStorage())
        self._retry_at = 0.0
        self._refusals: Counter = metrics.rate_refusals
        self._mode: Gauge = metrics.rates_shared
        self._mode.set(1)

    async def spend(self, endpoint: str, *who: str) -> None:
        """Counts one use; raises RateLimited with `retry_after` seconds when it is one too many."""
        item = self._items[endpoint]
        limiter = self._local
        allowed: bool | None = None
        if monotonic() >= self._retry_at:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    allowed = await self._shared.hit(item, endpoint, *who)
                    _stay_cancelled()
                limiter = self._shared
                self._mode.set(1)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("rates are counted by this gateway alone", reason=repr(error))
                self._retry_at = monotonic() + RETRY_SECONDS
                self._mode.set(0)
        if allowed is None:
            allowed = await self._local.hit(item, endpoint, *who)
        if not allowed:
            self._refusals.labels(endpoint).inc()
            raise RateLimited(f"more than {item}; wait", retry_after=await self._until_reset(limiter, item, endpoint, *who))

    async def _until_reset(self, limiter: FixedWindowRateLimiter, item: RateLimitItem, endpoint: str, *who: str) -> float:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reset_at = (await limiter.get_window_stats(item, endpoint, *who)).reset_time
        except (RedisError, OSError, TimeoutError):
            return float(item.get_expiry())
        return round(max(reset_at - time(), 0.1), 1)


def _stay_cancelled() -> None:
    """Raises the cancellation that asyncio.wait_for lost: before Python 3.12 it prefers a result that is there already.

    The Redis client waits that way, and an operation that goes on after its WebSocket has gone never ends.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
