"""The stage of the search tests: a prepared ingest service, and search processes that follow it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis

from elis.search.v1 import search_pb2 as pb
from elis.search.v1 import search_pb2_grpc as rpc
from kit.identity import Identity
from services.search.app import assemble
from services.search.settings import SearchSettings
from tests.fixtures.callers import Issuer
from tests.fixtures.servers import run_service
from tests.services.search.peers import Log, run_ingest

if TYPE_CHECKING:
    SearchStub = rpc.SearchServiceAsyncStub

SERVICE_SCOPES = ("self:read", "blocks:read", "events:read", "sources:read", "templates:read", "statistics:read", "tokens:verify")
NOWHERE = "127.0.0.1:1"


@dataclass(frozen=True)
class Stage:
    """A prepared ingest service and the databases, and how to start search on them."""

    log: Log
    database_url: str
    redis_url: str
    data_dir: Path
    issuer: Issuer
    ingest: str

    def settings(self, *, correlate: str = NOWHERE, **overrides: Any) -> SearchSettings:
        """Returns settings that make tests quick."""
        given: dict[str, Any] = {
            "database_url": self.database_url,
            "redis_url": self.redis_url,
            "service_secret": "s" * 32,
            "data_dir": self.data_dir,
            "addresses": {"ingest": self.ingest, "correlate": correlate},
            "index_commit_interval": timedelta(milliseconds=100),
            "index_heap_bytes": 15_000_000,
            "feed_poll_interval": timedelta(milliseconds=100),
            **overrides,
        }
        return SearchSettings(**given)

    @asynccontextmanager
    async def search(self, *scopes: str, **overrides: Any) -> AsyncIterator[SearchStub]:
        """Runs a search process; yields a stub of it as a caller with these scopes."""

        async def own_token() -> str:
            return self.issuer.token(*SERVICE_SCOPES, kind="service", name="search", role="service")

        identity = Identity(self.issuer.verifier(), own_token)
        async with (
            assemble(self.settings(**overrides), identity) as application,
            run_service(application) as address,
            self.issuer.connect(address, *(scopes or ("events:read", "templates:read"))) as channel,
        ):
            yield rpc.SearchServiceStub(channel)


@pytest.fixture
async def stage(database_url: str, redis_url: str, data_dir: Path, issuer: Issuer) -> AsyncIterator[Stage]:
    """A prepared ingest service and empty databases."""
    async with Redis.from_url(redis_url) as redis:
        log = Log(redis)
        async with run_ingest(log, issuer) as address:
            yield Stage(log, database_url, redis_url, data_dir, issuer, address)


async def eventually(check: Callable[[], Awaitable[Any]], timeout: float = 10.0) -> Any:
    """Returns what `check` gives as soon as that is true; raises TimeoutError when it stays false."""
    async with asyncio.timeout(timeout):
        while True:
            result = await check()
            if result:
                return result
            await asyncio.sleep(0.02)


async def until_found(search: SearchStub, count: int) -> None:
    """Waits until so many events can be found."""

    async def check() -> bool:
        response: pb.SearchEventsResponse = await search.SearchEvents(pb.SearchEventsRequest(first=1, with_total=True))
        return response.total == count

    await eventually(check)
