"""Fixtures of the gateway's tests: one gateway with its peers per worker, as good as new for every test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis import Redis

from kit.engines import run_valkey
from tests.fixtures.callers import Issuer
from tests.gateway.peers import Peers, run_peers
from tests.gateway.stack import Gateway, run_gateway

_FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs these tests in one event loop: servers live in the loop that started them."""
    for item in items:
        if _FOLDER in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def running_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey of this worker: the gateway needs no PostgreSQL."""
    with run_valkey(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture
def valkey_url(running_valkey: str) -> str:
    """URL of an empty Valkey."""
    with Redis.from_url(running_valkey) as client:
        client.flushall()
    return running_valkey


@pytest.fixture(scope="session")
def running_peers(issuer: Issuer) -> Peers:
    """Services with prepared answers."""
    return Peers(issuer)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def addresses(running_peers: Peers) -> AsyncIterator[dict[str, str]]:
    """Addresses of the running services."""
    async with run_peers(running_peers) as running:
        yield running


@pytest.fixture
def peers(running_peers: Peers) -> Peers:
    """The services, which have not been asked anything and know no answers yet."""
    running_peers.reset()
    return running_peers


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def running_gateway(running_peers: Peers, addresses: dict[str, str], running_valkey: str) -> AsyncIterator[Gateway]:
    """A running gateway."""
    async with run_gateway(running_peers, addresses, running_valkey) as running:
        yield running


@pytest.fixture
def gateway(running_gateway: Gateway, peers: Peers, valkey_url: str) -> Gateway:
    """The gateway, with peers and rates as good as new."""
    return running_gateway
