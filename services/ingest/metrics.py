"""The ingest service's numbers for Prometheus, at /metrics of its web ports."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def metrics_route(registry: CollectorRegistry) -> Route:
    """Returns the route that Prometheus asks. The numbers name rules, never senders."""

    async def show(_: Request) -> Response:
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")

    return Route("/metrics", show)
