"""Service dependencies: who calls whom, how often, how fast and how often in vain, learned from the spans of traces.

A service exports its own spans only, so a call's two ends come in different requests, in either order, perhaps to different
replicas. Redis keeps the ends that wait for the other one, for some minutes: one script per request matches them, so that two
replicas never count the same call. A span that calls something which sends no spans counts for what its attributes name;
when a span of the called service turns up after all, that count is taken back.

Edges are statistics. While Redis is away, the ends that it should match are missed and counted as such, and exports succeed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import structlog
import xxhash
from prometheus_client import CollectorRegistry, Counter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from kit.db import is_unavailable
from services.ingest.edges import Edge, add_edges, forget_edges
from services.ingest.spans import DATABASE, SERVICE, Span

log = structlog.get_logger()

BUCKET_SECONDS = 150
"""Ends wait in the bucket of their time; the last two are looked at, so for 150 to 300 seconds."""
MAX_WAITING = 200_000
"""Ends in a bucket: about 30 MB of Redis."""
MAX_ENDS = 10_000
"""Ends of a request that are matched."""
MAX_EDGES = 20_000
"""Edges in memory between two flushes."""
MAX_PEERS = 100
"""What a service calls in a minute beside other services, by names that are kept apart; the rest of them count as OTHERS. Each makes a row."""
OTHERS = "(others)"
MATCH_SECONDS = 1.0
"""How long an export waits for Redis; what is later is missed."""
FLUSH_SECONDS = 10.0
FORGET_SECONDS = 600.0

# KEYS: digest of the request, the current bucket, the one before. ARGV: life of both, most fields of a bucket, number of calls,
# then (span, "service LF rest") per call and (parent, child) per entry. Returns false for a request that came before, else
# what answers each call and each entry, and how many ends found no room.
_MATCH = """
if not redis.call('SET', KEYS[1], '', 'NX', 'EX', ARGV[1]) then return false end
local room, calls, out, missed = tonumber(ARGV[2]) - redis.call('HLEN', KEYS[2]), tonumber(ARGV[3]), {}, 0
local function find(field)
  for b = 2, 3 do
    local value = redis.call('HGET', KEYS[b], field)
    if value then return value, KEYS[b] end
  end
end
local function keep(field, value)
  if room > 0 then redis.call('HSET', KEYS[2], field, value); room = room - 1 else missed = missed + 1 end
end
local function known(value) return string.sub(value, 1, (string.find(value, '\\n', 1, true) or 0) - 1) end
for i = 1, calls do
  local span, value = ARGV[2 + 2 * i], ARGV[3 + 2 * i]
  local waiting, bucket = find('w' .. span)
  if waiting then redis.call('HDEL', bucket, 'w' .. span); keep('p' .. span, known(value)) else keep('p' .. span, value) end
  out[i] = waiting or ''
