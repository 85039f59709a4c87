"""Who calls whom, learned from traces."""

# The names of arguments are those of the API. Strawberry's decorators lose the types of resolvers.
# mypy: disallow-untyped-decorators=False
from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from elis.ingest.v1 import dependencies_pb2 as pb
from gateway.context import Info
from gateway.scalars import NANOSECONDS, BigInt, DateTime


@strawberry.type(description="Calls from one service to another, learned from the spans of traces.")
class ServiceDependency:
    """Shows elis.ingest.v1.ServiceDependency."""

    caller: str = strawberry.field(description="Service that calls.")
    callee: str = strawberry.field(description="Service that is called, or the database, broker or host that the caller's spans name.")
    kind: str = strawberry.field(description="`service` when the callee sent spans of its own, else `database`, `messaging` or `external`.")
    calls: BigInt = strawberry.field(description="Calls seen.")
    errors: BigInt = strawberry.field(description="Calls whose span has the status error.")
    average_ms: float = strawberry.field(description="Average duration in milliseconds, as the callee measured it when it sent spans, else as the caller did.")
    p95_ms: float = strawberry.field(
        description="Duration in milliseconds that 95 % of the calls did not exceed, interpolated within the bucket that it falls into: "
        "off by no more than that is wide, and 5,000 when more than 5 % of the calls took longer."
    )
    buckets: list[BigInt] = strawberry.field(
        description="Calls by duration: at most 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000 milliseconds each, and longer."
    )


@strawberry.type
class DependencyQuery:
    """Part of Query."""

    @strawberry.field(
        graphql_type=list[ServiceDependency],
        description="Who calls whom over a span of time of at most 31 days, the busiest first. Needs the scope `statistics:read`.",
    )
    async def service_dependencies(
        self,
        info: Info,
        from_: Annotated[DateTime, strawberry.argument(name="from", description="Begin of the time.")],
        to: Annotated[DateTime, strawberry.argument(description="End of the time, not included.")],
        first: Annotated[int, strawberry.argument(description="Most edges to return, up to 2,000.")] = 500,
    ) -> Sequence[pb.ServiceDependency]:
        """Returns edges."""
        request = pb.ListServiceDependenciesRequest(to=_to_timestamp(to), limit=first)
        getattr(request, "from").CopyFrom(_to_timestamp(from_))
        return (await info.context.services.dependencies.ListServiceDependencies(request)).dependencies


def _to_timestamp(nanoseconds: int) -> Timestamp:
    seconds, nanos = divmod(nanoseconds, NANOSECONDS)
    return Timestamp(seconds=seconds, nanos=nanos)
