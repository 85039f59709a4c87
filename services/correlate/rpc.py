"""The RPCs of the correlate service: each translates, and lets a noun decide."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from elis.correlate.v1 import correlate_pb2 as pb
from elis.correlate.v1 import correlate_pb2_grpc as rpc
from kit.auth import principal, requires
from kit.db import unit_of_work
from services.correlate import incidents, statistics, templates
from services.correlate.feed import Feed

if TYPE_CHECKING:
    from kit.interceptors import RpcContext


class CorrelateServicer(rpc.CorrelateServiceServicer):
    """Answers from PostgreSQL only: it works while ingest and Redis are away, and says how old its answer is."""

    def __init__(self, engine: AsyncEngine, pool: asyncpg.Pool, feed: Feed) -> None:
        self._engine = engine
        self._pool = pool
        self._feed = feed

    @requires("incidents:read")
    async def ListIncidents(self, request: pb.ListIncidentsRequest, context: RpcContext) -> pb.ListIncidentsResponse:
        """Incidents, newest first."""
        async with unit_of_work(self._engine) as session:
            return await incidents.list_incidents(session, request)

    @requires("incidents:read")
    async def GetIncident(self, request: pb.GetIncidentRequest, context: RpcContext) -> pb.GetIncidentResponse:
        """One incident with findings, links, timeline and evidence."""
        async with unit_of_work(self._engine) as session:
            return pb.GetIncidentResponse(incident=await incidents.get_incident(session, request.id))

    @requires("incidents:write")
    async def ChangeIncidentState(self, request: pb.ChangeIncidentStateRequest, context: RpcContext) -> pb.ChangeIncidentStateResponse:
        """Acknowledges, resolves or reopens an incident."""
        async with unit_of_work(self._engine) as session:
            return pb.ChangeIncidentStateResponse(incident=await incidents.change_state(session, request, principal().name))

    @requires("incidents:read")
    async def ListFindings(self, request: pb.ListFindingsRequest, context: RpcContext) -> pb.ListFindingsResponse:
        """Findings, newest first."""
        async with unit_of_work(self._engine) as session:
            return await incidents.list_findings(session, request)

    @requires("templates:read")
    async def ResolveTemplates(self, request: pb.ResolveTemplatesRequest, context: RpcContext) -> pb.ResolveTemplatesResponse:
        """The templates of fingerprints."""
        return pb.ResolveTemplatesResponse(templates=await templates.resolve_templates(self._pool, request.fingerprints))

    @requires("templates:read")
    async def ListTemplates(self, request: pb.ListTemplatesRequest, context: RpcContext) -> pb.ListTemplatesResponse:
        """Templates by first sight."""
        return await templates.list_templates(self._pool, request.page_size, request.page_token)

    @requires("statistics:read")
    async def GetStatistics(self, request: pb.GetStatisticsRequest, context: RpcContext) -> pb.GetStatisticsResponse:
        """Counts from the roll-ups."""
        position = await self._feed.position()
        response = await statistics.get_statistics(self._pool, request)
        response.as_of.FromDatetime(position.as_of)
        response.lag_seconds = max(0.0, (datetime.now(UTC) - position.as_of).total_seconds())
        return response
