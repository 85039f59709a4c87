"""An ingest and a correlate service for tests of search: real gRPC servers that hand out what the test prepared."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from elis.correlate.v1 import correlate_pb2 as correlate
from elis.correlate.v1 import correlate_pb2_grpc as correlate_rpc
from elis.ingest.v1 import ingest_pb2 as pb
from elis.ingest.v1 import ingest_pb2_grpc as rpc
from kit.auth import requires
from kit.errors import ElisError, Unavailable
from kit.server import Application, Servicer
from services.search.engine import LineBlock
from services.search.lines import Line
from tests.fixtures.callers import Issuer
from tests.fixtures.servers import run_service
from tests.services.search.corpus import lines_of, make_blocks

if TYPE_CHECKING:
    from kit.interceptors import RpcContext


class Log:
    """What the ingest service holds, in feed order."""

    def __init__(self, redis: Redis | None = None) -> None:
        self.blocks: list[pb.Block] = []
        self.events: list[Line] = []
        self.down = False
        self.reads = 0
        self._redis = redis

    def add(self, blocks: Sequence[LineBlock]) -> list[Line]:
        """Commits blocks; returns their events."""
        lines = lines_of(blocks)
        for block in blocks:
            committed = pb.Block(id=block.id, day=block.day, cursor=f"c{len(self.blocks) + 1:08d}", lines=block.lines)
            committed.created_at.FromDatetime(datetime.now(UTC))
            self.blocks.append(committed)
        self.events += lines
        return lines

    async def commit(self, events: Sequence[dict[str, Any]], *, size: int = 50) -> list[Line]:
        """Commits events in new blocks and announces them."""
        lines = self.add(make_blocks(events, size=size, first_id=len(self.blocks) + 1))
        if self._redis is not None:
            for block in self.blocks[-len(lines) :]:
                await self._redis.xadd("elis:blocks", {"id": block.id})
            await self._redis.publish("elis:blocks:live", str(self.blocks[-1].id))
        return lines


class IngestPeer(rpc.IngestServiceServicer):
    """Serves a log. Search calls nothing but the methods that carry a body here."""

    def __init__(self, log: Log) -> None:
        self._log = log

    @requires("blocks:read")
    async def ListBlocks(self, request: pb.ListBlocksRequest, context: RpcContext) -> pb.ListBlocksResponse:
        self._log.reads += 1
        if self._log.down:
            raise Unavailable("ingest is away")
        sent: list[pb.Block] = []
        size = 0
        for block in self._log.blocks:
            if block.cursor > request.after:
                size += block.ByteSize()
                if len(sent) == request.limit or (sent and size > request.max_bytes):
                    break
                sent.append(block)
        return pb.ListBlocksResponse(blocks=sent, next=sent[-1].cursor if sent else request.after)

    @requires("blocks:read")
    async def GetBlocks(self, request: pb.GetBlocksRequest, context: RpcContext) -> pb.GetBlocksResponse:
        return pb.GetBlocksResponse(blocks=[pb.Block(id=block.id, cursor=block.cursor) for block in self._log.blocks if block.id in request.ids])

    @requires("events:read")
    async def GetEvents(self, request: pb.GetEventsRequest, context: RpcContext) -> pb.GetEventsResponse:
        raise NotImplementedError

    @requires("events:write")
    async def IngestEvents(self, request: pb.IngestEventsRequest, context: RpcContext) -> pb.IngestEventsResponse:
        raise NotImplementedError

    @requires("events:read")
    async def RecentEvents(self, request: pb.RecentEventsRequest, context: RpcContext) -> pb.RecentEventsResponse:
        raise NotImplementedError

    @requires("sources:read")
    async def ListSources(self, request: pb.ListSourcesRequest, context: RpcContext) -> pb.ListSourcesResponse:
        raise NotImplementedError


@asynccontextmanager
async def run_ingest(log: Log, issuer: Issuer) -> AsyncIterator[str]:
    """Serves a log; yields the address."""
    servicer = Servicer(pb.DESCRIPTOR.services_by_name["IngestService"], rpc.add_IngestServiceServicer_to_server, IngestPeer(log))
    async with run_service(Application(servicers=[servicer], verifier=issuer.verifier())) as address:
        yield address


class TemplatesPeer(correlate_rpc.CorrelateServiceServicer):
    """Knows templates by name: their fingerprints; or fails. Search calls nothing but ResolveTemplates."""

    def __init__(self, templates: dict[str, list[str]], failure: ElisError | None = None) -> None:
        self._templates = templates
        self._failure = failure

    @requires("templates:read")
    async def ResolveTemplates(self, request: correlate.ResolveTemplatesRequest, context: RpcContext) -> correlate.ResolveTemplatesResponse:
        if self._failure is not None:
            raise self._failure
        asked = set(request.fingerprints)
        found = [
            correlate.Template(id=name, text=f"text of {name}", fingerprints=fingerprints)
            for name, fingerprints in self._templates.items()
            if asked & set(fingerprints)
        ]
        return correlate.ResolveTemplatesResponse(templates=found)

    @requires("templates:read")
    async def ListIncidents(self, request: correlate.ListIncidentsRequest, context: RpcContext) -> correlate.ListIncidentsResponse:
        raise NotImplementedError

    @requires("templates:read")
    async def GetIncident(self, request: correlate.GetIncidentRequest, context: RpcContext) -> correlate.GetIncidentResponse:
        raise NotImplementedError

    @requires("templates:read")
    async def ChangeIncidentState(self, request: correlate.ChangeIncidentStateRequest, context: RpcContext) -> correlate.ChangeIncidentStateResponse:
        raise NotImplementedError

    @requires("templates:read")
    async def ListFindings(self, request: correlate.ListFindingsRequest, context: RpcContext) -> correlate.ListFindingsResponse:
        raise NotImplementedError

    @requires("templates:read")
    async def ListTemplates(self, request: correlate.ListTemplatesRequest, context: RpcContext) -> correlate.ListTemplatesResponse:
        raise NotImplementedError

    @requires("templates:read")
    async def GetStatistics(self, request: correlate.GetStatisticsRequest, context: RpcContext) -> correlate.GetStatisticsResponse:
        raise NotImplementedError


@asynccontextmanager
async def run_templates(peer: TemplatesPeer, issuer: Issuer) -> AsyncIterator[str]:
    """Serves templates; yields the address."""
    servicer = Servicer(correlate.DESCRIPTOR.services_by_name["CorrelateService"], correlate_rpc.add_CorrelateServiceServicer_to_server, peer)
    async with run_service(Application(servicers=[servicer], verifier=issuer.verifier())) as address:
        yield address
