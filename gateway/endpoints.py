"""Who sends, over which protocol and with which token."""

# Strawberry's decorators lose the types of resolvers.
# mypy: disallow-untyped-decorators=False
from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import strawberry

from elis.ingest.v1 import endpoints_pb2 as pb
from gateway.context import Info
from gateway.paging import PAGE_SIZE, After, Connection, First, Page, read_page
from gateway.scalars import BigInt, DateTime


@strawberry.type(description="What came to an endpoint over a span of time.")
class EndpointCounts:
    """Shows elis.ingest.v1.EndpointCounts."""

    requests: BigInt = strawberry.field(description="Requests; over syslog and Fluent, batches and messages.")
    refused: BigInt = strawberry.field(description="Requests that got an error reply.")
    limited: BigInt = strawberry.field(description="Refused requests whose sender had used up its limit.")
    resent: BigInt = strawberry.field(description="Requests that held nothing but what was stored before.")
    events: BigInt = strawberry.field(description="Events stored.")
    duplicates: BigInt = strawberry.field(description="Events that were stored before.")
    rejected: BigInt = strawberry.field(description="Records that could not become events; see `rejectedEvents`.")
    bytes: BigInt = strawberry.field(description="Bytes of bodies that were read, decompressed.")
    accept_rate: float | None = strawberry.field(description="Share of the requests that were not refused; null without requests.")


@strawberry.type(description="A program that sends to an endpoint.")
class EndpointClient:
    """Shows elis.ingest.v1.EndpointClient."""

    address: str | None = strawberry.field(description="Its network address, masked as names are.")
    user_agent: str | None = strawberry.field(description="What it calls itself, masked as names are.")
    last_seen_at: DateTime | None = strawberry.field(description="When it sent last.")


@strawberry.type(description="One protocol and one token: who sends, how much is taken, what was refused.")
class IngestEndpoint:
    """Shows elis.ingest.v1.IngestEndpoint."""

    protocol: str = strawberry.field(
        description="`hec`, `otlp_grpc`, `otlp_http`, `bulk`, `loki`, `syslog`, `fluent`, `graphql`, `replay` for rejected events tried again, "
        "or `elis` for what ELIS itself tells."
    )
    token_id: str | None = strawberry.field(
        description="Id of the ingest token, or who is known by certificate, network, user or API key; null: requests whose token is missing or not valid."
    )
    token_name: str | None = strawberry.field(description="Name of the token.")
    source: str | None = strawberry.field(description="The source that the token is bound to; null when the sender names it.")
    clients: list[EndpointClient] = strawberry.field(description="Its last clients, at most 16, the last ones first.")
    last_minute: EndpointCounts = strawberry.field(description="Counts of the last 50 to 60 seconds, a few seconds late.")
    last_hour: EndpointCounts = strawberry.field(description="Counts of the last hour.")
    last_error: str | None = strawberry.field(description="What was refused last, masked.")
    last_error_at: DateTime | None = strawberry.field(description="When that was.")
    last_seen_at: DateTime | None = strawberry.field(description="When the last request came.")
    retry_storm: bool = strawberry.field(
        description="Whether a client repeats itself in vain: of at least 20 requests of the last minute, more than half were refused or resent."
    )


@strawberry.type
class EndpointQuery:
    """Part of Query."""

    @strawberry.field(
        graphql_type=Connection[IngestEndpoint],
        description="Who sends, by protocol and token; what was silent for a day is not listed. Needs the scope `rejected:read`.",
    )
    async def ingest_endpoints(
        self,
        info: Info,
        protocol: Annotated[str | None, strawberry.argument(description="Only those of this protocol.")] = None,
        first: First = PAGE_SIZE,
        after: After = None,
    ) -> Page:
        """Returns a page of endpoints."""

        async def fetch(size: int, token: str) -> tuple[Sequence[pb.IngestEndpoint], str]:
            request = pb.ListEndpointsRequest(page_size=size, page_token=token, protocol=protocol or "")
            response = await info.context.services.endpoints.ListEndpoints(request)
            return response.endpoints, response.next_page_token

        return await read_page(fetch, first, after)
