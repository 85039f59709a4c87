"""Endpoints: what one process counts, and what all replicas together know."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from elis.ingest.v1 import endpoints_pb2 as pb
from kit.errors import InvalidArgument, Unavailable
from services.ingest import endpoints as module
from services.ingest.batch import Batch
from services.ingest.endpoint_store import STORM_REQUESTS, EndpointStore, Overview
from services.ingest.endpoints import MAX_CLIENTS, Arrival, Counts, Endpoints
from services.ingest.endpoints_rpc import EndpointServicer
from services.ingest.intake import Intake
from services.ingest.tokens import NOBODY, Agent
from tests.services.ingest.conftest import ARRIVAL

WEB = Agent("token-1", "web", "shop")


def arrival(protocol: str = "hec", agent: Agent = WEB, number: int = 1) -> Arrival:
    return Arrival(protocol, agent, f"192.0.2.{number}", f"agent/{number}")


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(name, labels) or 0.0


async def every(store: EndpointStore, protocol: str = "", after: tuple[str, str] = ("", ""), limit: int = 100) -> list[Overview]:
    return list(await store.list(protocol=protocol, after=after, limit=limit))


async def test_replicas_add_up(pool: asyncpg.Pool[Any]) -> None:
    replicas = [Endpoints(str), Endpoints(str)]
    stores = [EndpointStore(pool, replica) for replica in replicas]
    for number, (replica, store) in enumerate(zip(replicas, stores, strict=True), 1):
        replica.read(arrival(number=number), 100)
        replica.taken(arrival(number=number), events=10, duplicates=1, rejected=2)
        replica.taken(arrival(number=number), events=0, duplicates=13, rejected=0)
        replica.refused(arrival(number=number), f"broken {number}")
        replica.refused(arrival(number=number), f"too much {number}", limited=True)
        replica.refused(Arrival("loki", NOBODY, "198.51.100.1"), "the ingest token is not known")
        await store.flush()
        await store.flush()  # nothing is added twice
    hec, loki = await every(stores[0])
    assert (hec.protocol, hec.token_id, hec.token_name, hec.source) == ("hec", "token-1", "web", "shop")
    assert hec.minute == hec.hour == Counts(requests=8, refused=4, limited=2, resent=2, events=20, duplicates=28, rejected=4, bytes=200)
    assert [client[:2] for client in hec.clients] == [("192.0.2.2", "agent/2"), ("192.0.2.1", "agent/1")]
    assert hec.last_error == "too much 2"
    assert hec.last_error_at is not None
    assert datetime.now(UTC) - hec.last_error_at < timedelta(minutes=1)
    assert (loki.token_id, loki.token_name, loki.minute.requests, loki.minute.refused) == ("", "", 2, 2)
    assert [overview.protocol for overview in await every(stores[1], protocol="loki")] == ["loki"]


async def test_what_postgresql_did_not_take_is_written_later(pool: asyncpg.Pool[Any]) -> None:
    endpoints = Endpoints(str)
    store = EndpointStore(pool, endpoints)
    endpoints.taken(arrival(), events=3, duplicates=0, rejected=0)
    await pool.execute("ALTER TABLE ingest.endpoint_counts RENAME TO gone")
    with pytest.raises(asyncpg.UndefinedTableError):
        await store.flush()
    await pool.execute("ALTER TABLE ingest.gone RENAME TO endpoint_counts")
    endpoints.taken(arrival(), events=4, duplicates=0, rejected=0)
    await store.flush()
    [found] = await every(store)
    assert (found.minute.requests, found.minute.events, len(found.clients)) == (2, 7, 1)


async def test_old_counts_count_for_their_time_only_and_are_forgotten(pool: asyncpg.Pool[Any]) -> None:
    endpoints = Endpoints(str)
    store = EndpointStore(pool, endpoints)
    for age in ("2 minutes", "90 minutes", "3 hours"):
        endpoints.taken(arrival(), events=1, duplicates=0, rejected=0)
        await store.flush()
        await pool.execute("UPDATE ingest.endpoint_counts SET slot = slot - $1::text::interval WHERE slot > now() - interval '1 minute'", age)
    [found] = await every(store)
    assert (found.minute.events, found.hour.events) == (0, 1)
    await store.forget()
    assert await pool.fetchval("SELECT count(*) FROM ingest.endpoint_counts") == 2
    await pool.execute("UPDATE ingest.endpoints SET last_seen_at = now() - interval '25 hours'")
    await pool.execute("UPDATE ingest.endpoint_clients SET last_seen_at = now() - interval '25 hours'")
    await store.forget()
    assert await every(store) == []
    assert await pool.fetchval("SELECT count(*) FROM ingest.endpoint_clients") == 0


async def test_the_last_clients_are_kept_and_masked(pool: asyncpg.Pool[Any], intake: Intake) -> None:
    store = EndpointStore(pool, intake.endpoints)
    for number in range(3 * MAX_CLIENTS):
        intake.endpoints.taken(arrival(number=number), events=1, duplicates=0, rejected=0)
        if number % 10 == 0:
            await store.flush()
    secret = "jane.doe@example.com"
    intake.endpoints.refused(Arrival("fluent", NOBODY, "", f"host {secret}"), f"user {secret} is not known")
    await store.flush()
    fluent, hec = await every(store)
    assert [client[0] for client in hec.clients] == [f"192.0.2.{number}" for number in reversed(range(2 * MAX_CLIENTS, 3 * MAX_CLIENTS))]
    await store.forget()
    assert await pool.fetchval("SELECT count(*) FROM ingest.endpoint_clients WHERE protocol = 'hec'") == MAX_CLIENTS
    assert secret not in str(fluent)
    assert "is not known" in fluent.last_error


async def test_names_that_postgresql_cannot_hold_are_mended(pool: asyncpg.Pool[Any]) -> None:
    endpoints = Endpoints(str)
    for name in ("a\0b", "a\ufffdb", "\ud800"):
        endpoints.refused(Arrival("fluent", Agent(name, name, name), name, name), name)
    store = EndpointStore(pool, endpoints)
    await store.flush()
    assert sum(found.minute.requests for found in await every(store)) == 3


async def test_the_rpc_pages_and_tells_rates(pool: asyncpg.Pool[Any]) -> None:
    endpoints = Endpoints(str)
    for number in range(5):
        endpoints.taken(arrival(agent=Agent(f"token-{number}", "x", "")), events=1, duplicates=0, rejected=0)
        endpoints.refused(arrival(agent=Agent(f"token-{number}", "x", "")), "no")
    endpoints.taken(arrival("bulk"), events=1, duplicates=0, rejected=0)
    store = EndpointStore(pool, endpoints)
    await store.flush()
    servicer: Any = EndpointServicer(store)
    found: list[pb.IngestEndpoint] = []
    token = ""
    while True:
        page = await servicer.ListEndpoints(pb.ListEndpointsRequest(page_size=2, page_token=token), None)
        found += page.endpoints
        token = page.next_page_token
        if not token:
            break
    assert [(each.protocol, each.token_id) for each in found] == [("bulk", "token-1"), *(("hec", f"token-{number}") for number in range(5))]
    assert [each.last_minute.accept_rate for each in found] == [1.0] + [0.5] * 5
    assert found[0].clients[0].address == "192.0.2.1"
    await pool.execute("DELETE FROM ingest.endpoint_counts")
    [silent] = (await servicer.ListEndpoints(pb.ListEndpointsRequest(protocol="bulk"), None)).endpoints
    assert not silent.last_minute.HasField("accept_rate")
    assert not silent.HasField("last_error_at")
    assert not (await servicer.ListEndpoints(pb.ListEndpointsRequest(protocol="\0nothing"), None)).endpoints
    with pytest.raises(InvalidArgument, match="cursor"):
        await servicer.ListEndpoints(pb.ListEndpointsRequest(page_token="guess"), None)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_a_storm_is_most_of_many_requests_in_vain(taken: int, refused: int, resent: int) -> None:
    counts = Counts(requests=taken + refused + resent, refused=refused, resent=resent)
    now = datetime.now(UTC)
    overview = Overview("hec", "t", "t", "", now, "", None, minute=counts)
    assert overview.retry_storm == (counts.requests >= STORM_REQUESTS and refused + resent > taken)


def test_memory_is_bounded_and_the_totals_stay_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENDPOINTS", 3)
    registry = CollectorRegistry()
    endpoints = Endpoints(str)
    registry.register(endpoints)
    for number in range(10):
        endpoints.taken(arrival(agent=Agent(f"token-{number}", "x", "")), events=2, duplicates=0, rejected=1)
    assert len(endpoints.draw()) == 3
    endpoints.taken(arrival(agent=Agent("token-9", "x", "")), events=0, duplicates=5, rejected=0)
    endpoints.refused(arrival(agent=NOBODY), "no")
    endpoints.refused(arrival(agent=NOBODY), "slow", limited=True)
    endpoints.read(arrival(agent=NOBODY), 7)
    outcomes = {
        outcome: value(registry, "elis_ingest_requests_total", protocol="hec", outcome=outcome) for outcome in ("taken", "resent", "refused", "limited")
    }
    assert outcomes == {"taken": 10, "resent": 1, "refused": 1, "limited": 1}
    assert value(registry, "elis_ingest_events_total", protocol="hec", outcome="accepted") == 20
    assert value(registry, "elis_ingest_events_total", protocol="hec", outcome="duplicate") == 5
    assert value(registry, "elis_ingest_bytes_total", protocol="hec") == 7


async def test_a_request_that_finds_no_room_is_counted_as_refused(intake: Intake) -> None:
    with intake.admit(ARRIVAL, 2**40), pytest.raises(Unavailable), intake.admit(ARRIVAL, 1):
        raise AssertionError("there was no room")
    batch = Batch()
    batch.append("x", source="s")
    await intake.take(batch, ARRIVAL, default_system="application")
    [(endpoint, counts)] = intake.endpoints.draw()
    assert (counts.requests, counts.refused, counts.events) == (2, 1, 1)
    assert "too much is in work" in endpoint.last_error
