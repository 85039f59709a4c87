"""Incidents with their causes and evidence, templates, statistics."""

# The names of arguments are those of the API. Strawberry's decorators lose the types of resolvers.
# ruff: noqa: A002
# mypy: disallow-untyped-decorators=False
from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from time import time_ns
from typing import Annotated, Any

import strawberry

from elis.correlate.v1 import correlate_pb2 as pb
from gateway.context import Info
from gateway.events import Node, Severity, name_severity, resolve_range
from gateway.paging import PAGE_SIZE, After, Connection, First, Page, read_page
from gateway.scalars import BigInt, DateTime, Duration, described
from kit.errors import InvalidArgument

HOUR = 3_600_000_000_000
MINUTE = 60_000_000_000


@strawberry.enum(description="Where an incident stands.")
class IncidentState(Enum):
    """elis.correlate.v1.IncidentState."""

    OPEN = described(pb.INCIDENT_STATE_OPEN, "Nobody has taken it yet.")
    ACKNOWLEDGED = described(pb.INCIDENT_STATE_ACKNOWLEDGED, "Somebody works on it.")
    RESOLVED = described(pb.INCIDENT_STATE_RESOLVED, "It is over; new findings open a new one.")


@strawberry.enum(description="A field that statistics are grouped by.")
class StatisticsField(Enum):
    """Fields of the roll-ups."""

    SYSTEM = described("system", "Kind of system.")
    SOURCE = described("source", "Name of the sender.")
    SERVICE = described("service", "Service.")
    HOST = described("host", "Host.")


@strawberry.input(description="A range of time: `start` or `last`, and `end`.")
class TimeRange:
    """Start (inclusive) to end (exclusive)."""

    start: DateTime | None = strawberry.field(default=None, description="Start, inclusive.")
    end: DateTime | None = strawberry.field(default=None, description="End, exclusive; now when left out.")
    last: Duration | None = strawberry.field(default=None, description="Instead of `start`: so long before `end`, such as `15m`.")


@strawberry.type(description="The constant part of similar log lines.")
class Template:
    """Shows elis.correlate.v1.Template."""

    id: strawberry.ID = strawberry.field(description="Identifies the template.")
    text: str = strawberry.field(description="The constant part, with `<*>` where values differ.")
    fingerprints: list[str] = strawberry.field(description="Fingerprints of the lines, for a filter.")
    events: BigInt = strawberry.field(description="Events counted so far.")
    first_seen_at: DateTime | None = strawberry.field(description="When the first one happened.")
    last_seen_at: DateTime | None = strawberry.field(description="When the last one happened.")


def _read_severity(parent: strawberry.Parent[pb.EvidenceEvent]) -> Severity | None:
    return name_severity(parent.severity_number)


@strawberry.type(description="A copied event that proves a claim. It stays when the event itself has been deleted.")
class EvidenceEvent:
    """Shows elis.correlate.v1.EvidenceEvent."""

    event_id: strawberry.ID = strawberry.field(description="The event's number.")
    timestamp: DateTime | None = strawberry.field(description="When it happened.")
    source: str | None = strawberry.field(description="Name of the sender.")
    system: str | None = strawberry.field(description="Kind of system.")
    service: str | None = strawberry.field(description="Service.")
    host: str | None = strawberry.field(description="Host.")
    severity_number: int = strawberry.field(description="Severity 1 to 24; 0 when unknown.")
    severity_text: str | None = strawberry.field(description="Severity in the sender's words.")
    severity: Severity | None = strawberry.field(resolver=_read_severity, description="Severity in six steps; null when unknown.")
    body: str = strawberry.field(description="The text of the event.")


