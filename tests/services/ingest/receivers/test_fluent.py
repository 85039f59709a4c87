"""Fluent forward, sent by a logger that teams have and, for what that cannot do, as raw frames."""

from __future__ import annotations

import asyncio
import gzip
import struct
from typing import Any

import asyncpg
import msgpack
from fluent.sender import FluentSender

from services.ingest.intake import Intake
from services.ingest.settings import IngestSettings
from tests.services.ingest.conftest import RunningIngest
from tests.services.ingest.receivers.sockets import HOST, connect, open_sockets
from tests.services.ingest.receivers.stored import read_events, wait_for_events

NANOS = 1_795_500_000_123_456_789
TIME = msgpack.ExtType(0, struct.pack(">II", *divmod(NANOS, 10**9)))


def packed(*records: dict[Any, Any]) -> bytes:
    """Returns packed entries."""
    return b"".join(msgpack.packb([TIME, record]) for record in records)


async def test_the_logger_library(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    def send() -> None:
        sender = FluentSender("shop", host=HOST, port=running_ingest.ports["fluent"], nanosecond_precision=True)
        for _ in range(2):
            assert sender.emit("orders", {"message": "payment of order 42 failed", "level": "error", "order": {"id": 42}, "ok": False})
        sender.close()

    await asyncio.to_thread(send)
    events = await wait_for_events(pool, 2)
    for event in events:
        assert (event["body"], event["source"], event["system"], event["severity_number"]) == ("payment of order 42 failed", "shop", "application", 17)
        assert event["attributes"]["fluent.tag"] == "shop.orders"
        assert event["attributes"]["ok"] is False


async def test_every_mode_is_stored_before_it_is_acknowledged(settings: IngestSettings, intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    compressed = gzip.compress(packed({"log": "d\n"})) + gzip.compress(packed({"log": "e", "stream": "stderr"}))
    messages: list[list[Any]] = [
        ["app", TIME, {"msg": "a"}],
        ["app", [[1_795_500_001, {"log": "b"}], [[TIME, {"m": 1}], {"log": "c"}]]],
        ["app", packed({"log": "f"}, {"n": 1, b"\xff": b"\xfe"})],
        ["app", compressed],
    ]
    options: list[dict[str, Any]] = [{}, {"size": 2}, {}, {"compressed": "gzip", "size": 2}]
    events: list[dict[str, Any]] = []
    async with open_sockets(settings, intake) as sockets:
        async with connect(sockets.port("fluent")) as client:
            for number, (message, option) in enumerate(zip(messages, options, strict=True)):
                client.send(None, [*message, {"chunk": f"chunk-{number}", **option}])
                assert await client.receive() == {"ack": f"chunk-{number}"}
                before, events = events, await read_events(pool)
                assert len(events) > len(before)
        bodies = {event["body"]: event for event in events}
        assert bodies.keys() == {"a", "b", "c", "d", "e", "f", '{"n":1,"\ufffd":"\ufffd"}'}
        assert {bodies[body]["timestamp"] for body in "acdef"} == {NANOS}
        assert bodies["c"]["attributes"]["fluent.metadata"] == {"m": 1}
        assert bodies["e"]["attributes"]["log.iostream"] == "stderr"
        assert bodies['{"n":1,"\ufffd":"\ufffd"}']["attributes"]["n"] == 1

        async with connect(sockets.port("fluent")) as again:  # as after a lost acknowledgement
            again.send([*messages[2], {"chunk": "chunk-2"}])
            assert await again.receive() == {"ack": "chunk-2"}
    assert len(await read_events(pool)) == len(events)


async def test_pods_and_containers_name_host_service_and_source(settings: IngestSettings, intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    pod = {"host": "node-1", "pod_name": "pay-7d9f", "namespace_name": "shop", "container_name": "main", "labels": {"app": "payments"}}
    container = {"log": "in a container", "source": "stdout", "container_id": "0123456789ab" * 5, "container_name": "/web"}
    async with open_sockets(settings, intake) as sockets, connect(sockets.port("fluent")) as client:
        client.send(["kube.var.log", TIME, {"log": "ERROR: in a pod\n", "stream": "stdout", "kubernetes": pod}, {"chunk": "1"}])
        client.send(["0123456789ab", TIME, container, {"chunk": "2"}])
        assert (await client.receive(), await client.receive()) == ({"ack": "1"}, {"ack": "2"})
    in_pod, in_container = await read_events(pool)
    assert (in_pod["host"], in_pod["service"], in_pod["source"], in_pod["severity_number"]) == ("node-1", "payments", "payments", 17)
    assert (in_container["service"], in_container["source"], in_container["attributes"]["log.iostream"]) == ("web", "web", "stdout")
