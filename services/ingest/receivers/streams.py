"""TCP and TLS ports of protocols that are not HTTP: bounded connections that are read only as fast as their data is stored."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

import structlog

log = structlog.get_logger()

BUFFER_BYTES = 64 * 1024
"""A connection with this much unread data is not read any further."""
TOTAL_BUFFER_BYTES = 32 * 1024 * 1024
"""With this much unread data in all connections of a port, none with unread data is read any further."""
SEND_SECONDS = 30.0
"""A peer that takes no reply for so long is disconnected."""
LINGER_SECONDS = 0.1
"""How long data that is on its way is still read after the port was closed."""
HANDSHAKE_SECONDS = 10.0

Serve = Callable[["Connection"], Awaitable[None]]


class PeerGone(ConnectionError):
    """The peer hung up, or does not read its replies."""


class Connection(asyncio.Protocol):
    """One peer. `read` gives what it sent; while nobody reads, the peer is held back by TCP itself."""

    def __init__(self, port: StreamPort) -> None:
        self.address = ""
        """The peer's address without its port."""
        self.peer_name = ""
        """Name in the peer's certificate; empty when it has shown none."""
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._paused = False
        self._ended = False
        self._lost = False
        self._wake = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Starts serving the peer, or hangs up."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        _keep_alive(transport.get_extra_info("socket"))
        self.peer_name = certificate_name(transport.get_extra_info("peercert") or {})
        self._port.add(self)

    def data_received(self, data: bytes) -> None:
        """Keeps data until it is read, and holds the peer back when that is much."""
        self._parts.append(data)
        self._size += len(data)
        self._port.buffered += len(data)
        if not self._paused and (self._size >= BUFFER_BYTES or self._port.buffered >= TOTAL_BUFFER_BYTES):
            self._pause()
        self._wake.set()

    def eof_received(self) -> bool:
        """Lets what was sent be served, and replies go out, after the peer has closed its side."""
        self._ended = True
        self._wake.set()
        # TLS knows no half-closed connection.
        return self._port.tls is None

    def connection_lost(self, _: Exception | None) -> None:
        """Ends reading and writing; what was read is still served."""
        self._ended = self._lost = True
        self._wake.set()
        self._writable.set()

    def pause_writing(self) -> None:
        """Makes `send` wait."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Lets `send` go on."""
        self._writable.set()

    async def read(self, seconds: float) -> bytes:
        """Returns what came since the last read, at least one byte; nothing when no more will come. Raises TimeoutError after a silence."""
        if not self._parts:
            self._wake.clear()
            if self._ended:
                return b""
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        return self.take()

    def take(self) -> bytes:
        """Returns what came since the last read, which may be nothing, and lets the peer send more."""
        data = b"".join(self._parts)
        self._parts.clear()
        self._port.buffered -= self._size
        self._size = 0
        if self._paused and not self._ended:
            self._paused = False
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()
        return data

    async def send(self, data: bytes) -> None:
        """Sends a reply; raises PeerGone when the peer hung up or does not read."""
        if self._transport is None or self._lost or self._transport.is_closing():
            raise PeerGone("the peer hung up before its reply")
        self._transport.write(data)
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._writable.wait()
        except TimeoutError:
            raise PeerGone(f"the peer has not read its replies for {SEND_SECONDS:.0f} s") from None

    def end(self) -> None:
        """Stops reading from the peer; `read` gives what is there and then nothing."""
        if not self._ended:
            self._pause()
            self._ended = True
        self._wake.set()

    def close(self) -> None:
        """Hangs up once replies are sent; unread data is dropped."""
        self._port.buffered -= self._size
        self._parts.clear()
        self._size = 0
        self._ended = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Hangs up at once."""
        self.close()
        if self._transport is not None:
            self._transport.abort()

    def _pause(self) -> None:
        self._paused = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()


@dataclass
class StreamPort:
    """A listening port: at most `max_connections` peers, each served by one coroutine until it returns."""

    protocol: str
    host: str
    port: int
    serve: Serve
    refuse: Callable[[str, str], None]
    """Is told the address and the reason when a peer is turned away."""
    max_connections: int
    tls: ssl.SSLContext | None = None
    buffered: int = 0
    """Unread bytes of all connections."""

    def __post_init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._serving: dict[Connection, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Opens the port; raises OSError when it cannot be opened."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self),
            self.host,
            self.port,
            ssl=self.tls,
            ssl_handshake_timeout=HANDSHAKE_SECONDS if self.tls is not None else None,
            backlog=1_024,
            reuse_port=hasattr(socket, "SO_REUSEPORT") or None,
        )

    async def stop(self, grace: float | None) -> None:
        """Closes the port, serves what was read, and hangs up; peers that are not done after `grace` seconds are cut off."""
        if self._server is None:
            return
        self._server.close()
        if self._serving:
            await asyncio.sleep(LINGER_SECONDS)
        for connection in self._serving:
            connection.end()
        if self._serving:
            _, late = await asyncio.wait(list(self._serving.values()), timeout=grace)
            for task in late:
                task.cancel()
            if late:
                log.warning("connections were cut off with data that is not stored", protocol=self.protocol, connections=len(late))
                await asyncio.wait(late, timeout=1.0)
        self._server = None

    def add(self, connection: Connection) -> None:
        """Serves a new connection, or hangs up when there are too many."""
        if self._server is None or len(self._serving) >= self.max_connections:
            self.refuse(connection.address, f"more than {self.max_connections} connections" if self._server is not None else "stopping")
            connection.abort()
            return
        task = asyncio.get_running_loop().create_task(self._run(connection), name=self.protocol)
        self._serving[connection] = task

    async def _run(self, connection: Connection) -> None:
        try:
            await self.serve(connection)
        except TimeoutError:
            self.refuse(connection.address, "silent for too long")
        except PeerGone as error:
            self.refuse(connection.address, str(error))
        except Exception as error:
            log.error("serving a connection failed", protocol=self.protocol, exc_info=error)
        finally:
            connection.close()
            self._serving.pop(connection, None)


def certificate_name(certificate: object) -> str:
    """Returns the common name of a verified certificate, else its first DNS name; empty when it has neither."""
    if not isinstance(certificate, dict):
        return ""
    for part in certificate.get("subject", ()):
        for name, value in part:
            if name == "commonName":
                return str(value)[:200]
    return next((str(value)[:200] for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"), "")


def create_tls_context(certificate: str, key: str, client_ca: str) -> ssl.SSLContext:
    """Returns the context of a TLS port, TLS 1.2 or later. With a `client_ca`, clients must show a certificate that it signed.

    Raises OSError (ssl.SSLError is one) when a file cannot be read or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _keep_alive(peer: object) -> None:
    """Has the system find out about peers that vanished without a word."""
    if peer is not None and hasattr(peer, "setsockopt"):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
