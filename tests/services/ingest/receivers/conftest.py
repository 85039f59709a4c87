"""A whole ingest application for the receivers' tests: real auth, real PostgreSQL, real ports where needed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

import httpx
import pytest

from kit.server import Application, cancel_tasks
from kit.settings import Addresses
from kit.targets import TARGETS
from services.ingest.app import build
from services.ingest.settings import IngestSettings
from tests.fixtures.signin import RunningAuth


@dataclass
class RunningIngest:
    """An ingest application whose web receivers are called in process."""

    application: Application
    web: httpx.AsyncClient
    token: str
    otlp_grpc_address: str


def free_offset() -> int:
    """Returns a port offset whose ports for ingest are free."""
    for offset in range(100, 10_000, 7):
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", TARGETS["ingest"].ports["otlp_grpc"] + offset))
            return offset
    raise RuntimeError("no free port")


@pytest.fixture
async def running_ingest(settings: IngestSettings, running_auth: RunningAuth) -> AsyncIterator[RunningIngest]:
    """The ingest application, running."""
    offset = free_offset()
    settings = settings.model_copy(update={"addresses": Addresses(auth=running_auth.address), "port_offset": offset})
    async with build(settings) as application:
        tasks = [asyncio.ensure_future(work()) for work in application.background]
        for server in application.extra_servers:
            await server.start()
        transport = httpx.ASGITransport(application.http[0].application)
        async with httpx.AsyncClient(transport=transport, base_url="http://ingest") as web:
            yield RunningIngest(application, web, running_auth.credentials.ingest_token, f"127.0.0.1:{settings.port('ingest', 'otlp_grpc')}")
        for server in application.extra_servers:
            await server.stop(1.0)
        await cancel_tasks(tasks)
