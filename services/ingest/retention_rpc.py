"""RPCs of retention."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import asyncpg

from elis.ingest.v1 import retention_pb2 as pb
from elis.ingest.v1 import retention_pb2_grpc as rpc
from kit.auth import requires
from kit.db import outages_as_unavailable
from kit.errors import InvalidArgument

if TYPE_CHECKING:
    from kit.interceptors import RpcContext

MAX_DAYS = 100


class RetentionServicer(rpc.RetentionServiceServicer):
    """Tells what is kept."""

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self._pool = pool

    @requires("blocks:read")
    async def ListHeldSources(self, request: pb.ListHeldSourcesRequest, _: RpcContext) -> pb.ListHeldSourcesResponse:
        """Whose events of some days are kept."""
        if not 1 <= len(request.days) <= MAX_DAYS:
            raise InvalidArgument(f"give 1 to {MAX_DAYS} days, not {len(request.days)}")
        with outages_as_unavailable():
            rows = await self._pool.fetch(
                "SELECT DISTINCT day, source FROM ingest.held_sources WHERE day = ANY($1::int[]) ORDER BY day, source", list(request.days)
            )
        days = [(day, [row["source"] for row in held]) for day, held in groupby(rows, key=lambda row: row["day"])]
        # The empty name sorts first.
        return pb.ListHeldSourcesResponse(days=[pb.HeldDay(day=day, sources=filter(None, sources), others=not sources[0]) for day, sources in days])
