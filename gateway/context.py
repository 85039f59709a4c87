"""What resolvers work with: the services, the caller, the loaders of one request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import strawberry
from strawberry.dataloader import DataLoader

from elis.correlate.v1 import correlate_pb2
from kit.auth import Principal
from kit.errors import ElisError, Unauthenticated

if TYPE_CHECKING:
    from elis.auth.v1.auth_pb2_grpc import AuthServiceAsyncStub
    from elis.correlate.v1.correlate_pb2_grpc import CorrelateServiceAsyncStub
    from elis.ingest.v1.dependencies_pb2_grpc import DependencyServiceAsyncStub
    from elis.ingest.v1.endpoints_pb2_grpc import EndpointServiceAsyncStub
    from elis.ingest.v1.formats_pb2_grpc import FormatServiceAsyncStub
    from elis.ingest.v1.ingest_pb2_grpc import IngestServiceAsyncStub
    from elis.ingest.v1.masking_pb2_grpc import MaskingServiceAsyncStub
    from elis.ingest.v1.quality_pb2_grpc import QualityServiceAsyncStub
    from elis.ingest.v1.rejections_pb2_grpc import RejectionServiceAsyncStub
    from elis.ingest.v1.sources_pb2_grpc import SourceServiceAsyncStub
    from elis.search.v1.search_pb2_grpc import SearchServiceAsyncStub
    from gateway.callers import Callers
    from gateway.metrics import Metrics
    from gateway.rates import Rates

_PARALLEL_DETAILS = 8


@dataclass(frozen=True, slots=True)
class Services:
    """The services, called with the token of the caller that is being served."""

    auth: AuthServiceAsyncStub
    ingest: IngestServiceAsyncStub
    formats: FormatServiceAsyncStub
    rejections: RejectionServiceAsyncStub
    dependencies: DependencyServiceAsyncStub
    endpoints: EndpointServiceAsyncStub
    sources: SourceServiceAsyncStub
    masking: MaskingServiceAsyncStub
    quality: QualityServiceAsyncStub
    search: SearchServiceAsyncStub
    correlate: CorrelateServiceAsyncStub


@dataclass(slots=True)
class Context:
    """One HTTP request, or one WebSocket connection."""

    services: Services
    callers: Callers
    rates: Rates
    metrics: Metrics
    address: str
    """Network address of the client."""
    caller: Principal | None = None
    refusal: Unauthenticated = field(default_factory=lambda: Unauthenticated("sign in first"))
    """What a caller who is not known is told."""
    credential: str = ""
    """What the caller proved itself with: `Bearer …` or an API key."""
    connection_params: dict[str, object] | None = None
    """Payload of connection_init."""
    socket: bool = False
    """Whether this is a WebSocket connection."""
    introspection: bool = True
    timeout: timedelta = timedelta(seconds=5)
    """Time for one query or mutation."""
    incidents: DataLoader[str, correlate_pb2.Incident] = field(init=False)
    """Incidents with all their parts, by id."""

    def __post_init__(self) -> None:
        self.incidents = self._open_incidents()

    def for_operation(self) -> Context:
        """Returns a context whose loaders remember nothing yet."""
        return replace(self)

    def _open_incidents(self) -> DataLoader[str, correlate_pb2.Incident]:
        gate = asyncio.Semaphore(_PARALLEL_DETAILS)

        async def load(incident_id: str) -> correlate_pb2.Incident | Exception:
            async with gate:
                try:
                    response = await self.services.correlate.GetIncident(correlate_pb2.GetIncidentRequest(id=incident_id))
                except ElisError as error:
                    return error
                return response.incident

        async def load_all(ids: Sequence[str]) -> list[Any]:
            return await asyncio.gather(*(load(incident_id) for incident_id in ids))

        return DataLoader(load_fn=load_all, max_batch_size=100)


Info = strawberry.Info[Context, None]
"""The `info` argument of resolvers."""
