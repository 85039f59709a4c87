"""The OpenTelemetry SDK's exporters, unmodified, against a running ingest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import grpc
import pytest
from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter

from services.ingest.dependencies import Dependencies
from services.ingest.edges import list_edges
from tests.services.ingest.conftest import RunningIngest
from tests.services.ingest.receivers.web import serve_web, stored_events

RESOURCE = {"service.name": "checkout", "deployment.environment.name": "test", "host.name": "node-1"}


def log(exporter: LogRecordExporter) -> None:
    """Logs twice through the SDK; raises when an export fails."""
    provider = LoggerProvider(Resource(RESOURCE))
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logger = provider.get_logger("shop.payments", "2.1")
    logger.emit(timestamp=1_795_000_000_000_000_000, severity_number=SeverityNumber.ERROR, severity_text="ERROR", body="card refused", attributes={"order": 17})
    logger.emit(severity_number=SeverityNumber.INFO, body={"step": "retry", "attempts": [1, 2]}, event_name="payment.retried")
    assert provider.force_flush()
    provider.shutdown()


async def test_logs_over_grpc_and_http(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    headers = {"authorization": f"Bearer {running_ingest.token}"}
    async with serve_web(running_ingest) as (host, port):
        http = f"http://{host}:{port}/v1/logs"
        rpc = f"http://{running_ingest.otlp_grpc_address}"
        makers: list[Callable[[], LogRecordExporter]] = [
            lambda: GrpcLogExporter(endpoint=rpc, insecure=True, headers=headers),
            lambda: GrpcLogExporter(endpoint=rpc, insecure=True, headers=headers, compression=grpc.Compression.Gzip),
            lambda: HttpLogExporter(endpoint=http, headers=headers),
            lambda: HttpLogExporter(endpoint=http, headers=headers, compression=Compression.Gzip),
        ]
        for make in makers:
            await asyncio.to_thread(log, await asyncio.to_thread(make))
    events = await stored_events(pool)
    # The timed ones are told apart by what comes with them: the other record of each request has the time it was made at.
    refused = [event for event in events if event["body"] == "card refused"]
    assert len(refused) == len(makers)
    for event in refused:
        assert (event["source"], event["service"], event["host"], event["environment"]) == ("checkout", "checkout", "node-1", "test")
        assert (event["severity_number"], event["severity_text"], event["timestamp"]) == (17, "ERROR", 1_795_000_000_000_000_000)
        assert event["attributes"]["otel.scope.name"] == "shop.payments"
        assert (event["attributes"]["otel.scope.version"], event["attributes"]["order"]) == ("2.1", 17)
    assert [event["attributes"]["event.name"] for event in events if event["severity_number"] == 9] == ["payment.retried"] * len(makers)


async def test_a_wrong_token_is_final_for_the_exporters(running_ingest: RunningIngest, caplog: pytest.LogCaptureFixture) -> None:
    async with serve_web(running_ingest) as (host, port):
        http = HttpLogExporter(endpoint=f"http://{host}:{port}/v1/logs", headers={"authorization": "Bearer wrong"})
        rpc = GrpcLogExporter(endpoint=f"http://{running_ingest.otlp_grpc_address}", insecure=True, headers={"authorization": "Bearer wrong"})
        with caplog.at_level(logging.ERROR):
            for exporter in (http, rpc):
                await asyncio.to_thread(log, exporter)
    assert "403" in caplog.text
    assert "PERMISSION_DENIED" in caplog.text


async def test_traces_make_dependencies(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    """Two services with their own SDK each, one on gRPC and one on HTTP, the child exported before its parent."""
    headers = {"authorization": f"Bearer {running_ingest.token}"}

    def provide(service: str, exporter: SpanExporter) -> TracerProvider:
        provider = TracerProvider(resource=Resource({"service.name": service}))
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        return provider

    def call(http: str) -> None:
        web = provide("web", GrpcSpanExporter(endpoint=f"http://{running_ingest.otlp_grpc_address}", insecure=True, headers=headers))
        orders = provide("orders", HttpSpanExporter(endpoint=http, headers=headers, compression=Compression.Gzip))
        with web.get_tracer("web").start_as_current_span("GET /order", kind=trace.SpanKind.CLIENT, attributes={"server.address": "orders.internal"}) as span:
            context = trace.set_span_in_context(trace.NonRecordingSpan(span.get_span_context()))
            with orders.get_tracer("orders").start_as_current_span("order", context=context, kind=trace.SpanKind.SERVER):
                attributes = {"db.system.name": "postgresql", "server.address": "db1"}
                with orders.get_tracer("orders").start_as_current_span("SELECT", kind=trace.SpanKind.CLIENT, attributes=attributes):
                    pass
        web.shutdown()
        orders.shutdown()

    async with serve_web(running_ingest) as (host, port):
        await asyncio.to_thread(call, f"http://{host}:{port}/v1/traces")
    owners = [getattr(work, "__self__", None) for work in running_ingest.application.background]
    [dependencies] = [owner for owner in owners if isinstance(owner, Dependencies)]
    await dependencies.flush()
    now = datetime.now(UTC)
    found = await list_edges(pool, now - timedelta(minutes=5), now + timedelta(minutes=1), 10)
    assert {(caller, callee, kind, edge.calls) for caller, callee, kind, edge in found} == {
        ("web", "orders", "service", 1),
        ("orders", "postgresql/db1", "database", 1),
    }
