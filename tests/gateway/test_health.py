from __future__ import annotations

import asyncio

from elis.auth.v1 import auth_pb2
from tests.fixtures.servers import run_service
from tests.gateway.peers import SCOPES, Peers, create_service, run_peers
from tests.gateway.stack import Gateway, run_gateway

NOWHERE = "127.0.0.1:1"


async def await_status(gateway: Gateway, status: int) -> dict[str, object]:
    for _ in range(200):
        response = await gateway.http.get("/readyz")
        if response.status_code == status:
            body: dict[str, object] = response.json()
            return body
        await asyncio.sleep(0.02)
    raise AssertionError(f"/readyz stayed {response.status_code}: {response.text}")


async def test_it_is_ready_when_all_services_are_reached(peers: Peers, valkey_url: str) -> None:
    async with run_peers(peers, ("auth", "ingest", "search")) as addresses:
        all_addresses = addresses | {"correlate": NOWHERE}
        async with (
            run_service(create_service(peers, "correlate")) as all_addresses["correlate"],
            run_gateway(peers, all_addresses, valkey_url) as gateway,
        ):
            assert await await_status(gateway, 200) == {"status": "ready", "services": dict.fromkeys(SCOPES, True)}
        async with run_gateway(peers, {**addresses, "correlate": NOWHERE}, valkey_url) as gateway:
            expected = {"status": "not ready", "services": {"auth": True, "ingest": True, "search": True, "correlate": False}}
            for _ in range(500):
                if await await_status(gateway, 503) == expected:
                    break
                await asyncio.sleep(0.02)
            else:
                raise AssertionError("three services are there and nobody says so")
            assert (await gateway.http.get("/healthz")).json() == {"status": "ok"}


async def test_a_running_gateway_stays_ready_without_search_but_not_without_auth(peers: Peers, valkey_url: str) -> None:
    async with run_peers(peers, ("ingest", "correlate")) as addresses:
        async with run_service(create_service(peers, "auth")) as auth:
            async with run_service(create_service(peers, "search")) as search:
                stack = run_gateway(peers, {**addresses, "auth": auth, "search": search}, valkey_url)
                gateway = await stack.__aenter__()
                await await_status(gateway, 200)
            for _ in range(100):
                if (await await_status(gateway, 200))["status"] == "degraded":
                    break
                await asyncio.sleep(0.02)
            else:
                raise AssertionError("search is away and nobody says so")
        await await_status(gateway, 503)
        await stack.__aexit__(None, None, None)


async def test_numbers_for_prometheus(peers: Peers, addresses: dict[str, str], valkey_url: str) -> None:
    peers.answers["GetMe"] = auth_pb2.GetMeResponse(caller=auth_pb2.Caller(subject="user:ada"))
    async with run_gateway(peers, addresses, valkey_url) as gateway:
        await gateway.run("{me{subject}}")
        await gateway.post("{me{subject}}", token="")
        await gateway.post("{me{subject}}", token="elis_wrong")
        text = (await gateway.http.get("/metrics")).text
    assert 'elis_gateway_requests_total{status="200"} 1.0' in text
    assert 'elis_gateway_requests_total{status="401"} 2.0' in text
    assert 'elis_gateway_errors_total{code="UNAUTHENTICATED"} 2.0' in text
    assert "elis_gateway_request_seconds_count 3.0" in text
    assert "process_resident_memory_bytes" in text
