"""Fixtures of the ingest tests."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom
from typing import Any

import asyncpg
import httpx
import pytest
from prometheus_client import CollectorRegistry

from kit.db import open_pool
from kit.server import Application, cancel_tasks
from kit.settings import Addresses
from kit.targets import TARGETS
from services.ingest.announcer import Announcer
from services.ingest.app import build
from services.ingest.committer import Committer
from services.ingest.endpoints import Arrival
from services.ingest.intake import Intake
from services.ingest.masking.assembly import assemble_masking
from services.ingest.pipeline import Pipeline
from services.ingest.quality.book import QualityBook
from services.ingest.rejection_store import RejectionStore
from services.ingest.rejections import Sealer
from services.ingest.settings import IngestSettings
from services.ingest.sources import SourceBook
from services.ingest.tokens import Agent
from services.ingest.worker import Worker
from tests.fixtures.signin import RunningAuth

ARRIVAL = Arrival("hec", Agent("token-1", "tests", ""), "192.0.2.1", "tests")


@pytest.fixture
def settings(database_url: str, redis_url: str, data_dir: Path) -> IngestSettings:
    """Settings of an ingest process on this test's engines."""
    return IngestSettings(
        database_url=database_url,
        redis_url=redis_url,
        service_secret="s" * 64,
        data_dir=data_dir,
        masking_key="m" * 64,
        seal_key="0" * 64,
    )


@pytest.fixture
async def pool(settings: IngestSettings) -> AsyncIterator[asyncpg.Pool[Any]]:
    """A pool on this test's database."""
    async with open_pool(settings, "tests") as pool:
        yield pool


class NullRedisAnnouncer(Announcer):
    """An announcer whose Redis is never asked: readers follow the feed."""

    def __init__(self) -> None:
        super().__init__(None)  # type: ignore[arg-type]


@asynccontextmanager
async def run_intake(settings: IngestSettings, pool: asyncpg.Pool[Any], announcer: Announcer | None = None) -> AsyncIterator[Intake]:
    """Runs an intake with its committer."""
    sources = SourceBook(pool)
    masking = assemble_masking(pool, CollectorRegistry(), masking_keys=settings.masking_keys, seal_keys=settings.seal_keys)
    masker = masking.masker
    worker = Worker()
    rejections = RejectionStore(Sealer([bytes(32)]), masker.mask_text, bytes_per_day=settings.rejected_bytes_per_day)
    told = announcer or NullRedisAnnouncer()
    committer = Committer(settings, pool, sources, Pipeline(settings, sources, masker), rejections, masking.vault, QualityBook(pool), told, worker)
    task = asyncio.create_task(committer.run())
    yield Intake(settings, sources, committer, worker, masker)
    await cancel_tasks([task])


@pytest.fixture
async def intake(settings: IngestSettings, pool: asyncpg.Pool[Any]) -> AsyncIterator[Intake]:
    """A running intake with its committer."""
    async with run_intake(settings, pool) as intake:
        yield intake


@dataclass
class RunningIngest:
    """An ingest application whose web receivers are called in process."""

    application: Application
    web: httpx.AsyncClient
    token: str
    otlp_grpc_address: str
    ports: dict[str, int] = field(default_factory=dict)
    """Port by purpose of the target table."""


def free_offset() -> int:
    """Returns a port offset whose ports are free; a random one, since other workers look for theirs too."""
    for offset in SystemRandom().sample(range(100, 8_500), 100):
        with suppress(OSError), ExitStack() as stack:
            for purpose, port in TARGETS["ingest"].ports.items():
                probe = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM if purpose.endswith("_udp") else socket.SOCK_STREAM))
                probe.bind(("127.0.0.1", port + offset))
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
            ports = {purpose: settings.port("ingest", purpose) for purpose in TARGETS["ingest"].ports}
            yield RunningIngest(application, web, running_auth.credentials.ingest_token, f"127.0.0.1:{ports['otlp_grpc']}", ports)
        for server in application.extra_servers:
            await server.stop(1.0)
        await cancel_tasks(tasks)
