"""Socket receivers on free ports before a running intake, and clients that speak to them byte by byte."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgpack
from prometheus_client import CollectorRegistry

from kit.server import Listener
from services.ingest.intake import Intake
from services.ingest.receivers.fluent import create_fluent_listeners
from services.ingest.receivers.syslog import create_syslog_listeners
from services.ingest.settings import IngestSettings
from tests.services.ingest.conftest import free_offset

HOST = "127.0.0.1"
SECONDS = 30.0


class Sockets:
    """The open listeners of both protocols."""

    def __init__(self, settings: IngestSettings, intake: Intake) -> None:
        self.settings = settings
        self.registry = CollectorRegistry()
        self.syslog = create_syslog_listeners(settings, intake, self.registry)
        self.fluent = create_fluent_listeners(settings, intake)

    @property
    def listeners(self) -> Sequence[Listener]:
        """All of them."""
        return [*self.syslog, *self.fluent]

    def port(self, purpose: str) -> int:
        """Returns the port for a purpose of the target table."""
        return self.settings.port("ingest", purpose)

    def dropped(self, reason: str) -> float:
        """Returns how many datagrams were dropped for a reason."""
        return self.registry.get_sample_value("elis_syslog_datagrams_dropped_total", {"reason": reason}) or 0.0

    async def stop(self, grace: float = 10.0) -> None:
        """Stops them as SIGTERM does."""
        await asyncio.gather(*(listener.stop(grace) for listener in self.listeners))


@asynccontextmanager
async def open_sockets(settings: IngestSettings, intake: Intake, **changes: Any) -> AsyncIterator[Sockets]:
    """Opens the listeners with changed settings; stops them at the end."""
    checked = IngestSettings(**{**settings.model_dump(), "port_offset": free_offset(), **changes})
    sockets = Sockets(checked, intake)
    for listener in sockets.listeners:
        await listener.start()
    try:
        yield sockets
    finally:
        await sockets.stop(1.0)


class Client:
    """A connection that sends values and reads replies."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._unpacker = msgpack.Unpacker(raw=False)

    def send(self, *values: Any) -> None:
        """Sends MessagePack values."""
        self.writer.write(b"".join(msgpack.packb(value) for value in values))

    async def receive(self) -> Any:
        """Returns the next MessagePack reply; None when the server has hung up."""
        async with asyncio.timeout(SECONDS):
            while True:
                for value in self._unpacker:
                    return value
                data = await self.reader.read(4096)
                if not data:
                    return None
                self._unpacker.feed(data)

    async def hung_up(self) -> bool:
        """Waits until the server hangs up; returns whether it sent nothing before."""
        async with asyncio.timeout(SECONDS):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True


@asynccontextmanager
async def connect(port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
    """Yields a connected client."""
    reader, writer = await asyncio.open_connection(HOST, port, ssl=tls)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
