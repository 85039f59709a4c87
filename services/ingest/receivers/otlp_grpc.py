"""OTLP/gRPC logs: LogsService/Export on its own port, with an agent's token instead of a user's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as rpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

from kit.errors import Unavailable
from kit.interceptors import abort
from services.ingest.intake import Intake
from services.ingest.receivers.otlp import DEFAULT_SYSTEM, answer, batch_of
from services.ingest.receivers.otlp_http import authenticate
from services.ingest.settings import IngestSettings
from services.ingest.tokens import TokenBook

if TYPE_CHECKING:
    from kit.interceptors import RpcContext

EXPORT_PATH = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
MAX_CONCURRENT_EXPORTS = 256


class OtlpLogsServicer(rpc.LogsServiceServicer):
    """Takes export requests; the reply follows the commit."""

    def __init__(self, intake: Intake, tokens: TokenBook) -> None:
        self._intake = intake
        self._tokens = tokens
        self._in_flight = 0

    async def Export(self, request: ExportLogsServiceRequest, context: RpcContext) -> ExportLogsServiceResponse:
        """Stores the records of a request."""
        self._in_flight += 1
        try:
            if self._in_flight > MAX_CONCURRENT_EXPORTS:
                raise Unavailable("too many exports at once; try again", retry_after=1.0)
            return await self._export(request, context)
        except Exception as error:
            await abort(context, error, EXPORT_PATH)
            raise
        finally:
            self._in_flight -= 1

    async def _export(self, request: ExportLogsServiceRequest, context: RpcContext) -> ExportLogsServiceResponse:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        agent = await authenticate(metadata.get("authorization"), self._tokens)
        size = request.ByteSize()
        with self._intake.admit(size):
            batch, environments = await self._intake.decode(size, lambda: batch_of(request, agent))
            outcome = await self._intake.take(
                batch,
                agent,
                default_system=DEFAULT_SYSTEM,
                environments=environments,
                sender=f"{context.peer()} {metadata.get('user-agent', '')}"[:200],
            )
        return answer(outcome)


def create_otlp_server(settings: IngestSettings, servicer: OtlpLogsServicer) -> grpc.aio.Server:
    """Returns the server of the OTLP/gRPC port."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", settings.max_body_bytes), ("grpc.so_reuseport", 0)])
    rpc.add_LogsServiceServicer_to_server(servicer, server)
    return server
