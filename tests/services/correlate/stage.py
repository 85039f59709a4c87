"""The stage of the correlate tests: a prepared ingest service, and correlate processes that follow it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from elis.correlate.v1 import correlate_pb2_grpc as rpc
from kit.identity import Identity
from services.correlate.app import assemble
from services.correlate.settings import CorrelateSettings
from tests.fixtures.callers import Issuer
from tests.fixtures.servers import run_service
from tests.services.correlate.peer import Log, run_peer

if TYPE_CHECKING:
    CorrelateStub = rpc.CorrelateServiceAsyncStub

SCOPES = ("incidents:read", "incidents:write", "templates:read", "statistics:read")


@dataclass(frozen=True)
class Stage:
    """A prepared ingest service and the databases, and how to start correlate on them."""

    log: Log
    database_url: str
    redis_url: str
    issuer: Issuer
    ingest: str

    @asynccontextmanager
    async def correlate(self, *scopes: str, **overrides: Any) -> AsyncIterator[CorrelateStub]:
        """Runs a correlate process; yields a stub of it as a caller with these scopes."""
        given: dict[str, Any] = {
            "database_url": self.database_url,
            "redis_url": self.redis_url,
            "service_secret": "s" * 32,
            "addresses": {"ingest": self.ingest},
            "feed_interval": timedelta(milliseconds=50),
            "detect_interval": timedelta(milliseconds=50),
            "quiet_after": timedelta(milliseconds=300),
            **overrides,
        }
        settings = CorrelateSettings(**given)

        async def own_token() -> str:
            return self.issuer.token("blocks:read", "events:read", kind="service", name="correlate", role="service")

        identity = Identity(self.issuer.verifier(), own_token)
        async with (
            assemble(settings, identity) as application,
            run_service(application) as address,
            self.issuer.connect(address, *(scopes or SCOPES)) as channel,
        ):
            yield rpc.CorrelateServiceStub(channel)

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Asks the database itself."""
        connection = await asyncpg.connect(self.database_url)
        try:
            return await connection.fetch(query, *arguments)
        finally:
            await connection.close()


@pytest.fixture
async def stage(database_url: str, redis_url: str, issuer: Issuer) -> AsyncIterator[Stage]:
    """A prepared ingest service and empty databases."""
    log = Log()
    async with run_peer(log, issuer) as address:
        yield Stage(log, database_url, redis_url, issuer, address)


async def eventually(check: Callable[[], Awaitable[Any]], timeout: float = 10.0) -> Any:
    """Returns what `check` gives as soon as that is true; raises TimeoutError when it stays false."""
    async with asyncio.timeout(timeout):
        while True:
            result = await check()
            if result:
                return result
            await asyncio.sleep(0.05)
