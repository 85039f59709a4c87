"""The announcement of new blocks: wakes those who read the feed. Best effort, since they also look by themselves."""

from __future__ import annotations

import asyncio

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

log = structlog.get_logger()

LIVE_CHANNEL = "elis:blocks:live"
LISTEN_SECONDS = 5.0
"""Longest read of the channel; the client of Redis must allow for it."""
_RETRY_SECONDS = 1.0


class Wake:
    """Counts announcements. A reader remembers the count that it has seen and waits for another."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._announced = asyncio.Condition()
        self.count = 0

    async def wait(self, seen: int, timeout: float) -> int:
        """Returns the count as soon as it is not `seen`, at the latest after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout), self._announced:
                await self._announced.wait_for(lambda: self.count != seen)
        except TimeoutError:
            return self.count
        return self.count

    async def listen(self) -> None:
        """Listens for ever; an outage of Redis is logged once and waited out."""
        away = False
        while True:
            try:
                async with self._redis.pubsub() as channel:
                    await channel.subscribe(LIVE_CHANNEL)
                    if away:
                        log.info("redis is back")
                    away = False
                    while True:
                        if await channel.get_message(ignore_subscribe_messages=True, timeout=LISTEN_SECONDS):
                            await self._announce()
            except (RedisError, OSError) as error:
                if not away:
                    log.warning("redis is away; the feed of blocks is read every now and then instead", reason=repr(error))
                away = True
                await asyncio.sleep(_RETRY_SECONDS)

    async def _announce(self) -> None:
        async with self._announced:
            self.count += 1
            self._announced.notify_all()
