"""RPCs of rejected records."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import orjson
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from elis.ingest.v1 import rejections_pb2 as pb
from elis.ingest.v1 import rejections_pb2_grpc as rpc
from kit.auth import requires
from kit.db import outages_as_unavailable, unit_of_work
from kit.errors import InvalidArgument, NotFound
from kit.mapping import to_proto
from kit.paging import clamp_page_size, decode_token, encode_token
from services.ingest.formats import FORMATS
from services.ingest.masking import audit
from services.ingest.masking.book import check_reason
from services.ingest.models import RejectedEventRow, RejectionGroupRow
from services.ingest.rejections import RejectReason, Sealer, storable
from services.ingest.replay import MAX_RECORDS, Replayer

if TYPE_CHECKING:
    from kit.interceptors import RpcContext


class RejectionServicer(rpc.RejectionServiceServicer):
    """Shows what was rejected, opens it and replays it."""

    def __init__(self, pool: asyncpg.Pool[Any], engine: AsyncEngine, sealer: Sealer, mask: Callable[[str], str], replayer: Replayer) -> None:
        self._pool = pool
        self._engine = engine
        self._sealer = sealer
        self._mask = mask
        self._replayer = replayer

    @requires("rejected:read")
    async def ListRejectedEvents(self, request: pb.ListRejectedEventsRequest, _: RpcContext) -> pb.ListRejectedEventsResponse:
        """Groups, newest first."""
        size = clamp_page_size(request.page_size)
        query = select(RejectionGroupRow).order_by(RejectionGroupRow.number.desc()).limit(size + 1)
        after = decode_token(request.page_token, int)
        if after is not None:
            query = query.where(RejectionGroupRow.number < after[0])
        if request.source:
            query = query.where(RejectionGroupRow.source == storable(request.source))
        if request.reason:
            query = query.where(RejectionGroupRow.reason == _known_reason(request.reason))
        async with unit_of_work(self._engine) as session:
            rows = list(await session.scalars(query))
        page = rows[:size]
        return pb.ListRejectedEventsResponse(
            events=[_to_event(row) for row in page],
            next_page_token=encode_token(page[-1].number) if len(rows) > size else "",
        )

    @requires("rejected:read")
    async def GetRejectedTotals(self, request: pb.GetRejectedTotalsRequest, _: RpcContext) -> pb.GetRejectedTotalsResponse:
        """Counts by reason."""
        group = RejectionGroupRow
        query = (
            select(group.reason, func.sum(group.count), func.sum(group.bytes), func.sum(group.kept), func.sum(group.replayed), func.max(group.last_seen_at))
            .group_by(group.reason)
            .order_by(group.reason)
        )
        if request.source:
            query = query.where(group.source == storable(request.source))
        async with unit_of_work(self._engine) as session:
            rows = list(await session.execute(query))
        return pb.GetRejectedTotalsResponse(
            totals=[
                to_proto(
                    pb.RejectedTotal,
                    None,
                    reason=reason,
                    retryable=_is_retryable(reason),
                    count=int(count),
                    bytes=int(size),
                    kept=int(kept),
                    replayed=int(replayed),
                    last_seen_at=last_seen_at,
                )
                for reason, count, size, kept, replayed, last_seen_at in rows
            ]
        )

    @requires("rejected:read")
    async def ListRejectedRecords(self, request: pb.ListRejectedRecordsRequest, _: RpcContext) -> pb.ListRejectedRecordsResponse:
        """Records of a group, newest first."""
        size = clamp_page_size(request.page_size)
        record = RejectedEventRow
        shown = (record.id, record.number, record.group_id, record.detail, record.size, record.rejected_at, record.replayed_at)
        query = select(*shown).where(record.group_id == _parse_id(request.event_id)).order_by(record.number.desc()).limit(size + 1)
        after = decode_token(request.page_token, int)
        if after is not None:
            query = query.where(record.number < after[0])
        async with unit_of_work(self._engine) as session:
            rows = list(await session.execute(query))
        page = rows[:size]
        return pb.ListRejectedRecordsResponse(
            records=[to_proto(pb.RejectedRecord, row, event_id=row.group_id) for row in page],
            next_page_token=encode_token(page[-1].number) if len(rows) > size else "",
        )

    @requires("events:reveal")
    async def RevealRejected(self, request: pb.RevealRejectedRequest, _: RpcContext) -> pb.RevealRejectedResponse:
        """Opens a record; nothing is shown unless the audit entry is written."""
        rejected_id = _parse_id(request.id)
        reason = self._mask(check_reason(request.reason))
        with outages_as_unavailable():
            async with self._pool.acquire() as connection, connection.transaction():
                row = await connection.fetchrow(
                    """
                    SELECT e.raw, e.key_id, g.source, g.reason FROM ingest.rejected_events AS e
                    JOIN ingest.rejection_groups AS g ON g.id = e.group_id WHERE e.id = $1
                    """,
                    rejected_id,
                )
                if row is None:
                    raise NotFound(f"there is no rejected record {rejected_id}", id=str(rejected_id))
                opened = self._sealer.open(row["raw"], row["key_id"], rejected_id)
                detail = {"reason": reason, "source": row["source"], "rejected_for": row["reason"], "key_id": row["key_id"], "bytes": len(opened.raw)}
                await audit.append(connection, audit.VALUE_REVEALED, f"rejected {rejected_id}", detail)
        return pb.RevealRejectedResponse(raw=opened.raw, fields_json=orjson.dumps(opened.fields))

    @requires("rejected:replay")
    async def ReplayRejected(self, request: pb.ReplayRejectedRequest, _: RpcContext) -> pb.ReplayRejectedResponse:
        """Puts records through intake again."""
        if not 1 <= len(request.ids) <= MAX_RECORDS:
            raise InvalidArgument(f"give 1 to {MAX_RECORDS} ids, not {len(request.ids)}")
        if request.format and request.format not in FORMATS:
            raise InvalidArgument(f"there is no format {request.format[:64]!r}; choose one of {', '.join(FORMATS)}")
        if len(request.source) > 200 or "\0" in request.source:
            raise InvalidArgument("a source has a name of at most 200 characters", source=request.source[:200])
        after = decode_token(request.page_token, int)
        with outages_as_unavailable():
            result = await self._replayer.replay(
                [_parse_id(text) for text in request.ids], format_name=request.format, source=request.source, after=after[0] if after is not None else 0
            )
        return pb.ReplayRejectedResponse(
            accepted=result.accepted,
            duplicates=result.duplicates,
            rejected=result.rejected,
            problems=[pb.ReplayProblem(id=str(rejected_id), problem=problem) for rejected_id, problem in result.problems],
            remaining=result.remaining,
            next_page_token=encode_token(result.last) if result.remaining else "",
        )


def _to_event(row: RejectionGroupRow) -> pb.RejectedEvent:
    return to_proto(pb.RejectedEvent, row, retryable=_is_retryable(row.reason), sender=to_proto(pb.RejectedSender, row))


def _is_retryable(reason: str) -> bool:
    """Says so of a reason as it is stored; one of another release is not."""
    return reason in list(RejectReason) and RejectReason(reason).retryable


def _known_reason(reason: str) -> str:
    if reason not in list(RejectReason):
        raise InvalidArgument(f"there is no reason {reason[:64]!r}; choose one of {', '.join(RejectReason)}")
    return reason


def _parse_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidArgument(f"{text[:64]!r} is not the id of a rejected event or record") from None