@strawberry.type(description="Something unusual that a detector found.")
class Finding:
    """Shows elis.correlate.v1.Finding."""

    id: strawberry.ID = strawberry.field(description="Identifies the finding.")
    detector: str = strawberry.field(description="The detector.")
    system: str | None = strawberry.field(description="Kind of system that it is about.")
    source: str | None = strawberry.field(description="Sender that it is about.")
    service: str | None = strawberry.field(description="Service that it is about.")
    template_id: strawberry.ID | None = strawberry.field(description="Template that it is about.")
    summary: str = strawberry.field(description="What was found, in one sentence.")
    score: float = strawberry.field(description="How unusual it is, 0 to 1.")
    started_at: DateTime | None = strawberry.field(description="Where its window begins.")
    ended_at: DateTime | None = strawberry.field(description="Where its window ends.")
    expected: float = strawberry.field(description="The value that was to be expected.")
    observed: float = strawberry.field(description="The value that was observed.")
    baseline: str | None = strawberry.field(description="What the expectation rests on.")
    evidence_ids: list[strawberry.ID] = strawberry.field(description="Numbers of the events that prove it.")


@strawberry.type(description="Why two findings belong together.")
class Link:
    """Shows elis.correlate.v1.Link."""

    from_finding_id: strawberry.ID = strawberry.field(description="The earlier finding.")
    to_finding_id: strawberry.ID = strawberry.field(description="The later finding.")
    rule: str = strawberry.field(description="`trace`, `key`, `topology` or `time`.")
    detail: str | None = strawberry.field(description="What exactly links them.")
    confidence: float = strawberry.field(description="How sure the link is, 0 to 1.")
    evidence_ids: list[strawberry.ID] = strawberry.field(description="Numbers of the events that prove it.")


@strawberry.type(description="A possible root cause.")
class Cause:
    """Shows elis.correlate.v1.Cause."""

    rank: int = strawberry.field(description="1 is the most likely cause.")
    system: str | None = strawberry.field(description="Kind of system.")
    service: str | None = strawberry.field(description="Service.")
    summary: str = strawberry.field(description="What happened, in one sentence.")
    score: float = strawberry.field(description="How likely it is, 0 to 1; the causes of an incident sum to at most 1.")
    onset: float = strawberry.field(description="Part of the score: it began before the others.")
    upstream: float = strawberry.field(description="Part of the score: the others depend on it.")
    strength: float = strawberry.field(description="Part of the score: how unusual it is.")
    started_at: DateTime | None = strawberry.field(description="When it began.")
    evidence: list[EvidenceEvent] = strawberry.field(description="Events that prove it.")
    finding_ids: list[strawberry.ID] = strawberry.field(description="Findings that it rests on.")


@strawberry.type(description="One line of an incident's history.")
class TimelineEntry:
    """Shows elis.correlate.v1.TimelineEntry."""

    at: DateTime | None = strawberry.field(description="When.")
    kind: str = strawberry.field(description="`finding`, `opened`, `linked`, `acknowledged`, `resolved` or `reopened`.")
    text: str = strawberry.field(description="What happened, in one sentence.")
    system: str | None = strawberry.field(description="Kind of system.")
    service: str | None = strawberry.field(description="Service.")
    actor: str | None = strawberry.field(description="Who did it; null when ELIS did.")
    event_ids: list[strawberry.ID] = strawberry.field(description="Numbers of the events that it is about.")


