"""RPCs that change sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import structlog

from elis.ingest.v1 import ingest_pb2, sources_pb2_grpc
from elis.ingest.v1 import sources_pb2 as pb
from kit.auth import principal, requires
from kit.db import outages_as_unavailable
from kit.errors import InvalidArgument, NotFound
from kit.mapping import to_proto
from services.ingest.formats import FORMATS
from services.ingest.receivers.hec_events import SYSTEMS
from services.ingest.settings import MAX_RETENTION_DAYS
from services.ingest.sources import DEFAULT_ENVIRONMENT, SourceBook
from services.ingest.zones import find_zone

if TYPE_CHECKING:
    from kit.interceptors import RpcContext

log = structlog.get_logger()

DEFAULT_SYSTEM = "application"
MAX_ENVIRONMENT = 64

_SETTABLE: Final = ("system", "environment", "format", "time_zone", "retention_days")

_CREATE = """
INSERT INTO ingest.sources (name, system, environment, format, detected_by, confidence) VALUES ($1, $2, $3, '', '', 0)
ON CONFLICT (name) DO NOTHING
"""
# $2 … $6 are null for what stays. The pins of what is given are taken off and, unless the text is empty, put on again.
_UPDATE = """
UPDATE ingest.sources SET
    system = coalesce(nullif($2::text, ''), system),
    environment = coalesce(nullif($3::text, ''), environment),
    format = coalesce($4::text, format),
    detected_by = CASE WHEN $4::text IS NULL THEN detected_by WHEN $4 = '' THEN '' ELSE 'declared' END,
    confidence = CASE WHEN $4::text IS NULL THEN confidence WHEN $4 = '' THEN 0 ELSE 1 END,
    detections = detections + CASE WHEN $4::text = '' THEN 1 ELSE 0 END,
    zone = coalesce($5::text, zone),
    retention_days = coalesce($6::int, retention_days),
    pinned = ARRAY(
        SELECT pin FROM unnest(pinned) AS pin WHERE NOT (
            (pin = 'system' AND $2::text IS NOT NULL) OR (pin = 'environment' AND $3::text IS NOT NULL) OR (pin = 'format' AND $4::text IS NOT NULL)
        )
        UNION SELECT 'system' WHERE $2::text <> '' UNION SELECT 'environment' WHERE $3::text <> '' UNION SELECT 'format' WHERE $4::text <> ''
        ORDER BY 1
    ),
    configured_at = clock_timestamp()
WHERE name = $1 RETURNING *
"""


class SourceServicer(sources_pb2_grpc.SourceServiceServicer):
    """Changes what is known of sources; this process follows at once, other replicas within seconds."""

    def __init__(self, pool: asyncpg.Pool[Any], sources: SourceBook) -> None:
        self._pool = pool
        self._sources = sources

    @requires("sources:read")
    async def GetSource(self, request: pb.GetSourceRequest, _: RpcContext) -> pb.GetSourceResponse:
        """One source by its name."""
        with outages_as_unavailable():
            row = None if "\0" in request.name else await self._pool.fetchrow("SELECT * FROM ingest.sources WHERE name = $1", request.name)
        if row is None:
            raise NotFound(f"there is no source {request.name[:200]!r}")
        return pb.GetSourceResponse(source=to_proto(ingest_pb2.Source, None, **_shown(row)))

    @requires("sources:write")
    async def UpdateSource(self, request: pb.UpdateSourceRequest, _: RpcContext) -> pb.UpdateSourceResponse:
        """Sets system, environment, format, time zone and retention of a source; what is left out stays."""
        _check(request)
        if request.HasField("retention_days"):
            principal().require("retention:write")
        given = {name: getattr(request, name) for name in _SETTABLE if request.HasField(name)}
        with outages_as_unavailable():
            async with self._pool.acquire() as connection, connection.transaction():
                if request.create:
                    await connection.execute(_CREATE, request.name, request.system or DEFAULT_SYSTEM, request.environment or DEFAULT_ENVIRONMENT)
                row = await connection.fetchrow(_UPDATE, request.name, *(given.get(name) for name in _SETTABLE))
        if row is None:
            raise NotFound(f"there is no source {request.name!r}; give create: true to make it before its first event")
        self._sources.configure(row)
        log.info("source configured", source=request.name, by=principal().subject, **given)
        return pb.UpdateSourceResponse(source=to_proto(ingest_pb2.Source, None, **_shown(row)))


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of the message from a row of the table."""
    names = {field.name for field in ingest_pb2.Source.DESCRIPTOR.fields}
    shown = {name: value for name, value in row.items() if name in names}
    return shown | {"time_zone": row["zone"] or "UTC", "retention_days": row["retention_days"] or None}


def _check(request: pb.UpdateSourceRequest) -> None:
    if not 1 <= len(request.name) <= 200 or "\0" in request.name:
        raise InvalidArgument("a source has a name of 1 to 200 characters", source=request.name[:200])
    if request.system and request.system not in SYSTEMS:
        raise InvalidArgument(f"there is no system {request.system[:64]!r}; choose one of {', '.join(sorted(SYSTEMS))}")
    if len(request.environment) > MAX_ENVIRONMENT or "\0" in request.environment:
        raise InvalidArgument(f"an environment has at most {MAX_ENVIRONMENT} characters")
    if request.format and request.format not in FORMATS:
        raise InvalidArgument(f"there is no format {request.format[:64]!r}; choose one of {', '.join(FORMATS)}")
    if not 0 <= request.retention_days <= MAX_RETENTION_DAYS:
        raise InvalidArgument(f"events are kept for 1 to {MAX_RETENTION_DAYS} days (0: as many as the installation says), not {request.retention_days}")
    find_zone(request.time_zone)
