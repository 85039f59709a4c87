"""Loki's push API: POST /loki/api/v1/push and GET /ready, with Loki's replies (reference wire-formats §4).

Success is 204 without a body; errors are plain text. Promtail, Alloy and Fluent Bit drop what is answered with 400, and send
again what is answered with 429 or 5xx.
"""

from __future__ import annotations

import math
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from kit.errors import DeadlineExceeded, ElisError, InvalidArgument, PermissionDenied, RateLimited, Unauthenticated, Unavailable
from services.ingest.intake import Intake, Room
from services.ingest.receivers.bodies import BodyTooLarge, arrival_of, expected_size, read_body
from services.ingest.receivers.credentials import authenticate
from services.ingest.receivers.loki_push import declared_length, decode_json, decode_protobuf, decompress_snappy
from services.ingest.settings import IngestSettings
from services.ingest.tokens import NOBODY, TokenBook

PROTOCOL = "loki"
DEFAULT_SYSTEM = "application"
MAX_TENANT: Final = 150
"""Characters of a tenant id, as in Loki."""
_STATUS: Final[tuple[tuple[type[ElisError], int], ...]] = (
    (BodyTooLarge, 413),
    (InvalidArgument, 400),
    (Unauthenticated, 401),
    (PermissionDenied, 403),
    (RateLimited, 429),
    (Unavailable, 429),
    (DeadlineExceeded, 429),
)


class LokiReceiver:
    """Serves /loki/api/v1/push and /ready."""

    def __init__(self, settings: IngestSettings, intake: Intake, tokens: TokenBook) -> None:
        self._limit = settings.max_body_bytes
        self._intake = intake
        self._tokens = tokens

    def routes(self) -> list[Route]:
        """Returns the routes of this receiver."""
        return [
            Route("/loki/api/v1/push", self.push, methods=["POST"]),
            Route("/loki/{path:path}", self.refuse_read, methods=["GET", "POST"]),
            Route("/ready", self.report_ready, methods=["GET"]),
        ]

    async def refuse_read(self, request: Request) -> Response:  # noqa: ARG002
        """Says where events are read: a data source of Grafana that is pointed here asks for labels and queries."""
        return PlainTextResponse("ELIS takes pushes here, by POST at /loki/api/v1/push; read events through its GraphQL API\n", 404)

    async def report_ready(self, request: Request) -> Response:  # noqa: ARG002
        """Says that pushes are taken, to anyone, as Loki does."""
        return PlainTextResponse("ready\n")

    async def push(self, request: Request) -> Response:
        """Takes a push request; the reply follows the commit."""
        try:
            agent = await authenticate(request.headers.get("authorization"), self._tokens)
        except ElisError as error:
            self._intake.endpoints.refused(arrival_of(request, PROTOCOL, NOBODY), error.message)
            return _refuse(error)
        arrival = arrival_of(request, PROTOCOL, agent)
        json = request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
        # A snappy block is compressed without a header that says so.
        size = expected_size(request, self._limit) if json else min(expected_size(request, self._limit) * 10, self._limit)
        try:
            with self._intake.admit(arrival, 0, expected=size) as room:
                tenant = _tenant_of(request)
                body = await read_body(request, self._limit, room, left=() if json else ("snappy",))
                if not json:
                    body = await self._decompress(body, room)
                self._intake.read(arrival, len(body))
                decode = decode_json if json else decode_protobuf
                decoded = await self._intake.decode(len(body), lambda: decode(body, agent, tenant))
                await self._intake.take(decoded.batch, arrival, default_system=DEFAULT_SYSTEM, environments=decoded.environments)
        except ElisError as error:
            return _refuse(error)
        return Response(status_code=204)

    async def _decompress(self, block: bytes, room: Room) -> bytes:
        room.decode(min(declared_length(block), self._limit))
        return await self._intake.decode(len(block), lambda: decompress_snappy(block, self._limit))


def _tenant_of(request: Request) -> str:
    tenant = request.headers.get("x-scope-orgid", "")
    if "|" in tenant:
        raise InvalidArgument("multiple org IDs present")
    if len(tenant) > MAX_TENANT:
        raise InvalidArgument("tenant ID is too long: max 150 characters")
    return tenant


def _refuse(error: ElisError) -> Response:
    status = next((status for known, status in _STATUS if isinstance(error, known)), 500)
    headers = {"Retry-After": str(max(1, math.ceil(float(error.detail.get("retry_after", 1.0)))))} if status == 429 else None
    return PlainTextResponse(f"{error.message}\n", status, headers)
