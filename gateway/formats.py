"""What log formats make of a text."""

# The names of arguments are those of the API. Strawberry's decorators lose the types of resolvers.
# ruff: noqa: A002
# mypy: disallow-untyped-decorators=False
from __future__ import annotations

from typing import Annotated

import strawberry

from elis.ingest.v1 import formats_pb2 as pb
from gateway.context import Info
from gateway.events import Severity, name_severity
from gateway.scalars import JSON, DateTime
from kit.auth import principal


def _read_severity(parent: strawberry.Parent[pb.ParsedRecord]) -> Severity | None:
    return name_severity(parent.severity_number)


def _read_attributes(parent: strawberry.Parent[pb.ParsedRecord]) -> JSON:
    return JSON(parent.attributes_json or b"{}")


@strawberry.type(description="How sure a log format is of a text.")
class FormatCandidate:
    """Shows elis.ingest.v1.FormatCandidate."""

    format: str = strawberry.field(description="Name of the format.")
    confidence: float = strawberry.field(description="How sure it is, 0 to 1.")


@strawberry.type(description="An event that would come out of a text, masked as it would be stored.")
class ParsedRecord:
    """Shows elis.ingest.v1.ParsedRecord."""

    text: str = strawberry.field(description="The record before parsing, after lines that belong together were joined.")
    timestamp: DateTime | None = strawberry.field(description="When it happened; null when the text does not say, and the time of arrival would be taken.")
    severity_number: int = strawberry.field(description="Severity 1 to 24 as OpenTelemetry numbers it; 0 when unknown.")
    severity_text: str | None = strawberry.field(description="Severity in the sender's words.")
    severity: Severity | None = strawberry.field(resolver=_read_severity, description="Severity in six steps; null when unknown.")
    host: str | None = strawberry.field(description="Machine that it happened on.")
    service: str | None = strawberry.field(description="Service or component that it is about.")
    body: str = strawberry.field(description="The text of the event.")
    attributes: JSON = strawberry.field(resolver=_read_attributes, description="Structured fields of the event, as a JSON object.")
    trace_id: str | None = strawberry.field(description="Trace that it belongs to, 32 hexadecimal digits.")
    span_id: str | None = strawberry.field(description="Span that it belongs to, 16 hexadecimal digits.")


@strawberry.type(description="What would become of a text.")
class FormatTest:
    """Shows elis.ingest.v1.TestFormatResponse."""

    format: str = strawberry.field(description="Log format that it was parsed with.")
    detected_by: str = strawberry.field(description="How the format was chosen: `detected` or `declared`.")
    confidence: float = strawberry.field(description="How sure the format is of the text, 0 to 1.")
    candidates: list[FormatCandidate] = strawberry.field(description="The other formats that are sure of it to a part, surest first; at most 5.")
    records: list[ParsedRecord] = strawberry.field(description="The first 200 events that would come out of it.")
    total: int = strawberry.field(description="Events that would come out of it.")
    matched: int = strawberry.field(description="Records that the format understood.")
    lines: int = strawberry.field(description="Lines of the text that are not blank.")
    system: str | None = strawberry.field(description="Kind of system that the format implies.")


@strawberry.type
class FormatQuery:
    """Part of Query."""

    @strawberry.field(
        graphql_type=FormatTest,
        description="Shows what would become of a text, without storing anything. Needs the scope `sources:read`.",
    )
    async def test_format(
        self,
        info: Info,
        sample: Annotated[str, strawberry.argument(description="Lines of a log, at most 64 KiB.")],
        format: Annotated[str | None, strawberry.argument(description="Log format to parse them with; detected when left out.")] = None,
        time_zone: Annotated[
            str | None,
            strawberry.argument(description="Zone in which stamps without a zone are read: an IANA name such as `Europe/Berlin`. UTC when left out."),
        ] = None,
    ) -> pb.TestFormatResponse:
        """Tries a format."""
        await info.context.rates.spend("account", principal().subject)
        request = pb.TestFormatRequest(sample=sample, format=format or "", time_zone=time_zone or "")
        return await info.context.services.formats.TestFormat(request)
