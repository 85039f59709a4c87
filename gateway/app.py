"""Puts the gateway together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from elis.auth.v1 import auth_pb2, auth_pb2_grpc
from elis.correlate.v1 import correlate_pb2_grpc
from elis.ingest.v1 import (
    dependencies_pb2_grpc,
    endpoints_pb2_grpc,
    formats_pb2_grpc,
    ingest_pb2_grpc,
    masking_pb2_grpc,
    quality_pb2_grpc,
    rejections_pb2_grpc,
    sources_pb2_grpc,
)
from elis.search.v1 import search_pb2_grpc
from gateway import health, playground
from gateway.callers import Callers
from gateway.context import Services
from gateway.endpoint import Endpoint
from gateway.headers import SecurityHeaders
from gateway.metrics import Metrics
from gateway.rates import Rates
from gateway.schema import create_schema
from gateway.settings import GatewaySettings
from kit.cache import open_redis
from kit.client import connect, stay_anonymous
from kit.identity import connect_as_caller, open_identity
from kit.server import Application, HttpListener

log = structlog.get_logger()

SERVICES = ("auth", "ingest", "search", "correlate")
CLOSE_IDLE_SECONDS = 65
"""Longer than load balancers keep connections (60 s), so that it is they who close."""


@asynccontextmanager
async def build(settings: GatewaySettings) -> AsyncIterator[Application]:
    """Opens the channels and yields the application: one HTTP listener, no RPCs."""
    async with AsyncExitStack() as stack:
        identity = await stack.enter_async_context(open_identity(settings, "gateway"))
        redis = await stack.enter_async_context(open_redis(settings))
        channels = {name: await stack.enter_async_context(connect_as_caller(settings, name)) for name in SERVICES}
        # Exchanging a key must not carry the token of whoever happens to be served.
        anonymous = await stack.enter_async_context(connect(settings.address("auth"), stay_anonymous, settings.call_timeout))
        exchanger = auth_pb2_grpc.AuthServiceStub(anonymous)

        async def exchange(key: str) -> tuple[str, float]:
            response = await exchanger.ExchangeApiKey(auth_pb2.ExchangeApiKeyRequest(key=key))
            return response.access_token, response.expires_at.seconds

        services = Services(
            auth=auth_pb2_grpc.AuthServiceStub(channels["auth"]),
            ingest=ingest_pb2_grpc.IngestServiceStub(channels["ingest"]),
            formats=formats_pb2_grpc.FormatServiceStub(channels["ingest"]),
            rejections=rejections_pb2_grpc.RejectionServiceStub(channels["ingest"]),
            dependencies=dependencies_pb2_grpc.DependencyServiceStub(channels["ingest"]),
            endpoints=endpoints_pb2_grpc.EndpointServiceStub(channels["ingest"]),
            sources=sources_pb2_grpc.SourceServiceStub(channels["ingest"]),
            masking=masking_pb2_grpc.MaskingServiceStub(channels["ingest"]),
            quality=quality_pb2_grpc.QualityServiceStub(channels["ingest"]),
            search=search_pb2_grpc.SearchServiceStub(channels["search"]),
            correlate=correlate_pb2_grpc.CorrelateServiceStub(channels["correlate"]),
        )
        metrics = Metrics()
        rates = Rates(settings.rate_limits, redis, metrics)
        endpoint = Endpoint(create_schema(), settings, services, Callers(identity.verifier, exchange), rates, metrics)
        readiness = health.Readiness(channels)
        readiness.check()  # begins to connect
        options = {
            "ws_max_size": settings.max_message_bytes,
            "timeout_keep_alive": CLOSE_IDLE_SECONDS,
            "forwarded_allow_ips": settings.trusted_proxies,
        }
        web = create_web(settings, endpoint, readiness, metrics)
        yield Application(http=[HttpListener("http", web, options)], ready=[readiness.ping])


def create_web(settings: GatewaySettings, endpoint: Endpoint, readiness: health.Readiness, metrics: Metrics) -> Starlette:
    """Returns the ASGI application: /graphql, the playground, the probes."""
    routes: list[BaseRoute] = [
        Route("/graphql", endpoint),
        WebSocketRoute("/graphql", endpoint),
        *health.create_routes(readiness, metrics),
        *(playground.create_routes() if settings.playground else ()),
    ]
    middleware = [Middleware(SecurityHeaders)]
    if settings.allowed_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.allowed_origins,
                allow_methods=["POST"],
                allow_headers=["authorization", "content-type", "x-api-key", "x-request-id"],
                expose_headers=["x-request-id", "retry-after"],
                max_age=600,
            )
        )
    return Starlette(
        routes=routes,
        middleware=middleware,
        exception_handlers={Exception: answer_failure},
        max_body_size=settings.max_query_bytes,
    )


async def answer_failure(request: Request, error: Exception) -> Response:
    """Returns the answer when the gateway itself fails: nothing but that it did."""
    log.error("request failed", path=request.scope["path"], exc_info=error)
    return Response(b'{"errors":[{"message":"internal error","extensions":{"code":"INTERNAL","type":"Internal"}}]}', 500, media_type="application/json")
