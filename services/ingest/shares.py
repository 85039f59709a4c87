"""Shares of limits: the limit of a token is divided over the replicas by what each of them is asked to take.

Once a second each process leaves its demand per token at Redis and gets the sum of all; one script for 500 tokens. A process
that says nothing for five seconds has no demand any more. While Redis is away, each process keeps the shares that it has.
"""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.ingest.limits import Allowance, Limits

log = structlog.get_logger()

EXCHANGE_SECONDS = 1.0
SILENT_MS = 5_000
FORGET_MS = 60_000
TOKENS_PER_CALL = 500

# KEYS: one hash per token. ARGV: this process, life of a demand and of a hash in ms, then (events, bytes) per token.
# A field is "ms events bytes" by the name of its process; the clock is that of Redis. Returns the sums.
_EXCHANGE = """
local clock, out = redis.call('TIME'), {}
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
for i, key in ipairs(KEYS) do
  redis.call('HSET', key, ARGV[1], string.format('%.0f %s %s', now, ARGV[2 * i + 2], ARGV[2 * i + 3]))
  redis.call('PEXPIRE', key, ARGV[3])
  local all, events, bytes = redis.call('HGETALL', key), 0, 0
  for j = 1, #all, 2 do
    local at, e, b = string.match(all[j + 1], '(%S+) (%S+) (%S+)')
    if now - tonumber(at) > tonumber(ARGV[2]) then redis.call('HDEL', key, all[j])
    else events, bytes = events + tonumber(e), bytes + tonumber(b) end
  end
  out[2 * i - 1], out[2 * i] = string.format('%.3f', events), string.format('%.3f', bytes)
end
return out
"""


class Shares:
    """Keeps the shares of this process's limits in step with those of other replicas."""

    def __init__(self, redis: Redis, limits: Limits) -> None:
        self._redis = redis
        self._limits = limits
        self._process = uuid4().hex
        self._away = False

    async def run(self) -> None:
        """Exchanges for ever."""
        while True:
            await asyncio.sleep(EXCHANGE_SECONDS)
            await self.exchange()

    async def exchange(self) -> None:
        """Leaves this process's demands and takes its shares; the shares stay as they are while Redis is away."""
        allowances = list(self._limits.allowances().items())
        try:
            for start in range(0, len(allowances), TOKENS_PER_CALL):
                await self._exchange(allowances[start : start + TOKENS_PER_CALL])
        except (RedisError, OSError) as error:
            if not self._away:
                log.warning("limits keep their shares: redis is away", tokens=len(allowances), reason=repr(error))
            self._away = True
            return
        self._away = False

    async def _exchange(self, allowances: list[tuple[str, Allowance]]) -> None:
        demands = [(allowance.events.draw_demand(), allowance.bytes.draw_demand()) for _, allowance in allowances]
        arguments = [f"{demand:.3f}" for pair in demands for demand in pair]
        keys = [f"elis:limits:{sender}" for sender, _ in allowances]
        sums: list[Any] = await self._redis.eval(_EXCHANGE, len(keys), *keys, self._process, SILENT_MS, FORGET_MS, *arguments)
        for number, ((_, allowance), (events, size)) in enumerate(zip(allowances, demands, strict=True)):
            allowance.events.share = _part(events, float(sums[2 * number]))
            allowance.bytes.share = _part(size, float(sums[2 * number + 1]))


def _part(own: float, total: float) -> float:
    return min(1.0, own / total) if own > 0.0 < total else 1.0
