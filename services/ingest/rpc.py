"""RPCs of the ingest service: messages to use cases and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from elis.ingest.v1 import ingest_pb2 as pb
from elis.ingest.v1 import ingest_pb2_grpc as rpc
from kit.auth import principal, requires
from kit.db import unit_of_work, uses_database
from kit.errors import InvalidArgument
from kit.mapping import to_proto
from kit.paging import clamp_page_size, decode_token, encode_token
from services.ingest.batch import Batch
from services.ingest.blocks import decompress_lines, get_blocks, get_events, list_blocks, newest_block_ids, read_horizon
from services.ingest.endpoints import Arrival
from services.ingest.formats import FORMATS
from services.ingest.intake import Intake
from services.ingest.models import SourceRow
from services.ingest.receivers.hec_events import SYSTEMS
from services.ingest.tokens import Agent

if TYPE_CHECKING:
    from kit.interceptors import RpcContext

MAX_BLOCKS = 1_000
MAX_BLOCK_IDS = 64
MAX_EVENT_IDS = 500
MAX_RECORDS = 10_000
MAX_RECENT = 200
RECENT_BLOCKS = 200
DEFAULT_FEED_BYTES = 8 * 1024 * 1024
DEFAULT_SYSTEM = "application"
MAX_ADDRESS = 64


class IngestServicer(rpc.IngestServiceServicer):
    """Takes events in and hands blocks out."""

    def __init__(self, intake: Intake, pool: asyncpg.Pool[Any], engine: AsyncEngine) -> None:
        self._intake = intake
        self._pool = pool
        self._engine = engine

    @requires("events:write")
    async def IngestEvents(self, request: pb.IngestEventsRequest, _: RpcContext) -> pb.IngestEventsResponse:
        """Stores records; the reply follows the commit."""
        caller = principal()
        arrival = Arrival("graphql", Agent(caller.subject, caller.name, ""), request.client_address[:MAX_ADDRESS], f"graphql {caller.name}")
        size = request.ByteSize()
        with self._intake.admit(arrival, size):
            _check_ingest(request)
            self._intake.read(arrival, size)
            outcome = await self._intake.take(
                _batch_of(request),
                arrival,
                default_system=DEFAULT_SYSTEM,
                systems=[request.system] * len(request.records),
                environments=[request.environment] * len(request.records),
                formats=[request.format] * len(request.records) if request.format else None,
                idempotency_key=request.idempotency_key,
            )
        return pb.IngestEventsResponse(accepted=outcome.accepted, duplicates=outcome.duplicates, rejected=outcome.rejected)

    @requires("blocks:read")
    @uses_database
    async def ListBlocks(self, request: pb.ListBlocksRequest, _: RpcContext) -> pb.ListBlocksResponse:
        """The feed of blocks in commit order."""
        horizon = await read_horizon(self._pool)
        blocks, following = await list_blocks(
            self._pool,
            request.after,
            limit=clamp_page_size(request.limit, default=100, largest=MAX_BLOCKS),
            with_lines=request.with_lines,
            with_summary=request.with_summary,
            max_bytes=request.max_bytes or DEFAULT_FEED_BYTES,
        )
        response = pb.ListBlocksResponse(blocks=blocks, next=following)
        response.complete_until.FromDatetime(horizon)
        return response

    @requires("blocks:read")
    @uses_database
    async def GetBlocks(self, request: pb.GetBlocksRequest, _: RpcContext) -> pb.GetBlocksResponse:
        """Blocks by id; unknown ids are left out."""
        _check_count(len(request.ids), MAX_BLOCK_IDS, "block ids")
        blocks = await get_blocks(self._pool, _signed(request.ids), with_lines=request.with_lines, with_summary=request.with_summary)
        return pb.GetBlocksResponse(blocks=blocks)

    @requires("events:read")
    @uses_database
    async def GetEvents(self, request: pb.GetEventsRequest, _: RpcContext) -> pb.GetEventsResponse:
        """Events by id, from the truth."""
        _check_count(len(request.ids), MAX_EVENT_IDS, "event ids")
        return pb.GetEventsResponse(lines=await get_events(self._pool, list(request.ids)))

    @requires("events:read")
    @uses_database
    async def RecentEvents(self, request: pb.RecentEventsRequest, _: RpcContext) -> pb.RecentEventsResponse:
        """The newest events by scanning the newest blocks: works without search."""
        limit = clamp_page_size(request.limit, default=50, largest=MAX_RECENT)
        ids = await newest_block_ids(self._pool, RECENT_BLOCKS)
        matching: list[tuple[int, int, bytes]] = []
        for start in range(0, len(ids), 16):
            for block in await get_blocks(self._pool, ids[start : start + 16], with_lines=True, with_summary=False):
                for line in decompress_lines(block.lines).splitlines():
                    event = orjson.loads(line)
                    if (not request.source or event["source"] == request.source) and event["severity_number"] >= request.min_severity:
                        matching.append((event["timestamp"], event["event_id"], line))
            if len(matching) >= limit:
                break
        matching.sort(reverse=True)
        return pb.RecentEventsResponse(lines=[line for _, _, line in matching[:limit]])

    @requires("sources:read")
    @uses_database
    async def ListSources(self, request: pb.ListSourcesRequest, _: RpcContext) -> pb.ListSourcesResponse:
        """Sources in order of name."""
        size = clamp_page_size(request.page_size)
        query = select(SourceRow).order_by(SourceRow.name).limit(size + 1)
        after = decode_token(request.page_token, str)
        if after is not None:
            query = query.where(SourceRow.name > after[0])
        async with unit_of_work(self._engine) as session:
            rows = list(await session.scalars(query))
        page = rows[:size]
        return pb.ListSourcesResponse(
            sources=[to_proto(pb.Source, row, time_zone=row.zone or "UTC", retention_days=row.retention_days or None) for row in page],
            next_page_token=encode_token(page[-1].name) if len(rows) > size else "",
        )


def _batch_of(request: pb.IngestEventsRequest) -> Batch:
    batch = Batch()
    for number, record in enumerate(request.records):
        batch.append(
            record.body,
            source=request.source,
            timestamp=record.time_unix_nano,
            severity_number=record.severity_number,
            severity_text=record.severity_text,
            host=record.host,
            service=record.service,
            attributes=_attributes_of(record, number),
            trace_id=record.trace_id.lower(),
            span_id=record.span_id.lower(),
        )
    return batch


def _check_ingest(request: pb.IngestEventsRequest) -> None:
    if not 1 <= len(request.source) <= 200:
        raise InvalidArgument("a source has a name of 1 to 200 characters")
    if request.system and request.system not in SYSTEMS:
        raise InvalidArgument(f"there is no such system; choose one of {', '.join(sorted(SYSTEMS))}")
    if request.format and request.format not in FORMATS:
        raise InvalidArgument(f"there is no such format; choose one of {', '.join(FORMATS)}")
    _check_count(len(request.records), MAX_RECORDS, "records")
    for number, record in enumerate(request.records):
        if not 0 <= record.severity_number <= 24:
            raise InvalidArgument(f"record {number}: a severity number is 0 to 24, not {record.severity_number}")
        if record.time_unix_nano >= 2**63:
            raise InvalidArgument(f"record {number}: the time {record.time_unix_nano} is out of range")
        for name, text, length in (("trace", record.trace_id, 32), ("span", record.span_id, 16)):
            if text and not (len(text) == length and all(digit in "0123456789abcdefABCDEF" for digit in text)):
                raise InvalidArgument(f"record {number}: a {name} id has {length} hexadecimal digits")


def _attributes_of(record: pb.Record, number: int) -> dict[str, Any] | None:
    if not record.attributes_json:
        return None
    try:
        attributes = orjson.loads(record.attributes_json)
    except orjson.JSONDecodeError:
        attributes = None
    if not isinstance(attributes, dict):
        raise InvalidArgument(f"record {number}: the attributes are not a JSON object")
    return attributes


def _check_count(count: int, largest: int, what: str) -> None:
    if not 1 <= count <= largest:
        raise InvalidArgument(f"give 1 to {largest} {what}, not {count}")


def _signed(ids: Any) -> list[int]:
    """Returns the ids that PostgreSQL can hold; no block has another one."""
    return [number for number in ids if number < 2**63]
