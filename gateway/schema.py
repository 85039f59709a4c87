"""The schema: its domains put together. `python -m gateway.schema` writes schema.graphql, with `--check` it only compares."""

# The names of arguments are those of the API. Strawberry's decorators lose the types of resolvers.
# ruff: noqa: A002
# mypy: disallow-untyped-decorators=False
from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Annotated
from uuid import UUID

import strawberry
from google.protobuf.message import Message
from graphql import GraphQLError
from strawberry.schema.config import StrawberryConfig
from strawberry.tools import merge_types
from strawberry.types import ExecutionContext

from elis.auth.v1 import auth_pb2
from elis.correlate.v1 import correlate_pb2
from elis.ingest.v1 import dependencies_pb2, endpoints_pb2, formats_pb2, ingest_pb2, masking_pb2, quality_pb2, rejections_pb2
from elis.search.v1 import search_pb2
from gateway import auth, correlate, dependencies, endpoints, events, formats, ingest, masking, quality, rejections, search, sources
from gateway.admission import Admit
from gateway.context import Info
from gateway.errors import PresentErrors, record
from gateway.projection import Executor
from gateway.resolve import create_resolver
from gateway.scalars import SCALARS
from kit.errors import NotFound

SDL_PATH = Path(__file__).with_name("schema.graphql")

TWINS: dict[type, type[Message]] = {
    auth.ApiKey: auth_pb2.ApiKey,
    auth.Caller: auth_pb2.Caller,
    auth.CreateApiKeyPayload: auth_pb2.CreateApiKeyResponse,
    auth.LoginPayload: auth_pb2.LoginResponse,
    auth.TokenPair: auth_pb2.TokenPair,
    auth.User: auth_pb2.User,
    correlate.Cause: correlate_pb2.Cause,
    correlate.EvidenceEvent: correlate_pb2.EvidenceEvent,
    correlate.Finding: correlate_pb2.Finding,
    correlate.Incident: correlate_pb2.Incident,
    correlate.Link: correlate_pb2.Link,
    correlate.Statistics: correlate_pb2.GetStatisticsResponse,
    correlate.StatisticsGroup: correlate_pb2.StatisticsGroup,
    correlate.StatisticsPoint: correlate_pb2.StatisticsPoint,
    correlate.Template: correlate_pb2.Template,
    correlate.TimelineEntry: correlate_pb2.TimelineEntry,
    dependencies.ServiceDependency: dependencies_pb2.ServiceDependency,
    endpoints.EndpointClient: endpoints_pb2.EndpointClient,
    endpoints.EndpointCounts: endpoints_pb2.EndpointCounts,
    endpoints.IngestEndpoint: endpoints_pb2.IngestEndpoint,
    events.LogEvent: search_pb2.Event,
    formats.FormatCandidate: formats_pb2.FormatCandidate,
    formats.FormatTest: formats_pb2.TestFormatResponse,
    formats.ParsedRecord: formats_pb2.ParsedRecord,
    ingest.IngestPayload: ingest_pb2.IngestEventsResponse,
    ingest.Source: ingest_pb2.Source,
    masking.MaskingAuditEntry: masking_pb2.MaskingAuditEntry,
    masking.MaskingChange: masking_pb2.MaskingChange,
    masking.MaskingCount: masking_pb2.MaskingCount,
    masking.MaskingException: masking_pb2.MaskingException,
    masking.MaskingPreview: masking_pb2.PreviewMaskingResponse,
    masking.MaskingRule: masking_pb2.MaskingRule,
    masking.MaskingSource: masking_pb2.MaskingSource,
    masking.RevealedValue: masking_pb2.RevealedValue,
    quality.DataQuality: quality_pb2.DataQuality,
    quality.DataQualitySummary: quality_pb2.DataQualitySummary,
    quality.FieldQuality: quality_pb2.FieldQuality,
    quality.FieldType: quality_pb2.FieldType,
    quality.QualityHour: quality_pb2.QualityHour,
    quality.QualityReason: quality_pb2.QualityReason,
    rejections.RejectedEvent: rejections_pb2.RejectedEvent,
    rejections.RejectedRecord: rejections_pb2.RejectedRecord,
    rejections.RejectedSender: rejections_pb2.RejectedSender,
    rejections.RejectedTotal: rejections_pb2.RejectedTotal,
    rejections.ReplayPayload: rejections_pb2.ReplayRejectedResponse,
    rejections.ReplayProblem: rejections_pb2.ReplayProblem,
    rejections.RevealedRecord: rejections_pb2.RevealRejectedResponse,
    search.Facet: search_pb2.Facet,
    search.FacetValue: search_pb2.FacetValue,
    search.HistogramBucket: search_pb2.HistogramBucket,
    search.Pattern: search_pb2.Pattern,
}
"""GraphQL type to the message that it shows."""


