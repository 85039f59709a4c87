"""RPC that reads who sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elis.ingest.v1 import endpoints_pb2 as pb
from elis.ingest.v1 import endpoints_pb2_grpc as rpc
from kit.auth import requires
from kit.db import outages_as_unavailable
from kit.mapping import to_proto
from kit.paging import clamp_page_size, decode_token, encode_token
from services.ingest.endpoint_store import EndpointStore, Overview
from services.ingest.endpoints import Counts

if TYPE_CHECKING:
    from kit.interceptors import RpcContext


class EndpointServicer(rpc.EndpointServiceServicer):
    """Shows the endpoints of all replicas, seconds late."""

    def __init__(self, store: EndpointStore) -> None:
        self._store = store

    # Addresses of machines are shown: for those who see them at rejected events too.
    @requires("rejected:read")
    async def ListEndpoints(self, request: pb.ListEndpointsRequest, _: RpcContext) -> pb.ListEndpointsResponse:
        """Endpoints in order of protocol and token id."""
        size = clamp_page_size(request.page_size)
        position = decode_token(request.page_token, str, str)
        after = ("", "") if position is None else (position[0].replace("\x00", ""), position[1].replace("\x00", ""))
        with outages_as_unavailable():
            found = await self._store.list(protocol=request.protocol.replace("\x00", ""), after=after, limit=size + 1)
        page = found[:size]
        return pb.ListEndpointsResponse(
            endpoints=[_shown(overview) for overview in page],
            next_page_token=encode_token(page[-1].protocol, page[-1].token_id) if len(found) > size else "",
        )


def _shown(overview: Overview) -> pb.IngestEndpoint:
    clients = [
        pb.EndpointClient(address=address, user_agent=user_agent, last_seen_at=last_seen_at)  # type: ignore[arg-type]  # takes datetimes
        for address, user_agent, last_seen_at in overview.clients
    ]
    counts = {"last_minute": _counted(overview.minute), "last_hour": _counted(overview.hour)}
    return to_proto(pb.IngestEndpoint, overview, clients=clients, **counts)


def _counted(counts: Counts) -> pb.EndpointCounts:
    rate = (counts.requests - counts.refused) / counts.requests if counts.requests else None
    return to_proto(pb.EndpointCounts, counts, accept_rate=rate)
