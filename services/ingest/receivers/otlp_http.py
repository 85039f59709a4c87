"""OTLP/HTTP logs: POST /v1/logs, protobuf. Source: OTLP specification (reference wire-formats §2)."""

from __future__ import annotations

from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kit.errors import ElisError, InvalidArgument, PermissionDenied, Unauthenticated, Unavailable
from services.ingest.batch import Batch
from services.ingest.intake import Intake
from services.ingest.receivers.bodies import BodyTooLarge, UnsupportedEncoding, admitted_size, arrival_of, read_body
from services.ingest.receivers.credentials import authenticate
from services.ingest.receivers.otlp import DEFAULT_SYSTEM, answer, batch_of
from services.ingest.settings import IngestSettings
from services.ingest.tokens import Agent, TokenBook

PROTOCOL = "otlp_http"
PROTOBUF = "application/x-protobuf"
_STATUS: tuple[tuple[type[ElisError], int], ...] = (
    (BodyTooLarge, 413),
    (UnsupportedEncoding, 415),
    (InvalidArgument, 400),
    (Unauthenticated, 401),
    (PermissionDenied, 403),
    (Unavailable, 503),  # the only one here that an exporter retries
)


class OtlpHttpReceiver:
    """Serves /v1/logs."""

    def __init__(self, settings: IngestSettings, intake: Intake, tokens: TokenBook) -> None:
        self._limit = settings.max_body_bytes
        self._intake = intake
        self._tokens = tokens

    def routes(self) -> list[Route]:
        """Returns the routes of this receiver."""
        return [Route("/v1/logs", self.export_logs, methods=["POST"])]

    async def export_logs(self, request: Request) -> Response:
        """Takes an export request; the reply follows the commit."""
        try:
            agent = await authenticate(request.headers.get("authorization"), self._tokens)
            content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if content_type != PROTOBUF:
                raise UnsupportedEncoding(f"the content type {content_type[:60]!r} is not supported; use {PROTOBUF}")
            arrival = arrival_of(request, PROTOCOL, agent)
            with self._intake.admit(arrival, admitted_size(request, self._limit)):
                body = await read_body(request, self._limit)
                batch, environments = await self._intake.decode(len(body), lambda: _decode_export(body, agent))
                outcome = await self._intake.take(
                    batch,
                    arrival,
                    default_system=DEFAULT_SYSTEM,
                    environments=environments,
                )
        except ElisError as error:
            return _refuse(error)
        return Response(answer(outcome).SerializeToString(), media_type=PROTOBUF)


def _decode_export(body: bytes, agent: Agent) -> tuple[Batch, list[str]]:
    try:
        export = ExportLogsServiceRequest.FromString(body)
    except DecodeError:
        raise InvalidArgument("the body is not an ExportLogsServiceRequest") from None
    return batch_of(export, agent)


def _refuse(error: ElisError) -> Response:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    body = Status(code=error.status.value[0], message=error.message).SerializeToString()
    return Response(body, status, {"Retry-After": "1"} if status == 503 else None, PROTOBUF)
