"""OTLP/gRPC logs: LogsService/Export on its own port, with an agent's token instead of a user's."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as rpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

from kit.errors import Unavailable
from kit.interceptors import abort
from services.ingest.endpoints import Arrival
from services.ingest.intake import Intake
from services.ingest.receivers.credentials import authenticate
from services.ingest.receivers.otlp import DEFAULT_SYSTEM, answer, batch_of
from services.ingest.settings import IngestSettings
from services.ingest.tokens import TokenBook

if TYPE_CHECKING:
    from kit.interceptors import RpcContext

PROTOCOL = "otlp_grpc"
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
        arrival = Arrival(PROTOCOL, agent, address_of(context.peer()), metadata.get("user-agent", "")[:200])
        with self._intake.admit(arrival, size):
            batch, environments = await self._intake.decode(size, lambda: batch_of(request, agent))
            outcome = await self._intake.take(
                batch,
                arrival,
                default_system=DEFAULT_SYSTEM,
                environments=environments,
            )
        return answer(outcome)


def address_of(peer: str) -> str:
    """Returns the address in gRPC's name of a peer: `ipv4:10.0.0.1:4711` or `ipv6:%5B::1%5D:4711`."""
    kind, _, rest = peer.partition(":")
    return unquote(rest.rpartition(":")[0]).strip("[]") if kind in ("ipv4", "ipv6") else peer[:200]


def create_otlp_server(settings: IngestSettings, servicer: OtlpLogsServicer) -> grpc.aio.Server:
    """Returns the server of the OTLP/gRPC port."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", settings.max_body_bytes), ("grpc.so_reuseport", 0)])
    rpc.add_LogsServiceServicer_to_server(servicer, server)
    return server
