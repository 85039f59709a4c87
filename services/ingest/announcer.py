"""Tells the readers of blocks that there are new ones. Best effort: who misses it finds the block in the feed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

log = structlog.get_logger()

STREAM = "elis:blocks"
LIVE_CHANNEL = "elis:blocks:live"
STREAM_LENGTH = 100_000
MAX_WAITING = 10_000
RETRY_SECONDS = 1.0
LINGER_SECONDS = 0.02
"""Pause after an announcement: an announcement costs this process and each reader as much as a small block does."""


class Announcer:
    """Adds block ids to the stream for consumer groups and publishes them for live readers."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiting: asyncio.Queue[int] = asyncio.Queue(MAX_WAITING)

    def announce(self, block_ids: Sequence[int]) -> None:
        """Queues ids; drops them when Redis has been away for long, since readers then follow the feed."""
        for block_id in block_ids:
            if self._waiting.full():
                self._waiting.get_nowait()
            self._waiting.put_nowait(block_id)

    async def run(self) -> None:
        """Announces for ever; an outage of Redis is logged once and waited out."""
        away = False
        while True:
            ids = [await self._waiting.get()]
            while not self._waiting.empty() and len(ids) < 500:
                ids.append(self._waiting.get_nowait())
            try:
                async with self._redis.pipeline(transaction=False) as pipe:
                    for block_id in ids:
                        pipe.xadd(STREAM, {"id": block_id}, maxlen=STREAM_LENGTH, approximate=True)
                    pipe.publish(LIVE_CHANNEL, str(ids[-1]))
                    await pipe.execute()
                if away:
                    log.info("redis is back")
                away = False
                await asyncio.sleep(LINGER_SECONDS)
            except (RedisError, OSError) as error:
                if not away:
                    log.warning("redis is away; readers follow the feed of blocks", reason=repr(error))
                away = True
                self.announce(ids)
                await asyncio.sleep(RETRY_SECONDS)
