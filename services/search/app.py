"""Composition of the search process: the only place that constructs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from elis.correlate.v1 import correlate_pb2_grpc as correlate_rpc
from elis.ingest.v1 import ingest_pb2_grpc as ingest_rpc
from elis.ingest.v1 import retention_pb2_grpc as retention_rpc
from elis.search.v1 import search_pb2 as pb
from elis.search.v1 import search_pb2_grpc as rpc
from kit.cache import open_redis
from kit.db import open_engine
from kit.identity import Identity, connect_as_caller, connect_as_self, open_identity
from kit.server import Application, Servicer
from services.search.engines.tantivy.engine import FolderInUse, TantivyOptions, open_tantivy
from services.search.feed import Feed
from services.search.retention import Retention
from services.search.rpc import SearchServicer
from services.search.settings import SearchSettings
from services.search.state import IndexStates
from services.search.tail import Tails
from services.search.wake import LISTEN_SECONDS, Wake

log = structlog.get_logger()

TARGET = "search"


@asynccontextmanager
async def build(settings: SearchSettings) -> AsyncIterator[Application]:
    """Yields the application of the search target."""
    try:
        async with open_identity(settings, TARGET) as identity, assemble(settings, identity) as application:
            yield application
    except FolderInUse as error:
        log.error("index in use", reason=str(error))
        raise SystemExit(1) from None


@asynccontextmanager
async def assemble(settings: SearchSettings, identity: Identity) -> AsyncIterator[Application]:
    """Yields the application for a given identity."""
    options = TantivyOptions(
        writer_heap_bytes=settings.index_heap_bytes,
        writer_threads=settings.index_threads,
        open_writers=settings.index_open_writers,
        open_days=settings.index_open_days,
        query_threads=settings.query_threads,
    )
    async with (
        open_engine(settings, TARGET) as database,
        open_redis(settings, blocking_seconds=LISTEN_SECONDS) as redis,
        connect_as_self(settings, "ingest", identity) as ingest_channel,
        connect_as_caller(settings, "correlate") as correlate_channel,
        open_tantivy(settings.data_dir / TARGET, options) as engine,
    ):
        blocks = ingest_rpc.IngestServiceStub(ingest_channel)
        wake = Wake(redis)
        feed = Feed(settings, blocks, engine, wake)
        tails = Tails(settings, blocks, feed, wake, redis)

        yield Application(
            servicers=[
                Servicer(
                    pb.DESCRIPTOR.services_by_name["SearchService"],
                    rpc.add_SearchServiceServicer_to_server,
                    SearchServicer(engine, feed, tails, correlate_rpc.CorrelateServiceStub(correlate_channel)),
                )
            ],
            verifier=identity.verifier,
            background=[feed.run, wake.listen, IndexStates(database, engine).run, Retention(retention_rpc.RetentionServiceStub(ingest_channel), engine).run],
        )
