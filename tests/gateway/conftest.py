"""Fixtures of the gateway's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from kit.engines import run_valkey
from tests.fixtures.callers import Issuer
from tests.gateway.peers import Peers, run_peers
from tests.gateway.stack import Gateway, run_gateway


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey of this worker: the gateway needs no PostgreSQL."""
    with run_valkey(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture
def peers(issuer: Issuer) -> Peers:
    """Services with prepared answers, not running yet."""
    return Peers(issuer)


@pytest.fixture
async def addresses(peers: Peers) -> AsyncIterator[dict[str, str]]:
    """Addresses of the running services."""
    async with run_peers(peers) as running:
        yield running


@pytest.fixture
async def gateway(peers: Peers, addresses: dict[str, str], valkey_url: str) -> AsyncIterator[Gateway]:
    """A running gateway."""
    async with run_gateway(peers, addresses, valkey_url) as running:
        yield running
