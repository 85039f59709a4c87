"""Ids of indexer acknowledgement: numbered per token and channel, in Redis, so that any replica answers for them.

ELIS replies after the commit, so an id that a client was told is acknowledged from the start. It is drawn before the commit
and told after it: while Redis is away, requests that need an id are refused before they are stored, with a reply that is tried
again. Whatever else ends a request leaves an id that nobody was told.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Sequence
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from kit.errors import Unavailable

IDLE_SECONDS = 300
"""A channel that nobody uses this long is forgotten, and its numbers start again."""
MAX_PENDING = 1_000_000
"""Ids of a channel that may wait to be asked for."""
_CHUNK = 5_000
_GUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")

# A hash: one field per id that waits, and `next`.
_DRAW = """
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[1]) then return -1 end
local id = redis.call('HINCRBY', KEYS[1], 'next', 1) - 1
redis.call('HSET', KEYS[1], id, '')
redis.call('EXPIRE', KEYS[1], ARGV[2])
return id
"""


def parse_channel(text: str) -> str | None:
    """Returns a channel in lower case, or None when it is no GUID."""
    return text.lower() if _GUID.fullmatch(text) else None


class AckLedger:
    """Draws ids and answers for them. Methods raise Unavailable when Redis is away, or a channel is full."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def draw(self, token_id: str, channel: str) -> int:
        """Returns the next id of a channel."""
        try:
            drawn = int(await cast("Awaitable[str]", self._redis.eval(_DRAW, 1, _key(token_id, channel), str(MAX_PENDING), str(IDLE_SECONDS))))
        except (RedisError, OSError) as error:
            raise Unavailable("the ids of acknowledgement cannot be reached; try again", retry_after=1.0) from error
        if drawn < 0:
            raise Unavailable(f"{MAX_PENDING} ids of channel {channel} wait to be asked for; ask for them first", retry_after=1.0)
        return drawn

    async def settle(self, token_id: str, channel: str, ids: Sequence[int]) -> dict[int, bool]:
        """Says of each id whether its events are stored. A true answer is given once."""
        key = _key(token_id, channel)
        chunks = [[str(number) for number in ids[start : start + _CHUNK]] for start in range(0, len(ids), _CHUNK)]
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                for chunk in chunks:
                    pipe.hmget(key, chunk)
                    pipe.hdel(key, *chunk)
                pipe.expire(key, IDLE_SECONDS)
                replies = await pipe.execute()
        except (RedisError, OSError) as error:
            raise Unavailable("the ids of acknowledgement cannot be reached; try again", retry_after=1.0) from error
        found = [value is not None for values in replies[:-1:2] for value in values]
        return dict(zip(ids, found, strict=True))

    async def ping(self) -> bool:
        """Says whether ids can be drawn now."""
        try:
            return bool(await self._redis.ping())
        except (RedisError, OSError):
            return False


def _key(token_id: str, channel: str) -> str:
    return f"elis:hec:acks:{token_id}:{channel}"
