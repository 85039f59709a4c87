"""Redis or Valkey: one bounded client per process. Nothing that must last lives there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from kit.settings import Settings

POOL_SIZE = 50


@asynccontextmanager
async def open_redis(settings: Settings, *, blocking_seconds: float = 0.0) -> AsyncIterator[Redis]:
    """Opens a client. `blocking_seconds` is the longest blocking read (XREADGROUP, pub/sub) that it will do."""
    pool = BlockingConnectionPool.from_url(
        settings.redis_url.get_secret_value(),
        max_connections=POOL_SIZE,
        timeout=2.0,
        socket_timeout=2.0 + blocking_seconds,
        socket_connect_timeout=2.0,
        health_check_interval=30,
        retry=Retry(NoBackoff(), 1),
    )
    client = Redis(connection_pool=pool)
    try:
        yield client
    finally:
        await client.aclose()
        await pool.disconnect()
