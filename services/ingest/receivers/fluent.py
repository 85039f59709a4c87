"""Fluent forward, as Fluentd, Fluent Bit, Docker and the Fluent loggers send it; a chunk is acknowledged when it is stored.

Source: Fluentd wiki, Forward Protocol Specification v1; reference wire-formats §6.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from ipaddress import ip_address
from typing import cast
from uuid import uuid4

import msgpack
import structlog

from kit.errors import RateLimited, Unavailable
from kit.server import Listener
from services.ingest.batch import Batch
from services.ingest.endpoints import Arrival
from services.ingest.intake import Intake
from services.ingest.receivers.fluent_frames import MessageReader
from services.ingest.receivers.fluent_handshake import MAX_PING, Guard, Handshake
from services.ingest.receivers.fluent_messages import read_message
from services.ingest.receivers.fluent_records import DEFAULT_SOURCE, FluentBatch, batch_of
from services.ingest.receivers.streams import Connection, StreamPort, create_tls_context
from services.ingest.rejections import Rejection, RejectReason
from services.ingest.settings import IngestSettings
from services.ingest.tokens import NOBODY, Agent

log = structlog.get_logger()

PROTOCOL = "fluent"
DEFAULT_SYSTEM = "application"
PING_SECONDS = 20.0
MAX_HELD_BYTES = 96 * 1024 * 1024
"""Bytes of messages that are unfinished or wait, in all connections; one that needs more is closed, and its client sends again."""
FIRST_PAUSE_SECONDS = 0.05
LAST_PAUSE_SECONDS = 5.0
LOCAL = "127.0.0.1"


class FluentReceiver:
    """Serves the connections of the port."""

    def __init__(self, settings: IngestSettings, intake: Intake, guard: Guard | None) -> None:
        self._limit = settings.fluent_message_bytes
        self._source = settings.fluent_source
        self._idle_seconds = settings.socket_idle_timeout.total_seconds()
        self._intake = intake
        self._guard = guard
        self._held = 0

    def refuse(self, address: str, reason: str) -> None:
        """Notes a peer that was turned away."""
        self._intake.endpoints.refused(Arrival(PROTOCOL, NOBODY, address), f"disconnected: {reason}")

    async def serve(self, connection: Connection) -> None:
        """Takes the messages of a client one after the other."""
        arrival = await self._authenticate(connection)
        if arrival is None:
            return
        reader = MessageReader(self._limit)
        held = 0
        try:
            while data := await connection.read(self._idle_seconds):
                messages = reader.feed(data)
                waiting = reader.held + sum(map(len, messages))
                self._held += waiting - held
                held = waiting
                if self._held > MAX_HELD_BYTES:
                    self._intake.endpoints.refused(arrival, "too much waits to be stored; the connection was closed")
                    return
                for message in messages:
                    if not await self._take(connection, arrival, message):
                        return
                    self._held -= len(message)
                    held -= len(message)
                if reader.problem:
                    self._intake.endpoints.refused(arrival, reader.problem)
                    await self._keep_broken(arrival, reader.head, reader.problem)
                    return
            if held:
                await self._keep_broken(arrival, reader.head, "the connection ended inside a message")
        finally:
            self._held -= held

    async def _authenticate(self, connection: Connection) -> Arrival | None:
        """Returns who sends, or None when the client was refused."""
        if self._guard is None:
            return Arrival(PROTOCOL, Agent(PROTOCOL, PROTOCOL, ""), connection.address)
        handshake = Handshake(self._guard)
        await connection.send(handshake.helo())
        reader, messages = MessageReader(MAX_PING), list[bytes]()
        async with asyncio.timeout(PING_SECONDS):
            while not messages and not reader.problem and (data := await connection.read(PING_SECONDS)):
                messages = reader.feed(data)
        if not messages:
            self.refuse(connection.address, reader.problem or "no PING")
            return None
        verdict = handshake.check(messages[0])
        await connection.send(verdict.pong)
        if verdict.refusal:
            self.refuse(connection.address, verdict.refusal)
            return None
        name = verdict.user if self._guard.users else PROTOCOL
        return Arrival(PROTOCOL, Agent(f"{PROTOCOL}:{name}", name, ""), connection.address, verdict.hostname)

    async def _take(self, connection: Connection, arrival: Arrival, message: bytes) -> bool:
        """Stores a message and acknowledges it; returns False when it is not stored and its client sends it again.

        A client that wants no acknowledgement forgets what it has sent: nothing more is read from it until that is stored.
        """
        charged = False
        key, observed_at, pause = uuid4().hex, time.time_ns(), FIRST_PAUSE_SECONDS
        while True:
            decoded: FluentBatch | None = None
            try:
                with self._intake.admit(arrival, len(message)):
                    # Preparing a batch changes it, so that every try needs a new one.
                    decoded = await self._intake.decode(len(message), lambda: self._decode(message))
                    if decoded is None:
                        return True
                    if not charged:
                        charged = True
                        self._intake.read(arrival, decoded.size)
                    await self._intake.take(
                        decoded.batch,
                        arrival,
                        default_system=DEFAULT_SYSTEM,
                        formats=decoded.formats,
                        rejections=decoded.rejections,
                        idempotency_key=decoded.key or key,
                        observed_at=observed_at,
                    )
                break
            except (Unavailable, RateLimited) as error:
                if decoded is not None and decoded.chunk is not None:
                    log.warning("a chunk is not stored; its client sends it again", reason=error.message)
                    return False
                log.warning("a message waits to be stored", reason=error.message, seconds=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LAST_PAUSE_SECONDS)
        if decoded.chunk is not None:
            await connection.send(msgpack.packb({"ack": decoded.chunk}))
        return True

    def _decode(self, message: bytes) -> FluentBatch | None:
        read = read_message(message, self._limit)
        return None if read is None else batch_of(read, self._source)

    async def _keep_broken(self, arrival: Arrival, raw: bytes, detail: str) -> None:
        """Keeps what is no message as a rejected record; the client gets no acknowledgement."""
        rejection = Rejection(self._source or DEFAULT_SOURCE, RejectReason.FRAME_BROKEN, f"{detail}; only its beginning is kept", raw)
        try:
            with self._intake.admit(arrival, len(raw)):
                await self._intake.take(Batch(), arrival, default_system=DEFAULT_SYSTEM, rejections=[rejection], idempotency_key=uuid4().hex)
        except (Unavailable, RateLimited) as error:
            log.warning("a broken message is counted but not kept", reason=error.message, detail=detail)


class Heartbeats(asyncio.DatagramProtocol):
    """Answers the UDP heartbeat of Fluentd (`heartbeat_type udp`) with one byte."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        """Opens the port; raises OSError when it cannot be opened."""
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, local_addr=(self._host, self._port))

    async def stop(self, _: float | None) -> None:
        """Closes the port."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, _: bytes, address: tuple[str | int, ...]) -> None:
        """Answers."""
        if self._transport is not None:
            self._transport.sendto(b"\0", address)

    def error_received(self, error: Exception) -> None:
        """Notes an error of the system, such as a peer that is gone."""
        log.debug("fluent heartbeat", reason=repr(error))


def create_fluent_listeners(settings: IngestSettings, intake: Intake) -> Sequence[Listener]:
    """Returns the TCP port and its UDP heartbeat. Without a shared key they are open to programs of the same machine only."""
    key = settings.fluent_shared_key.get_secret_value()
    guard = Guard(key.encode(), dict(_split_user(user) for user in settings.fluent_accounts)) if key else None
    host = settings.bind_host
    if guard is None and not _is_loopback(host):
        host = LOCAL
        log.info("the Fluent port is open to this machine only: ELIS_FLUENT_SHARED_KEY is not set", port=settings.port("ingest", "fluent"))
    receiver = FluentReceiver(settings, intake, guard)
    context = create_tls_context(settings.tls_certificate, settings.tls_key, "") if settings.fluent_tls else None
    port = settings.port("ingest", "fluent")
    return [
        StreamPort(PROTOCOL, host, port, receiver.serve, receiver.refuse, settings.socket_connections, context),
        Heartbeats(host, port),
    ]


def _split_user(account: str) -> tuple[bytes, bytes]:
    name, _, password = account.partition(":")
    return name.encode(), password.encode()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
