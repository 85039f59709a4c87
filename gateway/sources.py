"""What a team says about its sources."""

# The names of arguments are those of the API. Strawberry's decorators lose the types of resolvers.
# ruff: noqa: A002
# mypy: disallow-untyped-decorators=False
from __future__ import annotations

from typing import Annotated

import strawberry

from elis.ingest.v1 import ingest_pb2
from elis.ingest.v1 import sources_pb2 as pb
from gateway.context import Info
from gateway.ingest import Source
from kit.auth import principal
from kit.errors import NotFound


@strawberry.type
class SourceQuery:
    """Part of Query."""

    @strawberry.field(graphql_type=Source | None, description="The sender with this name; null when there is none. Needs the scope `sources:read`.")
    async def source(self, info: Info, name: Annotated[str, strawberry.argument(description="Name of the sender.")]) -> ingest_pb2.Source | None:
        """Returns a source."""
        try:
            return (await info.context.services.sources.GetSource(pb.GetSourceRequest(name=name))).source
        except NotFound:
            return None


@strawberry.type
class SourceMutation:
    """Part of Mutation."""

    @strawberry.mutation(
        graphql_type=Source,
        description="Says what a source is. What is left out stays as it is; an empty text takes back what was said before. Needs the scope `sources:write`.",
    )
    async def update_source(
        self,
        info: Info,
        name: Annotated[str, strawberry.argument(description="Name of the source.")],
        system: Annotated[str | None, strawberry.argument(description="Kind of system, whatever its senders say. Empty: senders and format decide.")] = None,
        environment: Annotated[str | None, strawberry.argument(description="Environment, whatever its senders say. Empty: senders decide.")] = None,
        format: Annotated[
            str | None, strawberry.argument(description="Log format of records that do not declare one themselves. Empty: detect it again.")
        ] = None,
        time_zone: Annotated[
            str | None, strawberry.argument(description="Zone in which stamps without a zone are read: an IANA name such as `Europe/Berlin`. Empty: UTC.")
        ] = None,
        retention_days: Annotated[
            int | None,
            strawberry.argument(
                description="Days that its events are kept, from the next event on. 0: as many as the installation says. Needs the scope `retention:write` too."
            ),
        ] = None,
        create: Annotated[bool, strawberry.argument(description="Makes the source when nothing has come from it yet.")] = False,
    ) -> ingest_pb2.Source:
        """Changes a source."""
        await info.context.rates.spend("account", principal().subject)
        request = pb.UpdateSourceRequest(
            name=name, system=system, environment=environment, format=format, time_zone=time_zone, retention_days=retention_days, create=create
        )
        return (await info.context.services.sources.UpdateSource(request)).source