@strawberry.type(description="Findings of one or several systems that belong together.")
class Incident(Node):
    """Shows elis.correlate.v1.Incident."""

    @classmethod
    def is_type_of(cls, value: object, _info: Any) -> bool:
        """Whether a message is shown by this type."""
        return isinstance(value, pb.Incident)

    id: strawberry.ID = strawberry.field(description="Identifies the incident: a UUID.")
    number: BigInt = strawberry.field(description="Short number for people.")
    title: str = strawberry.field(description="What happened, in one line.")
    state: IncidentState = strawberry.field(description="Where it stands.")
    severity: str = strawberry.field(description="`critical`, `major` or `minor`.")
    started_at: DateTime | None = strawberry.field(description="When its first finding began.")
    opened_at: DateTime | None = strawberry.field(description="When ELIS opened it.")
    updated_at: DateTime | None = strawberry.field(description="When it changed last.")
    resolved_at: DateTime | None = strawberry.field(description="When it was resolved.")
    systems: list[str] = strawberry.field(description="Kinds of system that it touches.")
    services: list[str] = strawberry.field(description="Services that it touches.")
    finding_count: BigInt = strawberry.field(description="How many findings it has.")
    causes: list[Cause] = strawberry.field(description="Possible root causes, the most likely first.")

    @strawberry.field(graphql_type=list[Finding], description="The findings in order of time.")
    async def findings(parent: strawberry.Parent[pb.Incident], info: Info) -> list[pb.Finding]:
        """Returns the findings."""
        return list((await info.context.incidents.load(parent.id)).findings)

    @strawberry.field(graphql_type=list[Link], description="Why the findings belong together.")
    async def links(parent: strawberry.Parent[pb.Incident], info: Info) -> list[pb.Link]:
        """Returns the links."""
        return list((await info.context.incidents.load(parent.id)).links)

    @strawberry.field(graphql_type=list[TimelineEntry], description="What happened, in order of time.")
    async def timeline(parent: strawberry.Parent[pb.Incident], info: Info) -> list[pb.TimelineEntry]:
        """Returns the history."""
        return list((await info.context.incidents.load(parent.id)).timeline)

    @strawberry.field(graphql_type=list[EvidenceEvent], description="Every event that a finding, link or cause cites.")
    async def evidence(parent: strawberry.Parent[pb.Incident], info: Info) -> list[pb.EvidenceEvent]:
        """Returns the evidence."""
        return list((await info.context.incidents.load(parent.id)).evidence)


@strawberry.type(description="Counts at one point in time.")
class StatisticsPoint:
    """Shows elis.correlate.v1.StatisticsPoint."""

    start: DateTime = strawberry.field(description="Where the point's step begins.")
    events: BigInt = strawberry.field(description="Events in the step.")
    errors: BigInt = strawberry.field(description="Events of severity ERROR and above in the step.")


@strawberry.type(description="Counts of one group.")
class StatisticsGroup:
    """Shows elis.correlate.v1.StatisticsGroup."""

    key: str | None = strawberry.field(description="Value of the field grouped by; null for the whole, and for events without a value.")
    events: BigInt = strawberry.field(description="Events in the range.")
    errors: BigInt = strawberry.field(description="Events of severity ERROR and above in the range.")
    error_rate: float = strawberry.field(description="Share of errors, 0 to 1.")
    events_per_second: float = strawberry.field(description="Events per second over the range.")
    points: list[StatisticsPoint] = strawberry.field(description="Counts in steps over the range.")


@strawberry.type(description="Counts over a range of time.")
class Statistics:
    """Shows elis.correlate.v1.GetStatisticsResponse."""

    total: StatisticsGroup = strawberry.field(description="Everything in the range.")
    groups: list[StatisticsGroup] = strawberry.field(description="The groups, largest first; empty without `groupBy`.")
    as_of: DateTime | None = strawberry.field(description="Everything acknowledged before this moment is counted.")
    lag_seconds: float = strawberry.field(description="How far the counts are behind what has been acknowledged, in seconds.")


