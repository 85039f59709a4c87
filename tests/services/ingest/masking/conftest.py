"""Fixtures of the masking tests: the masking of one process on a real database, and its RPCs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg
import grpc
import pytest
from prometheus_client import CollectorRegistry

from elis.ingest.v1 import masking_pb2 as pb
from elis.ingest.v1 import masking_pb2_grpc as rpc
from kit.server import Application, Servicer, create_grpc_server
from services.ingest.masking.assembly import Masking, assemble_masking
from services.ingest.masking_rpc import MaskingServicer
from tests.fixtures.callers import Issuer

SCOPES = ("sources:read", "rules:write", "events:read", "events:reveal", "audit:read")

Connect = Callable[..., AbstractAsyncContextManager["rpc.MaskingServiceAsyncStub"]]


def assemble(pool: asyncpg.Pool[Any], *masking_keys: bytes, seal_keys: tuple[bytes, ...] = (bytes(32),)) -> Masking:
    """Returns the masking of a process of its own."""
    return assemble_masking(pool, CollectorRegistry(), masking_keys=masking_keys or (b"m" * 32,), seal_keys=seal_keys)


@pytest.fixture
def masking(pool: asyncpg.Pool[Any]) -> Masking:
    """The masking of one process."""
    return assemble(pool)


@pytest.fixture
def connect(pool: asyncpg.Pool[Any], issuer: Issuer) -> Connect:
    """Serves the RPCs of a masking and connects to them."""

    @asynccontextmanager
    async def serve(masking: Masking, *scopes: str) -> AsyncIterator[rpc.MaskingServiceAsyncStub]:
        implementation = MaskingServicer(pool, masking.book, masking.masker, masking.vault)
        servicer = Servicer(pb.DESCRIPTOR.services_by_name["MaskingService"], rpc.add_MaskingServiceServicer_to_server, implementation)
        server = create_grpc_server(Application(servicers=[servicer], verifier=issuer.verifier()))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        channel: grpc.aio.Channel
        async with issuer.connect(f"127.0.0.1:{port}", *(scopes or SCOPES)) as channel:
            yield rpc.MaskingServiceStub(channel)
        await server.stop(1.0)

    return serve


@pytest.fixture
async def service(masking: Masking, connect: Connect) -> AsyncIterator[rpc.MaskingServiceAsyncStub]:
    """The RPCs, called by somebody with all the scopes that they know."""
    async with connect(masking) as stub:
        yield stub
