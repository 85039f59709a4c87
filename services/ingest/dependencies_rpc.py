"""RPC that reads service dependencies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
from google.protobuf.timestamp_pb2 import Timestamp

from elis.ingest.v1 import dependencies_pb2 as pb
from elis.ingest.v1 import dependencies_pb2_grpc as rpc
from kit.auth import requires
from kit.db import outages_as_unavailable
from kit.errors import InvalidArgument
from kit.paging import clamp_page_size
from services.ingest.edges import list_edges

if TYPE_CHECKING:
    from kit.interceptors import RpcContext

DEFAULT_EDGES = 500
MAX_EDGES = 2_000
LONGEST = timedelta(days=31)


class DependencyServicer(rpc.DependencyServiceServicer):
    """Shows what was learned from traces."""

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self._pool = pool

    @requires("statistics:read")
    async def ListServiceDependencies(self, request: pb.ListServiceDependenciesRequest, _: RpcContext) -> pb.ListServiceDependenciesResponse:
        """Edges of a span of time, the busiest first."""
        start, end = _read_time("from", getattr(request, "from")), _read_time("to", request.to)
        if not start < end <= start + LONGEST:
            raise InvalidArgument(f"the time must end after it begins, within {LONGEST.days} days: it goes from {start.isoformat()} to {end.isoformat()}")
        limit = clamp_page_size(request.limit, default=DEFAULT_EDGES, largest=MAX_EDGES)
        with outages_as_unavailable():
            edges = await list_edges(self._pool, start, end, limit)
        return pb.ListServiceDependenciesResponse(
            dependencies=[
                pb.ServiceDependency(
                    caller=caller,
                    callee=callee,
                    kind=kind,
                    calls=edge.calls,
                    errors=max(edge.errors, 0),
                    average_ms=max(edge.duration_ns, 0) / edge.calls / 1e6,
                    p95_ms=edge.quantile_ms(0.95),
                    buckets=[max(count, 0) for count in edge.buckets],
                )
                for caller, callee, kind, edge in edges
            ]
        )


def _read_time(name: str, stamp: Timestamp) -> datetime:
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument(f"the time {name!r} is out of range: {stamp.seconds} seconds") from None
