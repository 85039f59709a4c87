"""Failed sign-ins, counted per username: after too many the username has to wait, whether it exists or not.

The counts are in Redis, shared by all replicas. While Redis is away each replica counts for itself, which
allows the configured number of attempts per replica and never more.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from time import monotonic, time
from typing import TypeVar
from weakref import WeakValueDictionary

import structlog
from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError
from redis.asyncio import Redis

from kit.errors import RateLimited

log = structlog.get_logger()

ResultT = TypeVar("ResultT")

_NAMESPACE = "elis:login"
_REDIS_PAUSE_SECONDS = 5.0
"""After a failure Redis is left alone so long: its time-outs would slow every sign-in down."""


class LoginAttempts:
    """Counts attempts in a moving window; a success clears them."""

    def __init__(self, redis: Redis, allowed: int, window: timedelta) -> None:
        self._limit = RateLimitItemPerSecond(allowed, int(window.total_seconds()), namespace=_NAMESPACE)
        # The URI only names the kind of storage: the pool is the process's own.
        shared = RedisStorage("async+redis://", wrap_exceptions=True, implementation="redispy", connection_pool=redis.connection_pool)  # type: ignore[arg-type]  # its stub knows only simple options
        self._shared = MovingWindowRateLimiter(shared)
        self._local = MovingWindowRateLimiter(MemoryStorage())
        self._shared_from = 0.0
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, username: str) -> AsyncIterator[None]:
        """Lets one sign-in of a username run at a time, so that parallel guesses do not outrun the count."""
        lock = self._turns.setdefault(_key(username), asyncio.Lock())
        async with lock:
            yield

    async def begin(self, username: str) -> None:
        """Counts an attempt; raises RateLimited, with the seconds to wait, when there were too many.

        Counted before the password is looked at: an attempt whose caller hangs up in time must not be free.
        """
        key = _key(username)
        if not await self._count(lambda limiter: limiter.hit(self._limit, key)):
            window = await self._count(lambda limiter: limiter.get_window_stats(self._limit, key))
            wait = max(1, round(window.reset_time - time()))
            log.warning("excess_rate_limit_exceeded", retry_after=wait)
            raise RateLimited("too many failed sign-ins; try again later", retry_after=wait)

    async def succeeded(self, username: str) -> None:
        """Forgets the attempts."""
        key = _key(username)
        await self._count(lambda limiter: limiter.clear(self._limit, key))

    async def _count(self, step: Callable[[MovingWindowRateLimiter], Awaitable[ResultT]]) -> ResultT:
        if monotonic() >= self._shared_from:
            try:
                return await step(self._shared)
            except StorageError as error:
                self._shared_from = monotonic() + _REDIS_PAUSE_SECONDS
                log.warning("failed sign-ins counted locally", reason=repr(error.storage_error))
        return await step(self._local)


def _key(username: str) -> str:
    # Of bounded length, whatever was typed; and nothing typed by mistake (a password) is kept readable.
    return hashlib.sha256(username.lower().encode()).hexdigest()
