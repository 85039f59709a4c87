"""Composition of the ingest service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from elis.auth.v1 import auth_pb2_grpc
from elis.ingest.v1 import (
    dependencies_pb2,
    dependencies_pb2_grpc,
    endpoints_pb2,
    endpoints_pb2_grpc,
    formats_pb2,
    formats_pb2_grpc,
    ingest_pb2,
    ingest_pb2_grpc,
    masking_pb2,
    masking_pb2_grpc,
    quality_pb2,
    quality_pb2_grpc,
    rejections_pb2,
    rejections_pb2_grpc,
    retention_pb2,
    retention_pb2_grpc,
    sources_pb2,
    sources_pb2_grpc,
)
from kit.cache import open_redis
from kit.db import open_engine, open_pool, ping_engine
from kit.identity import connect_as_self, open_identity
from kit.routes import DirectRoutes
from kit.server import Application, HttpListener, Servicer
from services.ingest.announcer import Announcer
from services.ingest.committer import Committer
from services.ingest.dependencies import Dependencies
from services.ingest.dependencies_rpc import DependencyServicer
from services.ingest.endpoint_store import EndpointStore
from services.ingest.endpoints_rpc import EndpointServicer
from services.ingest.formats_rpc import FormatServicer
from services.ingest.intake import Intake
from services.ingest.masking.assembly import assemble_masking
from services.ingest.masking_rpc import MaskingServicer
from services.ingest.metrics import metrics_route
from services.ingest.pipeline import Pipeline
from services.ingest.quality.book import QualityBook
from services.ingest.quality.watch import QualityWatch
from services.ingest.quality_rpc import QualityServicer
from services.ingest.receivers.elastic_bulk import ElasticBulkReceiver
from services.ingest.receivers.elastic_handshake import ElasticHandshake
from services.ingest.receivers.fluent import create_fluent_listeners
from services.ingest.receivers.hec import HecReceiver
from services.ingest.receivers.hec_acks import AckLedger
from services.ingest.receivers.loki import LokiReceiver
from services.ingest.receivers.otlp_grpc import OtlpGrpcReceiver, create_otlp_server
from services.ingest.receivers.otlp_http import OtlpHttpReceiver
from services.ingest.receivers.syslog import create_syslog_listeners
from services.ingest.rejection_store import RejectionStore
from services.ingest.rejections import Sealer
from services.ingest.rejections_rpc import RejectionServicer
from services.ingest.replay import Replayer
from services.ingest.retention import Retention
from services.ingest.retention_rpc import RetentionServicer
from services.ingest.rpc import IngestServicer
from services.ingest.settings import IngestSettings
from services.ingest.shares import Shares
from services.ingest.sources import SourceBook
from services.ingest.sources_rpc import SourceServicer
from services.ingest.tokens import TokenBook
from services.ingest.upkeep import Upkeep
from services.ingest.worker import Worker


@asynccontextmanager
async def build(settings: IngestSettings) -> AsyncIterator[Application]:
    """Opens the stores and wires receivers, intake and RPCs."""
    async with (
        open_pool(settings, "ingest", settings.database_pool + settings.committers) as pool,
        open_engine(settings, "ingest") as engine,
        open_redis(settings) as redis,
        open_identity(settings, "ingest") as identity,
        connect_as_self(settings, "auth", identity) as auth_channel,
    ):
        sources = SourceBook(pool)
        await sources.load()
        announcer = Announcer(redis)
        registry = CollectorRegistry()
        masking = assemble_masking(pool, registry, masking_keys=settings.masking_keys, seal_keys=settings.seal_keys)
        await masking.book.load()
        sealer = Sealer(settings.seal_keys)
        rejections = RejectionStore(sealer, masking.masker.mask_text, bytes_per_day=settings.rejected_bytes_per_day)
        worker = Worker()
        quality = QualityBook(pool)
        committer = Committer(settings, pool, sources, Pipeline(settings, sources, masking.masker), rejections, masking.vault, quality, announcer, worker)
        intake = Intake(settings, sources, committer, worker, masking.masker)
        registry.register(intake.endpoints)
        registry.register(committer.clock)
        endpoints = EndpointStore(pool, intake.endpoints)
        retention = Retention(pool, committer.partitions, retention_days=settings.retention_days, rejected_days=settings.rejected_retention_days)
        dependencies = Dependencies(pool, redis, mask=masking.masker.mask_name, keep_days=settings.dependency_days, registry=registry)
        tokens = TokenBook(auth_pb2_grpc.AuthServiceStub(auth_channel))

        routes = [
            *HecReceiver(settings, intake, tokens, AckLedger(redis)).routes(),
            *OtlpHttpReceiver(settings, intake, tokens, dependencies).routes(),
            *LokiReceiver(settings, intake, tokens).routes(),
            *ElasticBulkReceiver(settings, intake, tokens).routes(),
            *ElasticHandshake(settings, intake, tokens).routes(),
            metrics_route(registry),
        ]
        web = DirectRoutes(routes)
        otlp = create_otlp_server(settings, OtlpGrpcReceiver(settings, intake, tokens, dependencies))
        otlp.add_insecure_port(f"{settings.bind_host}:{settings.port('ingest', 'otlp_grpc')}")

        async def ping() -> None:
            await ping_engine(engine)

        yield Application(
            servicers=[
                Servicer(
                    ingest_pb2.DESCRIPTOR.services_by_name["IngestService"],
                    ingest_pb2_grpc.add_IngestServiceServicer_to_server,
                    IngestServicer(intake, pool, engine),
                ),
                Servicer(
                    sources_pb2.DESCRIPTOR.services_by_name["SourceService"],
                    sources_pb2_grpc.add_SourceServiceServicer_to_server,
                    SourceServicer(pool, sources),
                ),
                Servicer(
                    formats_pb2.DESCRIPTOR.services_by_name["FormatService"],
                    formats_pb2_grpc.add_FormatServiceServicer_to_server,
                    FormatServicer(masking.masker, settings.max_attributes),
                ),
                Servicer(
                    retention_pb2.DESCRIPTOR.services_by_name["RetentionService"],
                    retention_pb2_grpc.add_RetentionServiceServicer_to_server,
                    RetentionServicer(pool),
                ),
                Servicer(
                    rejections_pb2.DESCRIPTOR.services_by_name["RejectionService"],
                    rejections_pb2_grpc.add_RejectionServiceServicer_to_server,
                    RejectionServicer(pool, engine, sealer, masking.masker.mask_text, Replayer(settings, pool, sources, intake, sealer)),
                ),
                Servicer(
                    masking_pb2.DESCRIPTOR.services_by_name["MaskingService"],
                    masking_pb2_grpc.add_MaskingServiceServicer_to_server,
                    MaskingServicer(pool, masking.book, masking.masker, masking.vault),
                ),
                Servicer(
                    dependencies_pb2.DESCRIPTOR.services_by_name["DependencyService"],
                    dependencies_pb2_grpc.add_DependencyServiceServicer_to_server,
                    DependencyServicer(pool),
                ),
                Servicer(
                    endpoints_pb2.DESCRIPTOR.services_by_name["EndpointService"],
                    endpoints_pb2_grpc.add_EndpointServiceServicer_to_server,
                    EndpointServicer(endpoints),
                ),
                Servicer(
                    quality_pb2.DESCRIPTOR.services_by_name["QualityService"],
                    quality_pb2_grpc.add_QualityServiceServicer_to_server,
                    QualityServicer(pool),
                ),
            ],
            verifier=identity.verifier,
            http=[HttpListener("hec", web), HttpListener("otlp_http", web)],
            extra_servers=[otlp, *create_syslog_listeners(settings, intake, registry), *create_fluent_listeners(settings, intake)],
            background=[
                committer.run,
                announcer.run,
                Upkeep(pool, sources, retention, endpoints, quality, QualityWatch(pool, intake, registry)).run,
                masking.upkeep.run,
                dependencies.run,
                Shares(redis, intake.limits).run,
            ],
            ready=[ping],
        )
