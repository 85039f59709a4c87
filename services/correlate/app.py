"""Composition of the correlate process: the only place that constructs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from elis.correlate.v1 import correlate_pb2 as pb
from elis.correlate.v1 import correlate_pb2_grpc as rpc
from elis.ingest.v1 import ingest_pb2_grpc as ingest_rpc
from kit.cache import open_redis
from kit.db import asyncpg_dsn, open_engine, open_pool, ping_engine
from kit.identity import Identity, connect_as_self, open_identity
from kit.server import Application, Servicer
from services.correlate.detection import Detection, IngestReader
from services.correlate.dimensions import Dimensions
from services.correlate.feed import BLOCK_SECONDS, Feed
from services.correlate.lease import Lease
from services.correlate.retention import Retention
from services.correlate.rollups import Rollups
from services.correlate.rpc import CorrelateServicer
from services.correlate.settings import CorrelateSettings

TARGET = "correlate"


@asynccontextmanager
async def build(settings: CorrelateSettings) -> AsyncIterator[Application]:
    """Yields the application of the correlate target."""
    async with open_identity(settings, TARGET) as identity, assemble(settings, identity) as application:
        yield application


@asynccontextmanager
async def assemble(settings: CorrelateSettings, identity: Identity) -> AsyncIterator[Application]:
    """Yields the application for a given identity."""
    async with (
        open_engine(settings, TARGET) as engine,
        open_pool(settings, TARGET) as pool,
        open_redis(settings, blocking_seconds=BLOCK_SECONDS) as redis,
        connect_as_self(settings, "ingest", identity) as ingest_channel,
    ):
        blocks = ingest_rpc.IngestServiceStub(ingest_channel)
        feed = Feed(settings, pool, redis, blocks, Rollups(pool, Dimensions(pool)))

        lease = Lease(asyncpg_dsn(settings), "detection", 1, settings.replica)
        detection = Detection(settings, engine, pool, lease, IngestReader(blocks), Retention(settings).apply)

        async def ping_database() -> None:
            await ping_engine(engine)

        yield Application(
            servicers=[
                Servicer(pb.DESCRIPTOR.services_by_name["CorrelateService"], rpc.add_CorrelateServiceServicer_to_server, CorrelateServicer(engine, pool, feed))
            ],
            verifier=identity.verifier,
            background=[feed.follow_stream, feed.follow_list, detection.run],
            ready=[ping_database],
        )
