from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from elis.auth.v1 import auth_pb2
from elis.search.v1 import search_pb2
from kit.errors import Unauthenticated, Unavailable
from tests.gateway.peers import Peers, soon, stamp
from tests.gateway.stack import Gateway, run_gateway

TAIL = """subscription($after: String) { tail(filter: {systems: ["sap"], minSeverity: ERROR}, after: $after) {
  __typename ... on TailEvents { cursor events { id body severity } } ... on Gap { dropped resumeCursor } ... on Heartbeat { at } } }"""
PROTOCOL = Subprotocol("graphql-transport-ws")


class Socket:
    """A graphql-transport-ws client."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, **message: Any) -> None:
        await self.connection.send(orjson.dumps(message).decode())

    async def receive(self) -> dict[str, Any]:
        message = await asyncio.wait_for(self.connection.recv(), 10)
        assert isinstance(message, str)
        received: dict[str, Any] = orjson.loads(message)
        return received

    async def start(self, **payload: Any) -> None:
        await self.send(type="connection_init", payload=payload)
        assert (await self.receive())["type"] == "connection_ack"

    async def subscribe(self, query: str = TAIL, operation: str = "1", **variables: Any) -> None:
        await self.send(type="subscribe", id=operation, payload={"query": query, "variables": variables})

    async def close_code(self) -> int:
        async with asyncio.timeout(10):
            try:
                while True:
                    await self.connection.recv()
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd is not None else 0


@asynccontextmanager
async def open_socket(gateway: Gateway, **options: Any) -> AsyncIterator[Socket]:
    async with connect(gateway.websocket_url, subprotocols=options.pop("subprotocols", [PROTOCOL]), **options) as connection:
        yield Socket(connection)


@asynccontextmanager
async def open_started(gateway: Gateway, token: str = "") -> AsyncIterator[Socket]:
    async with open_socket(gateway) as socket:
        await socket.start(authorization=f"Bearer {token or gateway.token}")
        yield socket


def batch(*ids: int) -> search_pb2.TailResponse:
    events = [
        search_pb2.Event(event_id=number, timestamp=stamp(number), observed_at=stamp(number), body=f"line {number}", severity_number=17) for number in ids
    ]
    return search_pb2.TailResponse(events=search_pb2.TailEvents(events=events, cursor=f"after-{ids[-1]}"))


async def test_tail_sends_batches_gaps_and_heartbeats(gateway: Gateway) -> None:
    tail = gateway.peers.tail
    async with open_started(gateway) as socket:
        await socket.subscribe(after="here")
        for item in (
            batch(1, 2),
            search_pb2.TailResponse(gap=search_pb2.TailResponse.Gap(dropped=5_000_000_000, resume_cursor="after-2")),
            search_pb2.TailResponse(heartbeat=stamp(3)),
            None,
        ):
            tail.put_nowait(item)
        received = [await socket.receive() for _ in range(4)]
    assert [message["payload"]["data"]["tail"] for message in received[:3]] == [
        {
            "__typename": "TailEvents",
            "cursor": "after-2",
            "events": [{"id": "1", "body": "line 1", "severity": "ERROR"}, {"id": "2", "body": "line 2", "severity": "ERROR"}],
        },
        {"__typename": "Gap", "dropped": 5_000_000_000, "resumeCursor": "after-2"},
        {"__typename": "Heartbeat", "at": "1970-01-01T00:00:00.000000003Z"},
    ]
    assert received[3] == {"id": "1", "type": "complete"}
    [request] = gateway.peers.requests("Tail")
    assert (request.after, list(request.filter.systems), request.filter.min_severity) == ("here", ["sap"], 17)
    assert gateway.peers.callers == ["user:ada"]


async def test_a_key_is_a_caller_wherever_it_is_given(gateway: Gateway) -> None:
    gateway.peers.answers["GetMe"] = auth_pb2.GetMeResponse(caller=auth_pb2.Caller(name="robot"))
    for payload, headers in (({"Authorization": "Bearer elis_admin"}, {}), ({"x-api-key": "elis_admin"}, {}), ({}, {"authorization": "Bearer elis_admin"})):
        async with open_socket(gateway, additional_headers=headers) as socket:
            await socket.start(**payload)
            await socket.subscribe("{me{name}}")
            assert (await socket.receive())["payload"]["data"] == {"me": {"name": "robot"}}
            assert (await socket.receive())["type"] == "complete"
    assert gateway.peers.callers == ["key:robot"] * 3


async def test_ending_a_subscription_ends_its_call(gateway: Gateway) -> None:
    async with open_started(gateway) as socket:
        for operation in ("1", "2"):
            await socket.subscribe(operation=operation)
            gateway.peers.tail.put_nowait(search_pb2.TailResponse(heartbeat=stamp(1)))
            await socket.receive()
        await socket.send(type="complete", id="1")
        await ended(gateway.peers, 1)
    await ended(gateway.peers, 2)


async def ended(peers: Peers, count: int) -> None:
    for _ in range(200):
        if peers.tails_ended == count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{peers.tails_ended} calls have ended, not {count}")


async def test_the_error_of_a_stream_is_told(gateway: Gateway) -> None:
    async with open_started(gateway) as socket:
        await socket.subscribe()
        gateway.peers.tail.put_nowait(batch(1))
        assert (await socket.receive())["type"] == "next"
        gateway.peers.tail.put_nowait(Unavailable("search is busy", retry_after=1.0))
        message = await socket.receive()
        [error] = message["payload"]["errors"]
        assert (error["message"], error["extensions"]["code"]) == ("search is busy", "UNAVAILABLE")
        assert error["extensions"]["requestId"]
        assert (await socket.receive())["type"] == "complete"


async def test_a_caller_without_the_scope_is_told_so(gateway: Gateway) -> None:
    async with open_started(gateway, gateway.peers.issuer.token("self:read")) as socket:
        await socket.subscribe()
        message = await socket.receive()
        [error] = message["payload"]["errors"] if message["type"] == "next" else message["payload"]
        assert error["extensions"]["code"] == "PERMISSION_DENIED"


async def test_a_wrong_document_is_an_error_of_its_operation(gateway: Gateway) -> None:
    async with open_started(gateway) as socket:
        for number, document in enumerate(("subscription{tail{nothing}}", "{", "{" + "a " * 2_000 + "}")):
            await socket.subscribe(document, str(number))
            message = await socket.receive()
            assert (message["type"], message["id"]) == ("error", str(number))
            assert message["payload"][0]["extensions"]["code"] == "INVALID_ARGUMENT"


async def test_a_connection_without_a_caller_is_closed(gateway: Gateway) -> None:
    for given, code in (({}, 4401), ({"authorization": 5}, 4401), ({"authorization": "Bearer elis_wrong"}, 4403), ({"authorization": "Bearer a.b.c"}, 4403)):
        async with open_socket(gateway) as socket:
            await socket.send(type="connection_init", payload=given)
            assert await socket.close_code() == code


async def test_a_connection_is_not_refused_because_auth_is_away(gateway: Gateway) -> None:
    gateway.peers.answers["ExchangeApiKey"] = Unavailable("auth is busy")
    async with open_socket(gateway) as socket:
        await socket.send(type="connection_init", payload={"authorization": "Bearer elis_admin_unseen"})
        assert await socket.close_code() == 1013


BREACHES: list[tuple[list[Any], int]] = [
    ([{"type": "subscribe", "id": "1", "payload": {"query": "{me{name}}"}}], 4401),
    (["init", "init"], 4429),
    (["init", {"type": "subscribe", "id": 1, "payload": {"query": "{me{name}}"}}], 4400),
    (["init", {"type": "subscribe", "id": "1", "payload": []}], 4400),
    (["init", {"type": "subscribe", "id": "1", "payload": {"query": "{me{name}}", "variables": []}}], 4400),
    (["init", {"type": "subscribe", "id": "1", "payload": {"query": 5}}], 4400),
    (["init", {"type": "complete"}], 4400),
    (["init", {"type": "unknown"}], 4400),
    (["init", {"type": 5}], 4400),
    (["init", {}], 4400),
    (["init", []], 4400),
    (["init", "{"], 4400),
    (["init", "[" * 50_000], 4400),
    (["init", b"\x00"], 4400),
    (["init", "x" * 200_000], 1009),
    ([{"type": "connection_init", "payload": 5}], 4400),
    (["init", {"type": "subscribe", "id": "1", "payload": {"query": "subscription{tail{__typename}}"}}] * 2, 4429),
]


async def test_a_client_that_breaks_the_protocol_is_cut_off(gateway: Gateway) -> None:
    for messages, code in BREACHES:
        async with open_socket(gateway) as socket:
            for message in messages:
                if message == "init":
                    await socket.send(type="connection_init", payload={"authorization": f"Bearer {gateway.token}"})
                else:
                    await socket.connection.send(message if isinstance(message, str | bytes) else orjson.dumps(message).decode())
            assert await socket.close_code() == code, messages


async def test_a_client_that_says_nothing_is_cut_off(peers: Peers, addresses: dict[str, str], valkey_url: str) -> None:
    async with run_gateway(peers, addresses, valkey_url, connection_init_timeout=timedelta(seconds=0.2)) as gateway, open_socket(gateway) as socket:
        assert await socket.close_code() == 4408


async def test_operations_on_a_connection_are_bounded(gateway: Gateway) -> None:
    async with open_started(gateway) as socket:
        for number in range(11):
            await socket.subscribe(operation=str(number))
        message = await socket.receive()
        assert (message["type"], message["id"]) == ("error", "10")
    # Clients that leave before the first answer leave no call behind.
    await ended(gateway.peers, len(gateway.peers.requests("Tail")))


async def test_operations_on_a_connection_are_counted_like_requests(peers: Peers, addresses: dict[str, str], valkey_url: str) -> None:
    token = peers.issuer.token("self:read", name="hasty socket")
    async with run_gateway(peers, addresses, valkey_url, rate_limits={"request": "3/hour"}) as gateway, open_started(gateway, token) as socket:
        for number, expected in enumerate(("next", "next", "error")):
            await socket.subscribe("{__typename}", str(number))
            message = await socket.receive()
            assert message["type"] == expected
            if expected == "next":
                assert (await socket.receive())["type"] == "complete"
        assert message["payload"][0]["extensions"]["code"] == "RESOURCE_EXHAUSTED"


async def test_other_origins_and_other_protocols_are_refused(gateway: Gateway) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with open_socket(gateway, origin=Origin("https://evil.example.org")):
            pass
    assert caught.value.response.status_code == 403
    async with open_socket(gateway, origin=Origin(gateway.url)) as socket:
        await socket.start(authorization=f"Bearer {gateway.token}")
    async with open_socket(gateway, subprotocols=[Subprotocol("graphql-ws")]) as socket:
        assert await socket.close_code() == 4406


async def test_a_connection_ends_with_its_token(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.endpoint.CHECK_SECONDS", 0.1)
    async with open_started(gateway, gateway.peers.issuer.token("events:read", lifetime=1)) as socket:
        await socket.subscribe()
        assert await socket.close_code() == 4403
    await ended(gateway.peers, 1)


async def test_a_connection_ends_when_its_caller_is_revoked(peers: Peers, addresses: dict[str, str], valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.endpoint.CHECK_SECONDS", 0.1)
    async with run_gateway(peers, addresses, valkey_url) as gateway, open_started(gateway) as socket:
        revoked = auth_pb2.Revocation(subject="user:ada", revoked_at=soon(0))
        peers.answers["ListRevocations"] = auth_pb2.ListRevocationsResponse(revocations=[revoked])
        assert await socket.close_code() == 4403


async def test_a_connection_of_a_key_goes_on_with_a_new_token(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.endpoint.CHECK_SECONDS", 0.1)
    expires_at = stamp(1_000_000_000)
    gateway.peers.answers["ExchangeApiKey"] = lambda _: auth_pb2.ExchangeApiKeyResponse(
        access_token=gateway.peers.issuer.token("self:read", kind="key", name="robot", lifetime=2), expires_at=expires_at
    )
    gateway.peers.answers["GetMe"] = auth_pb2.GetMeResponse(caller=auth_pb2.Caller(name="robot"))
    async with open_socket(gateway) as socket:
        await socket.start(authorization="Bearer elis_admin_renewed")
        await asyncio.sleep(2.3)
        await socket.subscribe("{me{name}}")
        assert (await socket.receive())["payload"]["data"] == {"me": {"name": "robot"}}
        gateway.peers.answers["ExchangeApiKey"] = Unauthenticated("the API key was revoked")
        assert await socket.close_code() == 4403