end
for i = calls + 1, (#ARGV - 3) / 2 do
  local parent, child = ARGV[2 + 2 * i], ARGV[3 + 2 * i]
  local value, bucket = find('p' .. parent)
  if value then
    redis.call('HSET', bucket, 'p' .. parent, known(value))
  else
    local waiting, place = find('w' .. parent)
    if not waiting then keep('w' .. parent, child)
    elseif #waiting < 4096 then redis.call('HSET', place, 'w' .. parent, waiting .. '\\n' .. child)
    else missed = missed + 1 end
  end
  out[i] = value or ''
end
redis.call('EXPIRE', KEYS[2], ARGV[1])
out[#out + 1] = missed
return out
"""


class Dependencies:
    """Learns edges and writes them once a while; bounded, whatever is sent."""

    def __init__(self, pool: asyncpg.Pool[Any], redis: Redis, *, mask: Callable[[str], str], keep_days: int, registry: CollectorRegistry) -> None:
        """`mask` hides secrets in the names of services."""
        self._mask = mask
        self._pool = pool
        self._redis = redis
        self._keep = timedelta(days=keep_days)
        self._edges: dict[tuple[int, str, str, str], Edge] = {}
        self._peers: dict[tuple[int, str], int] = {}
        """Names beside those of services by minute and caller, since the last flush."""
        self._missed = Counter("elis_ingest_trace_ends_missed", "Ends of calls in traces that could not be matched with the other end.", registry=registry)
        self._spans = Counter("elis_ingest_trace_spans", "Spans that dependencies were learned from.", registry=registry)

    async def learn(self, body: bytes, spans: Sequence[Span]) -> None:
        """Takes the spans of a request, which is known by its bytes when it is sent again. Never fails."""
        self._spans.inc(len(spans))
        spans = self._mask_names(spans)
        local = {span.key: span for span in spans}
        parents = {span.parent for span in spans}
        answered: set[bytes] = set()
        entries: list[Span] = []
        pairs: list[tuple[str, Span]] = []
        for span in spans:
            caller = local.get(span.parent)
            if caller is None:
                if span.parent and span.entry:
                    entries.append(span)
            elif caller.service != span.service:
                pairs.append((caller.service, span))
                answered.add(caller.key)
        # Whatever the kind of a span: when none of its children is here, one may be elsewhere.
        calls = [span for span in spans if span.key not in answered and (span.calls or span.key not in parents)]
        surplus = max(0, len(calls) + len(entries) - MAX_ENDS)
        calls, entries = calls[: MAX_ENDS - min(len(entries), MAX_ENDS // 2)], entries[: MAX_ENDS // 2]
        try:
            async with asyncio.timeout(MATCH_SECONDS):
                replies = await self._match(body, calls, entries)
        except (RedisError, OSError) as error:  # a time-out is an OSError
            log.warning("dependencies missed: redis is away", ends=len(calls) + len(entries), reason=repr(error))
            self._missed.inc(len(calls) + len(entries) + surplus)
            for span in calls:
                if span.peer_kind == DATABASE:  # sends no spans anyway
                    self._count(span.minute, span.service, span.peer, DATABASE, span.duration_ns, span.failed)
            self._count_pairs(pairs)
            return
        if replies is None:
            return
        self._missed.inc(int(replies[-1]) + surplus)
        self._count_pairs(pairs)
        for span, waiting in zip(calls, replies, strict=False):
            if waiting:
                for child in waiting.split(b"\n"):
                    service, minute, duration_ns, failed = json.loads(child)
                    if service != span.service:
                        self._count(minute, span.service, service, SERVICE, duration_ns, failed)
            elif span.peer:
                self._count(span.minute, span.service, span.peer, span.peer_kind, span.duration_ns, span.failed)
        for span, value in zip(entries, replies[len(calls) :], strict=False):
            if not value:
                continue
            caller_name, _, rest = value.partition(b"\n")
            name = caller_name.decode()
            if name != span.service:
                self._count(span.minute, name, span.service, SERVICE, span.duration_ns, span.failed)
                if rest:
                    peer, kind, minute, duration_ns, failed = json.loads(rest)
                    self._count(minute, name, peer, kind, duration_ns, failed, -1)

    def _mask_names(self, spans: Sequence[Span]) -> Sequence[Span]:
        names = {span.service for span in spans} | {span.peer for span in spans}
        masked = {name: hidden for name in names if (hidden := self._mask(name)) != name}
        if not masked:
            return spans
        return [replace(span, service=masked.get(span.service, span.service), peer=masked.get(span.peer, span.peer)) for span in spans]

    async def _match(self, body: bytes, calls: Sequence[Span], entries: Sequence[Span]) -> list[Any] | None:
        """Leaves ends at Redis and returns their others; None for a request that came before."""
        if not calls and not entries:
            return [0]
        now = int(datetime.now(UTC).timestamp()) // BUCKET_SECONDS
        keys = [f"elis:spans:request:{xxhash.xxh3_128_hexdigest(body)}", f"elis:spans:{now}", f"elis:spans:{now - 1}"]
        arguments: list[Any] = [2 * BUCKET_SECONDS, MAX_WAITING, len(calls)]
        for span in calls:
            rest = json.dumps([span.peer, span.peer_kind, span.minute, span.duration_ns, span.failed]) if span.peer else ""
            arguments += (span.key, f"{span.service}\n{rest}" if rest else span.service)
        for span in entries:
            arguments += (span.parent, json.dumps([span.service, span.minute, span.duration_ns, span.failed]))
        replies: list[Any] | None = await self._redis.eval(_MATCH, len(keys), *keys, *arguments)
        return replies

    def _count_pairs(self, pairs: Iterable[tuple[str, Span]]) -> None:
        for caller, span in pairs:
            self._count(span.minute, caller, span.service, SERVICE, span.duration_ns, span.failed)

    def _count(self, minute: int, caller: str, callee: str, kind: str, duration_ns: int, failed: bool, times: int = 1) -> None:
        key = (minute, caller, callee, kind)
        edge = self._edges.get(key)
        if edge is None and kind != SERVICE and len(self._edges) < MAX_EDGES:
            peers = self._peers[minute, caller] = self._peers.get((minute, caller), 0) + 1
            if peers > MAX_PEERS:
                key = (minute, caller, OTHERS, kind)
                edge = self._edges.get(key)
        if edge is None:
            if len(self._edges) >= MAX_EDGES:
                self._missed.inc()
                return
            edge = self._edges[key] = Edge()
        edge.add(duration_ns, failed, times)

    async def run(self) -> None:
        """Writes edges for ever and forgets old ones; the last flush happens when it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._repeat(self.flush, FLUSH_SECONDS))
                group.create_task(self._repeat(self.forget, FORGET_SECONDS))
        finally:
            await self._attempt(self.flush)

    async def flush(self) -> None:
        """Adds what was learned since the last flush to the table; raises asyncpg's errors and keeps it then."""
        pending, self._edges = self._edges, {}
        self._peers.clear()
        if not pending:
            return
        try:
            await add_edges(self._pool, pending)
        except BaseException:
            for key, edge in self._edges.items():
                pending.setdefault(key, Edge()).merge(edge)
            self._edges = pending
            raise

    async def forget(self) -> None:
        """Deletes edges that are older than they are kept."""
        await forget_edges(self._pool, datetime.now(UTC) - self._keep)

    async def _repeat(self, work: Any, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self._attempt(work)

    async def _attempt(self, work: Any) -> None:
        try:
            await work()
        except Exception as error:
            if not is_unavailable(error):
                raise
            log.warning("dependencies put off", work=work.__name__, reason=repr(error))