@strawberry.type
class NodeQuery:
    """Part of Query."""

    @strawberry.field(graphql_type=events.Node | None, description="The event or incident with this id; null when there is none.")
    async def node(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The number of an event, or the UUID of an incident.")],
    ) -> Message | None:
        """Returns an object by its id, whose form tells what it is."""
        number = events.parse_event_id(id)
        if number is not None:
            return await search.find_event(info.context, number)
        try:
            return await info.context.incidents.load(str(UUID(id)))
        except (ValueError, NotFound):
            return None


def _merge(name: str, description: str, *parts: type) -> type:
    merged = merge_types(name, parts)
    merged.__strawberry_definition__.description = description  # type: ignore[attr-defined]
    return merged


class Schema(strawberry.Schema):
    """Strawberry's schema with ELIS' logging of errors."""

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:  # noqa: ARG002
        """Logs what is our fault; what callers do wrong is theirs to read."""
        record(errors)


def create_schema() -> Schema:
    """Returns the schema."""
    return Schema(
        query=_merge(
            "Query",
            "What can be read.",
            search.SearchQuery,
            correlate.CorrelateQuery,
            ingest.IngestQuery,
            sources.SourceQuery,
            dependencies.DependencyQuery,
            endpoints.EndpointQuery,
            rejections.RejectionQuery,
            quality.QualityQuery,
            formats.FormatQuery,
            masking.MaskingQuery,
            auth.AuthQuery,
            NodeQuery,
        ),
        mutation=_merge(
            "Mutation",
            "What can be changed.",
            auth.AuthMutation,
            ingest.IngestMutation,
            rejections.RejectionMutation,
            sources.SourceMutation,
            masking.MaskingMutation,
            correlate.CorrelateMutation,
        ),
        subscription=_merge("Subscription", "What can be followed.", search.SearchSubscription),
        config=StrawberryConfig(default_resolver=create_resolver(TWINS), scalar_map=SCALARS, disable_field_suggestions=True),
        extensions=[PresentErrors, Admit],
        execution_context_class=Executor,
    )


def render_sdl() -> str:
    """Returns the schema in the schema definition language."""
    return create_schema().as_str().rstrip() + "\n"


def check_sdl() -> str:
    """Returns how schema.graphql differs from the schema; empty when it does not."""
    committed = SDL_PATH.read_text() if SDL_PATH.exists() else ""
    return "".join(difflib.unified_diff(committed.splitlines(keepends=True), render_sdl().splitlines(keepends=True), SDL_PATH.name, "gateway/schema.py"))


def main(arguments: list[str]) -> int:
    """Writes schema.graphql, or with --check says what is not current in it; returns the exit code."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: python -m gateway.schema [--check]\n")
        return 2
    difference = check_sdl()
    if not difference:
        return 0
    if arguments:
        sys.stderr.write(difference + "gateway/schema.graphql is not what the gateway serves: run make gen\n")
        return 1
    SDL_PATH.write_text(render_sdl())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
