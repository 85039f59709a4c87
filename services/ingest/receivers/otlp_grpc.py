"""OTLP/gRPC: LogsService and TraceService on a port of their own, with an agent's token instead of a user's.

An export is one message, but it is served as a stream of them, which is the same on the wire: so a message is read only when its
sender is known and there is room for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

import grpc
import structlog
from google.protobuf.message import Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from kit.errors import DeadlineExceeded, ElisError, Internal, Unavailable
from kit.interceptors import STATUS_DETAILS_KEY
from services.ingest.dependencies import Dependencies
from services.ingest.endpoints import Arrival
from services.ingest.intake import Intake
from services.ingest.receivers.bodies import MAX_USER_AGENT
from services.ingest.receivers.credentials import authenticate
from services.ingest.receivers.otlp import DEFAULT_SYSTEM, answer, decode_logs, read_spans
from services.ingest.receivers.otlp_reads import MessageReads
from services.ingest.receivers.otlp_replies import describe, grpc_code
from services.ingest.settings import IngestSettings
from services.ingest.spans import collect_spans
from services.ingest.tokens import NOBODY, TokenBook

if TYPE_CHECKING:
    from kit.interceptors import RpcContext

log = structlog.get_logger()

PROTOCOL = "otlp_grpc"
LOGS_SERVICE = "opentelemetry.proto.collector.logs.v1.LogsService"
TRACE_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
MAX_CONCURRENT_EXPORTS = 256
_OPTIONS: list[tuple[str, int]] = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 100),
    # Windows of a fixed size: gRPC would let fast connections send megabytes ahead of being read.
    ("grpc.http2.bdp_probe", 0),
]
Export = Callable[[bytes, Arrival], Awaitable[Message]]


class OtlpGrpcReceiver:
    """Takes export requests as bytes, so that what is no message gets a reply that is final."""

    def __init__(self, settings: IngestSettings, intake: Intake, tokens: TokenBook, dependencies: Dependencies) -> None:
        self._intake = intake
        self._reads = MessageReads(max(1, settings.max_pending_bytes // 2 // message_limit(settings)))
        self._tokens = tokens
        self._dependencies = dependencies
        self._in_flight = 0

    async def export_logs(self, _: object, context: RpcContext) -> Message:
        """Stores the records of a request; the reply follows the commit."""
        return await self._export(context, self._store_logs)

    async def export_traces(self, _: object, context: RpcContext) -> Message:
        """Learns from the spans of a request who calls whom; the spans are not kept."""
        return await self._export(context, self._learn_spans)

    async def _export(self, context: RpcContext, export: Export) -> Message:
        self._in_flight += 1
        try:
            metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
            arrival = Arrival(PROTOCOL, NOBODY, address_of(context.peer()), metadata.get("user-agent", "")[:MAX_USER_AGENT])
            try:
                if self._in_flight > MAX_CONCURRENT_EXPORTS:
                    raise Unavailable("too many exports at once; try again", retry_after=1.0)
                agent = await authenticate(metadata.get("authorization"), self._tokens)
            except ElisError as error:
                self._intake.endpoints.refused(arrival, error.message)
                raise
            arrival = replace(arrival, agent=agent)
            with self._intake.admit(arrival, 0, expected=1) as room:
                message = await self._reads.read(context)
                room.decode(len(message))
                self._intake.read(arrival, len(message))
                return await export(message, arrival)
        except Exception as error:
            await _abort(context, error)
            raise
        finally:
            self._in_flight -= 1

    async def _store_logs(self, body: bytes, arrival: Arrival) -> Message:
        batch, environments = await self._intake.decode(len(body), lambda: decode_logs(body, arrival.agent))
        return answer(await self._intake.take(batch, arrival, default_system=DEFAULT_SYSTEM, environments=environments))

    async def _learn_spans(self, body: bytes, arrival: Arrival) -> Message:
        spans = await self._intake.decode(len(body), lambda: collect_spans(read_spans(body), arrival.agent))
        await self._dependencies.learn(body, spans)
        self._intake.endpoints.taken(arrival, events=0, duplicates=0, rejected=0)
        return ExportTraceServiceResponse()


async def _abort(context: RpcContext, error: Exception) -> None:
    """Ends a call with the status that exporters understand; what is not an error of ours is logged and told as nothing."""
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        error = DeadlineExceeded("the time for the call ran out")
    elif not isinstance(error, ElisError):
        log.error("export failed", exc_info=error)
        error = Internal("internal error")
    await context.abort(grpc_code(error), error.message, ((STATUS_DETAILS_KEY, describe(error).SerializeToString()),))


def message_limit(settings: IngestSettings) -> int:
    """Returns the largest message in bytes."""
    return min(settings.max_body_bytes, settings.otlp_message_bytes)


def address_of(peer: str) -> str:
    """Returns the address in gRPC's name of a peer: `ipv4:10.0.0.1:4711` or `ipv6:%5B::1%5D:4711`."""
    kind, _, rest = peer.partition(":")
    return unquote(rest.rpartition(":")[0]).strip("[]") if kind in ("ipv4", "ipv6") else peer[:200]


def create_otlp_server(settings: IngestSettings, receiver: OtlpGrpcReceiver) -> grpc.aio.Server:
    """Returns the server of the OTLP/gRPC port; its bound holds for messages as they come and as they are decompressed."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", message_limit(settings)), *_OPTIONS])
    for service, method in ((LOGS_SERVICE, receiver.export_logs), (TRACE_SERVICE, receiver.export_traces)):
        # Without a deserializer the method gets the bytes.
        handler: grpc.RpcMethodHandler[bytes, Message] = grpc.stream_unary_rpc_method_handler(method, None, lambda message: message.SerializeToString())
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
    return server
