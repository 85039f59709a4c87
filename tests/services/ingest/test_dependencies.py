"""Who calls whom, from spans that come in any order, to any replica."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags, Status
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from kit.cache import open_redis
from services.ingest import dependencies as module
from services.ingest.dependencies import Dependencies
from services.ingest.edges import BOUNDS_MS, Edge, list_edges
from services.ingest.masking import BUILT_IN_RULES, Masker
from services.ingest.settings import IngestSettings
from services.ingest.spans import collect_spans
from services.ingest.tokens import Agent

MILLISECOND = 1_000_000
MASKER = Masker(b"m" * 32, BUILT_IN_RULES)
TRACE = bytes(range(16))
NUMBER = itertools.count(1)
CLIENT, SERVER, PRODUCER, CONSUMER, INTERNAL = (
    Span.SPAN_KIND_CLIENT,
    Span.SPAN_KIND_SERVER,
    Span.SPAN_KIND_PRODUCER,
    Span.SPAN_KIND_CONSUMER,
    Span.SPAN_KIND_INTERNAL,
)


def span_id() -> bytes:
    return next(NUMBER).to_bytes(8, "big")


def make(kind: Any, *, key: bytes = b"", parent: bytes = b"", ms: int = 20, failed: bool = False, trace: bytes = TRACE, flags: int = 0, **names: str) -> Span:
    """A span of now; `names` become attributes, __ standing for a dot."""
    start = time.time_ns() - MILLISECOND
    span = Span(
        trace_id=trace,
        span_id=key or span_id(),
        parent_span_id=parent,
        kind=kind,
        flags=flags,
        start_time_unix_nano=start,
        end_time_unix_nano=start + ms * MILLISECOND,
    )
    if failed:
        span.status.code = Status.STATUS_CODE_ERROR
    for name, value in names.items():
        span.attributes.add(key=name.replace("__", ".")).value.string_value = value
    return span


def request(**spans: list[Span]) -> ExportTraceServiceRequest:
    """An export of some services."""
    export = ExportTraceServiceRequest()
    for service, own in spans.items():
        resource_spans = export.resource_spans.add()
        resource_spans.resource.attributes.add(key="service.name").value.string_value = service
        resource_spans.scope_spans.add(spans=own)
    return export


class Replica:
    """An ingest process, as far as traces go."""

    def __init__(self, pool: asyncpg.Pool[Any], redis: Redis) -> None:
        self.registry = CollectorRegistry()
        self.dependencies = Dependencies(pool, redis, mask=MASKER.mask_text, keep_days=30, registry=self.registry)

    async def take(self, export: ExportTraceServiceRequest) -> None:
        await self.dependencies.learn(export.SerializeToString(), collect_spans(export, Agent("t", "agent", "")))

    @property
    def missed(self) -> float:
        return self.registry.get_sample_value("elis_ingest_trace_ends_missed_total") or 0.0


@pytest.fixture
async def redis(settings: IngestSettings) -> AsyncIterator[Redis]:
    async with open_redis(settings) as client:
        yield client


@pytest.fixture
def replica(pool: asyncpg.Pool[Any], redis: Redis) -> Replica:
    return Replica(pool, redis)


async def edges(pool: asyncpg.Pool[Any], *replicas: Replica) -> dict[tuple[str, str, str], Edge]:
    """Flushes replicas and returns what is stored."""
    for replica in replicas:
        await replica.dependencies.flush()
    now = datetime.now(UTC)
    return {(caller, callee, kind): edge for caller, callee, kind, edge in await list_edges(pool, now - timedelta(hours=2), now + timedelta(minutes=1), 100)}


@pytest.mark.parametrize("parent_first", [True, False])
async def test_the_ends_of_a_call_meet_whichever_comes_first_and_wherever(pool: asyncpg.Pool[Any], redis: Redis, parent_first: bool) -> None:
    replicas = Replica(pool, redis), Replica(pool, redis)
    call = make(CLIENT, ms=30, server__address="orders.internal")
    exports = [request(web=[call]), request(orders=[make(SERVER, parent=call.span_id, ms=20, failed=True)])]
    for replica, export in zip(replicas, exports if parent_first else reversed(exports), strict=True):
        await replica.take(export)
    found = await edges(pool, *replicas)
    assert found == {("web", "orders", "service"): Edge(1, 1, 20 * MILLISECOND, [0, 0, 1, *[0] * 8])}
    assert [replica.missed for replica in replicas] == [0, 0]


async def test_both_ends_in_one_request(pool: asyncpg.Pool[Any], replica: Replica) -> None:
    call, send = make(CLIENT, server__address="orders"), make(PRODUCER, messaging__system="kafka")
    await replica.take(request(web=[call, send], orders=[make(SERVER, parent=call.span_id)], mail=[make(CONSUMER, parent=send.span_id)]))
    assert set(await edges(pool, replica)) == {("web", "orders", "service"), ("web", "mail", "service")}


async def test_what_sends_no_spans_is_known_by_attributes(pool: asyncpg.Pool[Any], replica: Replica) -> None:
    await replica.take(
        request(
            orders=[
                make(CLIENT, db__system__name="postgresql", server__address="db1", ms=3),
                make(CLIENT, db__system="redis", net__peer__name="cache", ms=6_000),
                make(CLIENT, peer__service="bank", server__address="10.0.0.7", failed=True),
                make(PRODUCER, messaging__system="kafka"),
                make(CLIENT),
                make(INTERNAL, peer__service="not a call"),
            ]
        )
    )
    found = await edges(pool, replica)
    assert {(callee, kind): (edge.calls, edge.errors) for (_, callee, kind), edge in found.items()} == {
        ("postgresql/db1", "database"): (1, 0),
        ("redis/cache", "database"): (1, 0),
        ("bank", "external"): (1, 1),
        ("kafka", "messaging"): (1, 0),
    }
    assert found["orders", "redis/cache", "database"].buckets[-1] == 1


async def test_names_are_masked(pool: asyncpg.Pool[Any], replica: Replica) -> None:
    await replica.take(request(web=[make(CLIENT, peer__service="mail of ada@example.com")]))
    [(_, callee, _)] = await edges(pool, replica)
    assert callee.startswith("mail of [email:")


async def test_no_edge_within_a_service_and_none_without_valid_ids(pool: asyncpg.Pool[Any], replica: Replica) -> None:
    call = make(CLIENT)
    await replica.take(request(web=[call]))
    await replica.take(request(web=[make(SERVER, parent=call.span_id)]))
    broken = make(SERVER, parent=call.span_id)
    broken.trace_id = b"short"
    await replica.take(request(orders=[broken, make(SERVER, parent=bytes(8)), make(SERVER)]))
    call = make(CLIENT, trace=bytes(16))  # ids of zeros are those of everyone who has none
    await replica.take(request(web=[call, make(CLIENT, key=bytes(8), peer__service="bank")], orders=[make(SERVER, parent=call.span_id, trace=bytes(16))]))
    assert await edges(pool, replica) == {}


async def test_a_call_without_a_client_span_is_seen(pool: asyncpg.Pool[Any], replica: Replica) -> None:
    work, remote = make(INTERNAL), SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
    await replica.take(request(web=[work]))
    await replica.take(request(orders=[make(INTERNAL, parent=work.span_id, flags=remote)]))
    assert set(await edges(pool, replica)) == {("web", "orders", "service")}


async def test_calls_in_one_span_are_counted_each_and_a_resent_request_once(pool: asyncpg.Pool[Any], redis: Redis) -> None:
    first, second = Replica(pool, redis), Replica(pool, redis)
    call = make(CLIENT, server__address="orders.internal")
    before = [request(orders=[make(SERVER, parent=call.span_id)]), request(stock=[make(SERVER, parent=call.span_id)])]
    after = request(orders=[make(SERVER, parent=call.span_id)])
    for export in (*before, before[0], request(web=[call]), after, after):
        await first.take(export)
        await second.take(export)
    found = await edges(pool, first, second)
    assert {names: edge.calls for names, edge in found.items()} == {("web", "orders", "service"): 2, ("web", "stock", "service"): 1}


async def test_minutes_add_up_over_flushes_and_replicas(pool: asyncpg.Pool[Any], redis: Redis) -> None:
    replicas = Replica(pool, redis), Replica(pool, redis)
    for turn in range(4):
        await replicas[turn % 2].take(request(web=[make(CLIENT, peer__service="bank", ms=10 + turn)]))
        await replicas[turn % 2].dependencies.flush()
    [edge] = (await edges(pool)).values()
    assert (edge.calls, edge.duration_ns, sum(edge.buckets)) == (4, 46 * MILLISECOND, 4)


async def test_while_redis_is_away_ends_are_missed_and_counted(pool: asyncpg.Pool[Any]) -> None:
    replica = Replica(pool, Redis(port=1))
    call = make(CLIENT)
    await replica.take(request(web=[call, make(CLIENT, db__system="hana")], orders=[make(SERVER, parent=call.span_id), make(SERVER, parent=span_id())]))
    assert set(await edges(pool, replica)) == {("web", "orders", "service"), ("web", "hana", "database")}
    assert replica.missed == 4  # the query and both server spans, which might have children elsewhere, and the parent that is elsewhere


async def test_what_waits_is_bounded_and_forgotten(replica: Replica, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 5)
    await replica.take(request(web=[make(CLIENT) for _ in range(9)]))
    keys = [key async for key in redis.scan_iter("elis:spans:*")]
    assert len(keys) == 2
    assert all([0 < await redis.ttl(key) <= 2 * module.BUCKET_SECONDS for key in keys])
    assert replica.missed == 4
    monkeypatch.setattr(module, "MAX_ENDS", 4)
    await replica.take(request(web=[make(CLIENT) for _ in range(9)]))
    assert replica.missed == 4 + 9


async def test_edges_in_memory_are_bounded(pool: asyncpg.Pool[Any], replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EDGES", 2)
    await replica.take(request(web=[make(CLIENT, peer__service=f"host {number}\0\n") for number in range(5)]))
    assert set(await edges(pool, replica)) == {("web", "host 0", "external"), ("web", "host 1", "external")}
    assert replica.missed == 3


async def test_what_a_service_calls_has_few_names(pool: asyncpg.Pool[Any], replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crawler calls a million hosts; each would make a row a minute. Services that send spans are not counted among them."""
    monkeypatch.setattr(module, "MAX_PEERS", 2)
    calls = [make(CLIENT, server__address=f"host{number % 5}") for number in range(10)]
    own = make(CLIENT)
    await replica.take(request(web=[*calls, own], bank=[make(CLIENT, server__address="host4")], orders=[make(SERVER, parent=own.span_id)]))
    found = {names: edge.calls for names, edge in (await edges(pool, replica)).items()}
    assert found == {
        ("web", "orders", "service"): 1,
        ("web", "host0", "external"): 2,
        ("web", "host1", "external"): 2,
        ("web", "(others)", "external"): 6,
        ("bank", "host4", "external"): 1,
    }
    await replica.take(request(web=[make(CLIENT, server__address="host4")]))
    assert ("web", "host4", "external") in await edges(pool, replica)


