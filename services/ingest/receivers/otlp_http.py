"""OTLP/HTTP: POST /v1/logs and /v1/traces, protobuf or JSON. Source: OTLP specification (reference wire-formats §2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from google.protobuf.message import Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kit.errors import ElisError, NotFound
from services.ingest.batch import Batch
from services.ingest.dependencies import Dependencies
from services.ingest.endpoints import Arrival
from services.ingest.intake import Intake
from services.ingest.receivers.bodies import UnsupportedEncoding, arrival_of, expected_size, read_body
from services.ingest.receivers.credentials import authenticate
from services.ingest.receivers.otlp import DEFAULT_SYSTEM, answer, decode_logs, read_columns, read_spans
from services.ingest.receivers.otlp_json import parse_logs, parse_spans
from services.ingest.receivers.otlp_replies import JSON, PROTOBUF, refuse, succeed
from services.ingest.settings import IngestSettings
from services.ingest.spans import collect_spans
from services.ingest.tokens import NOBODY, TokenBook

PROTOCOL = "otlp_http"
Export = Callable[[bytes, str, Arrival], Awaitable[Message]]


class OtlpHttpReceiver:
    """Serves /v1/logs and /v1/traces, and says that metrics are not taken."""

    def __init__(self, settings: IngestSettings, intake: Intake, tokens: TokenBook, dependencies: Dependencies) -> None:
        self._limit = settings.max_body_bytes
        self._intake = intake
        self._tokens = tokens
        self._dependencies = dependencies

    def routes(self) -> list[Route]:
        """Returns the routes of this receiver."""
        return [
            Route("/v1/logs", self.export_logs, methods=["POST"]),
            Route("/otlp/v1/logs", self.export_logs, methods=["POST"]),  # where Loki takes them
            Route("/v1/traces", self.export_traces, methods=["POST"]),
            Route("/v1/metrics", self.refuse_metrics, methods=["POST"]),
        ]

    async def export_logs(self, request: Request) -> Response:
        """Stores the records of a request; the reply follows the commit."""
        return await self._export(request, self._store_logs)

    async def export_traces(self, request: Request) -> Response:
        """Learns from the spans of a request who calls whom; the spans are not kept."""
        return await self._export(request, self._learn_spans)

    async def refuse_metrics(self, request: Request) -> Response:
        """Answers 404, which exporters take as final."""
        content_type = JSON if _content_type(request) == JSON else PROTOBUF
        return refuse(NotFound("ELIS takes logs and traces, not metrics; send metrics elsewhere"), content_type)

    async def _export(self, request: Request, export: Export) -> Response:
        content_type = _content_type(request)
        try:
            agent = await authenticate(request.headers.get("authorization"), self._tokens)
        except ElisError as error:
            self._intake.endpoints.refused(arrival_of(request, PROTOCOL, NOBODY), error.message)
            return refuse(error, JSON if content_type == JSON else PROTOBUF)
        arrival = arrival_of(request, PROTOCOL, agent)
        try:
            with self._intake.admit(arrival, 0, expected=expected_size(request, self._limit)) as room:
                if content_type not in (PROTOBUF, JSON):
                    raise UnsupportedEncoding(f"the content type is not supported; use {PROTOBUF} or {JSON}")
                body = await read_body(request, self._limit, room)
                self._intake.read(arrival, len(body))
                reply = await export(body, content_type, arrival)
        except ElisError as error:
            return refuse(error, JSON if content_type == JSON else PROTOBUF)
        return succeed(reply, content_type)

    async def _store_logs(self, body: bytes, content_type: str, arrival: Arrival) -> Message:
        def decode() -> tuple[Batch, list[str]]:
            return read_columns(parse_logs(body), arrival.agent) if content_type == JSON else decode_logs(body, arrival.agent)

        batch, environments = await self._intake.decode(len(body), decode)
        return answer(await self._intake.take(batch, arrival, default_system=DEFAULT_SYSTEM, environments=environments))

    async def _learn_spans(self, body: bytes, content_type: str, arrival: Arrival) -> Message:
        parse = parse_spans if content_type == JSON else read_spans
        spans = await self._intake.decode(len(body), lambda: collect_spans(parse(body), arrival.agent))
        await self._dependencies.learn(body, spans)
        self._intake.endpoints.taken(arrival, events=0, duplicates=0, rejected=0)
        return ExportTraceServiceResponse()


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
