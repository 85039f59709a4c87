"""Fluent forward, sent by a logger that teams have and, for what that cannot do, as raw frames."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

import asyncpg
import msgpack
from fluent.sender import FluentSender

from services.ingest.intake import Intake
from services.ingest.settings import IngestSettings
from tests.services.ingest.conftest import ARRIVAL, RunningIngest
from tests.services.ingest.receivers.certificates import make_certificates
from tests.services.ingest.receivers.sockets import HOST, Sockets, connect, open_sockets
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


def ping(helo: Any, key: str, user: str = "", password: str = "", salt: bytes = b"\xff" * 16) -> list[Any]:
    """Returns the PING of a client for a HELO."""
    nonce, auth = helo[1]["nonce"], helo[1]["auth"]
    digest = hashlib.sha512(salt + b"web-1" + nonce + key.encode()).hexdigest()
    return ["PING", "web-1", salt, digest, user, hashlib.sha512(auth + user.encode() + password.encode()).hexdigest()]


async def test_a_client_proves_the_shared_key_and_gets_a_proof(settings: IngestSettings, intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    async with open_sockets(settings, intake, fluent_shared_key="secret", fluent_users="ann:pass, bob:word") as sockets:
        port = sockets.port("fluent")
        async with connect(port) as client:
            helo = await client.receive()
            assert (helo[0], helo[1]["keepalive"]) == ("HELO", True)
            client.send(ping(helo, "secret", "bob", "word"))
            kind, right, _, server, proof = await client.receive()
            assert (kind, right) == ("PONG", True)
            assert proof == hashlib.sha512(b"\xff" * 16 + server.encode() + helo[1]["nonce"] + b"secret").hexdigest()
            client.send(["app", TIME, {"log": "let in"}, {"chunk": "1"}])
            assert await client.receive() == {"ack": "1"}
        refused = [("wrong", "bob", "word"), ("secret", "bob", "pass"), ("secret", "eve", "word"), ("secret", "", "")]
        for key, user, password in refused:
            async with connect(port) as client:
                client.send(ping(await client.receive(), key, user, password), ["app", TIME, {"log": "not let in"}, {"chunk": "2"}])
                assert (await client.receive())[:2] == ["PONG", False]
                assert await client.hung_up()
        for hello in ["app", TIME, {"log": "not let in"}, {"chunk": "3"}], ["PING"], 7:
            async with connect(port) as client:
                await client.receive()
                client.send(hello)
                assert (await client.receive())[:2] == ["PONG", False]
    assert [event["body"] for event in await read_events(pool)] == ["let in"]
    assert {"bob"} == {endpoint.token_name for endpoint, _ in intake.endpoints.draw() if endpoint.token_name}


def test_without_a_shared_key_only_this_machine_may_send(settings: IngestSettings, intake: Intake) -> None:
    for changes, host in ({}, "127.0.0.1"), ({"fluent_shared_key": "secret"}, "0.0.0.0"):
        changed = IngestSettings(**{**settings.model_dump(), "bind_host": "0.0.0.0", **changes})
        assert Sockets(changed, intake).fluent[0].host == host  # type: ignore[attr-defined]


async def test_tls(settings: IngestSettings, intake: Intake, pool: asyncpg.Pool[Any], tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    context = ssl.create_default_context(cafile=files.ca)
    options = {"tls_certificate": files.server, "tls_key": files.server_key, "fluent_tls": True}
    async with open_sockets(settings, intake, **options) as sockets, connect(sockets.port("fluent"), context) as client:
        client.send(["app", TIME, {"log": "over TLS"}, {"chunk": "1"}])
        assert await client.receive() == {"ack": "1"}


async def test_overload_means_no_acknowledgement_and_the_resend_is_stored_once(settings: IngestSettings, intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    chunk = ["app", packed({"log": "a"}, {"log": "b"}), {"chunk": "1"}]
    async with open_sockets(settings, intake) as sockets, connect(sockets.port("fluent")) as client, connect(sockets.port("fluent")) as unacknowledged:
        with intake.admit(ARRIVAL, settings.max_pending_bytes):  # no room for anybody else
            client.send(chunk)
            unacknowledged.send(["app", TIME, {"log": "c"}])
            await asyncio.sleep(0.1)
            assert await read_events(pool) == []
        assert await client.receive() == {"ack": "1"}
        async with connect(sockets.port("fluent")) as again:
            again.send(chunk, chunk)
            assert [await again.receive(), await again.receive()] == [{"ack": "1"}] * 2
        events = await wait_for_events(pool, 3)
    assert sorted(event["body"] for event in events) == ["a", "b", "c"]


async def test_a_chunk_is_acknowledged_while_the_port_closes_and_to_a_half_closed_socket(
    settings: IngestSettings, intake: Intake, pool: asyncpg.Pool[Any]
) -> None:
    async with open_sockets(settings, intake) as sockets:
        async with connect(sockets.port("fluent")) as client:
            client.send(["app", TIME, {"log": "a"}, {"chunk": "1"}])
            client.writer.write_eof()
            assert [await client.receive(), await client.receive()] == [{"ack": "1"}, None]
        async with connect(sockets.port("fluent")) as client:
            client.send(["app", TIME, {"log": "b"}, {"chunk": "2"}])
            await asyncio.gather(sockets.stop(), client.writer.drain())
            assert [await client.receive(), await client.receive()] == [{"ack": "2"}, None]
    assert [event["body"] for event in await read_events(pool)] == ["a", "b"]


async def test_heartbeats(settings: IngestSettings, intake: Intake) -> None:
    async with open_sockets(settings, intake) as sockets, connect(sockets.port("fluent")) as client:
        client.send(None, None)
        client.send(["app", TIME, {"log": "a"}, {"chunk": "1"}])
        assert await client.receive() == {"ack": "1"}
        with socket.socket(type=socket.SOCK_DGRAM) as sender:
            sender.settimeout(20.0)
            sender.sendto(b"\0", (HOST, sockets.port("fluent")))
            assert await asyncio.to_thread(sender.recv, 10) == b"\0"


async def test_bad_messages_cost_no_neighbour(settings: IngestSettings, intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    bomb = gzip.compress(bytes(8 * 1024 * 1024))
    bad: list[Any] = [7, "text", [], ["tag"], ["tag", 1], ["tag", [1, 2]], [None, 1, {}], ["tag", bomb, {"compressed": "gzip"}], {"log": "a"}]
    async with open_sockets(settings, intake, fluent_message_bytes=1024 * 1024) as sockets:
        async with connect(sockets.port("fluent")) as client:
            for number, value in enumerate(bad):
                client.send(value, ["app", TIME, {"log": f"good {number}\x00\x1b[31m"}, {"chunk": str(number)}])
                assert await client.receive() == {"ack": str(number)}
            client.writer.write(msgpack.packb(["app", TIME, {"log": "right before the break"}, {"chunk": "last"}]) + b"\xc1")
            assert [await client.receive(), await client.receive()] == [{"ack": "last"}, None]
        for head in b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 100, b"\x92\xa3tag":
            async with connect(sockets.port("fluent")) as client:
                client.writer.write(head)
                client.writer.write_eof()
                assert await client.hung_up()
    assert len(await read_events(pool)) == len(bad) + 1
    rejected = {row["reason"]: row["count"] for row in await pool.fetch("SELECT reason, sum(count) AS count FROM ingest.rejection_groups GROUP BY reason")}
    assert rejected == {"invalid_document": len(bad) + 1, "frame_broken": 5}