async def test_a_failed_flush_loses_nothing(pool: asyncpg.Pool[Any], replica: Replica) -> None:
    await replica.take(request(web=[make(CLIENT, peer__service="bank")]))
    await pool.execute("ALTER TABLE ingest.service_edges RENAME TO away")
    with pytest.raises(asyncpg.UndefinedTableError):
        await replica.dependencies.flush()
    await replica.take(request(web=[make(CLIENT, peer__service="bank")]))
    await pool.execute("ALTER TABLE ingest.away RENAME TO service_edges")
    [edge] = (await edges(pool, replica)).values()
    assert edge.calls == 2


async def test_old_edges_are_forgotten(pool: asyncpg.Pool[Any], replica: Replica) -> None:
    await replica.take(request(web=[make(CLIENT, peer__service="bank")]))
    await replica.dependencies.flush()
    await pool.execute(
        "INSERT INTO ingest.service_edges "
        "SELECT minute - interval '31 days', caller, callee, kind, calls, errors, duration_ns, buckets FROM ingest.service_edges"
    )
    await replica.dependencies.forget()
    assert await pool.fetchval("SELECT count(*) FROM ingest.service_edges") == 1


async def test_absurd_times_count_as_now(pool: asyncpg.Pool[Any], replica: Replica) -> None:
    spans = [make(CLIENT, peer__service="bank") for _ in range(4)]
    for span, (start, end) in zip(spans, [(0, 0), (2**64 - 1, 0), (1, 2**64 - 1), (2**63, 5)], strict=True):
        span.start_time_unix_nano, span.end_time_unix_nano = start, end
    await replica.take(request(web=spans))
    [edge] = (await edges(pool, replica)).values()
    assert edge.calls == 4


def test_a_quantile_lies_in_its_bucket() -> None:
    edge = Edge()
    for ms in (*[20] * 90, *[80] * 10):
        edge.add(ms * MILLISECOND, False, 1)
    assert 10 < edge.quantile_ms(0.5) <= 25
    assert edge.quantile_ms(0.95) == 75.0
    assert Edge().quantile_ms(0.95) in (0.0, *map(float, BOUNDS_MS))