@strawberry.type
class CorrelateQuery:
    """Part of Query."""

    @strawberry.field(graphql_type=Connection[Incident], description="Incidents, newest first. Needs the scope `incidents:read`.")
    async def incidents(
        self,
        info: Info,
        states: Annotated[list[IncidentState] | None, strawberry.argument(description="Only these states; all when left out.")] = None,
        range: Annotated[TimeRange | None, strawberry.argument(description="When they started; any time when left out.")] = None,
        first: First = PAGE_SIZE,
        after: After = None,
    ) -> Page:
        """Returns a page of incidents."""
        start, end = resolve_range(range.start, range.end, range.last) if range else (0, 0)

        async def fetch(size: int, token: str) -> tuple[Sequence[pb.Incident], str]:
            request = pb.ListIncidentsRequest(page_size=size, page_token=token, states=[state.value for state in states or ()], start=start, end=end)
            response = await info.context.services.correlate.ListIncidents(request)
            return response.incidents, response.next_page_token

        return await read_page(fetch, first, after)

    @strawberry.field(graphql_type=Incident | None, description="One incident. Needs the scope `incidents:read`.")
    async def incident(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The incident's UUID, or its number.")],
    ) -> pb.Incident:
        """Returns an incident with everything that belongs to it."""
        incident = await info.context.incidents.load(id)
        info.context.incidents.prime(incident.id, incident)
        return incident

    @strawberry.field(graphql_type=Connection[Template], description="Templates by first sight. Needs the scope `templates:read`.")
    async def templates(self, info: Info, first: First = PAGE_SIZE, after: After = None) -> Page:
        """Returns a page of templates."""

        async def fetch(size: int, token: str) -> tuple[Sequence[pb.Template], str]:
            response = await info.context.services.correlate.ListTemplates(pb.ListTemplatesRequest(page_size=size, page_token=token))
            return response.templates, response.next_page_token

        return await read_page(fetch, first, after)

    @strawberry.field(
        graphql_type=Statistics, description="Counts over time, of the last hour unless the range says otherwise. Needs the scope `statistics:read`."
    )
    async def statistics(
        self,
        info: Info,
        range: Annotated[TimeRange | None, strawberry.argument(description="The range; the last hour when left out.")] = None,
        group_by: Annotated[StatisticsField | None, strawberry.argument(description="Field whose values make the groups.")] = None,
        step: Annotated[
            Duration | None, strawberry.argument(description="Step of the points, in whole minutes; chosen for at most 60 points when left out.")
        ] = None,
    ) -> pb.GetStatisticsResponse:
        """Returns the counts."""
        if step is not None and step % MINUTE:
            raise InvalidArgument("the step must be whole minutes, such as 5m")
        given = range or TimeRange()
        end = given.end or time_ns()
        start, _ = resolve_range(given.start, end, given.last, default_last=HOUR)
        request = pb.GetStatisticsRequest(start=start, end=end, group_by=group_by.value if group_by else "", step_minutes=(step or 0) // MINUTE)
        return await info.context.services.correlate.GetStatistics(request)


Comment = Annotated[str | None, strawberry.argument(description="What to note in the timeline.")]
IncidentId = Annotated[strawberry.ID, strawberry.argument(description="The incident's UUID, or its number.")]


@strawberry.type
class CorrelateMutation:
    """Part of Mutation."""

    @strawberry.mutation(graphql_type=Incident, description="Takes an incident on. Needs the scope `incidents:write`.")
    async def acknowledge_incident(self, info: Info, id: IncidentId, comment: Comment = None) -> pb.Incident:
        """Makes an incident acknowledged."""
        return await _change_state(info, id, IncidentState.ACKNOWLEDGED, comment)

    @strawberry.mutation(graphql_type=Incident, description="Ends an incident. Needs the scope `incidents:write`.")
    async def resolve_incident(self, info: Info, id: IncidentId, comment: Comment = None) -> pb.Incident:
        """Makes an incident resolved."""
        return await _change_state(info, id, IncidentState.RESOLVED, comment)

    @strawberry.mutation(graphql_type=Incident, description="Opens a resolved incident again. Needs the scope `incidents:write`.")
    async def reopen_incident(self, info: Info, id: IncidentId, comment: Comment = None) -> pb.Incident:
        """Makes an incident open."""
        return await _change_state(info, id, IncidentState.OPEN, comment)


async def _change_state(info: Info, incident_id: str, state: IncidentState, comment: str | None) -> pb.Incident:
    request = pb.ChangeIncidentStateRequest(id=incident_id, state=state.value, comment=comment or "")
    incident = (await info.context.services.correlate.ChangeIncidentState(request)).incident
    # What an earlier mutation of the request loaded of it is old now.
    info.context.incidents.clear_all()
    return incident
