"""Incidents as people see and change them: lists, one whole incident, and the state machine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from elis.correlate.v1 import correlate_pb2 as pb
from kit.errors import Conflict, InvalidArgument, NotFound
from kit.mapping import to_proto
from kit.paging import clamp_page_size, decode_token, encode_token
from services.correlate.evidence import load_evidence
from services.correlate.models import Cause, Finding, Incident, Link, TimelineEntry

OPEN = pb.INCIDENT_STATE_OPEN
ACKNOWLEDGED = pb.INCIDENT_STATE_ACKNOWLEDGED
RESOLVED = pb.INCIDENT_STATE_RESOLVED
STATE_NAMES: dict[int, str] = {OPEN: "open", ACKNOWLEDGED: "acknowledged", RESOLVED: "resolved"}
_TRANSITIONS: dict[tuple[int, int], str] = {
    (OPEN, ACKNOWLEDGED): "acknowledged",
    (OPEN, RESOLVED): "resolved",
    (ACKNOWLEDGED, RESOLVED): "resolved",
    (RESOLVED, OPEN): "reopened",
}
"""From state and to state to the kind of the timeline entry."""
MAX_COMMENT = 4000
MAX_FINDINGS = 500
"""Findings, links and timeline entries of one incident that are sent, each; the earliest come first."""
MAX_EVIDENCE = 200
_NUMBER_DIGITS = 18


async def list_incidents(session: AsyncSession, request: pb.ListIncidentsRequest) -> pb.ListIncidentsResponse:
    """Returns a page of incidents, newest first; raises InvalidArgument for a bad page, state or range."""
    size = clamp_page_size(request.page_size)
    query = select(Incident).where(Incident.merged_into.is_(None)).order_by(Incident.started_at.desc(), Incident.id.desc()).limit(size + 1)
    if request.states:
        unknown = [state for state in request.states if state not in STATE_NAMES]
        if unknown:
            raise InvalidArgument(f"{unknown[0]} is not the state of an incident", state=unknown[0])
        query = query.where(Incident.state.in_(list(request.states)))
    query = _in_range(query, Incident.started_at, request.start, request.end)
    query = _after(query, Incident.started_at, Incident.id, request.page_token)
    rows = list(await session.scalars(query))
    causes = await _load_causes(session, [row.id for row in rows[:size]])
    return pb.ListIncidentsResponse(
        incidents=[to_proto(pb.Incident, row, causes=causes[row.id]) for row in rows[:size]],
        next_page_token=_next_token(rows, size),
    )


async def get_incident(session: AsyncSession, incident_id: str) -> pb.Incident:
    """Returns an incident with everything that belongs to it; one that was merged gives the one it is part of."""
    return await describe(session, await _find(session, incident_id))


async def change_state(session: AsyncSession, request: pb.ChangeIncidentStateRequest, actor: str) -> pb.Incident:
    """Acknowledges, resolves or reopens an incident; raises Conflict when its state does not allow that."""
    if request.state not in STATE_NAMES:
        raise InvalidArgument(f"{request.state} is not a state that an incident can be given", state=request.state)
    if len(request.comment) > MAX_COMMENT:
        raise InvalidArgument(f"a comment has at most {MAX_COMMENT} characters, not {len(request.comment)}")
    incident = await _find(session, request.id, lock=True)
    kind = _TRANSITIONS.get((incident.state, request.state))
    if kind is None:
        raise Conflict(
            f"incident {incident.number} is {STATE_NAMES[incident.state]} and cannot become {STATE_NAMES[request.state]}",
            id=str(incident.id),
            state=STATE_NAMES[incident.state],
        )
    now = datetime.now(UTC)
    incident.state = request.state
    incident.updated_at = now
    incident.resolved_at = now if request.state == RESOLVED else None
    text = request.comment.replace("\x00", "�").strip()
    session.add(TimelineEntry(incident_id=incident.id, at=now, kind=kind, text=text or f"incident {kind}", system="", service="", actor=actor, event_ids=[]))
    await session.flush()
    return await describe(session, incident)


async def list_findings(session: AsyncSession, request: pb.ListFindingsRequest) -> pb.ListFindingsResponse:
    """Returns a page of findings, newest first."""
    size = clamp_page_size(request.page_size)
    query = select(Finding).order_by(Finding.started_at.desc(), Finding.id.desc()).limit(size + 1)
    query = _in_range(query, Finding.started_at, request.start, request.end)
    query = _after(query, Finding.started_at, Finding.id, request.page_token)
    rows = list(await session.scalars(query))
    return pb.ListFindingsResponse(findings=[to_proto(pb.Finding, row) for row in rows[:size]], next_page_token=_next_token(rows, size))


async def describe(session: AsyncSession, incident: Incident) -> pb.Incident:
    """Returns the message of an incident with causes, findings, links, timeline and evidence."""
    findings = list(
        await session.scalars(select(Finding).where(Finding.incident_id == incident.id).order_by(Finding.started_at, Finding.id).limit(MAX_FINDINGS))
    )
    ids = [finding.id for finding in findings]
    links = await session.scalars(
        select(Link)
        .where(Link.from_finding_id.in_(ids), Link.to_finding_id.in_(ids))
        .order_by(Link.confidence.desc(), Link.from_finding_id, Link.to_finding_id, Link.rule)
        .limit(MAX_FINDINGS)
    )
    timeline = await session.scalars(
        select(TimelineEntry).where(TimelineEntry.incident_id == incident.id).order_by(TimelineEntry.at, TimelineEntry.id).limit(MAX_FINDINGS)
    )
    evidence = await load_evidence(session, {event for finding in findings for event in finding.evidence_ids})
    causes = await _load_causes(session, [incident.id])
    return to_proto(
        pb.Incident,
        incident,
        causes=causes[incident.id],
        findings=[to_proto(pb.Finding, finding) for finding in findings],
        links=[to_proto(pb.Link, link) for link in links],
        timeline=[to_proto(pb.TimelineEntry, entry) for entry in timeline],
        evidence=sorted(evidence.values(), key=lambda event: (event.timestamp.ToNanoseconds(), event.event_id))[:MAX_EVIDENCE],
    )


async def _find(session: AsyncSession, incident_id: str, *, lock: bool = False) -> Incident:
    wanted = await _identify(session, incident_id)
    while True:
        incident = await session.get(Incident, wanted, with_for_update=lock)
        if incident is None:
            raise NotFound(f"incident {incident_id} does not exist", id=incident_id)
        if incident.merged_into is None:
            return incident
        wanted = incident.merged_into


async def _identify(session: AsyncSession, text: str) -> UUID:
    """Returns the id of an incident that is named by it, or by the short number that people use."""
    if text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS:
        found = await session.scalar(select(Incident.id).where(Incident.number == int(text)))
        if found is None:
            raise NotFound(f"incident {text} does not exist", id=text)
        return found
    try:
        return UUID(text)
    except ValueError:
        raise InvalidArgument(f"{text[:40]!r} is neither the id nor the number of an incident", id=text[:40]) from None


async def _load_causes(session: AsyncSession, incidents: Sequence[UUID]) -> dict[UUID, list[pb.Cause]]:
    rows = list(await session.scalars(select(Cause).where(Cause.incident_id.in_(incidents)).order_by(Cause.incident_id, Cause.rank)))
    evidence = await load_evidence(session, {event for row in rows for event in row.evidence_ids})
    causes: dict[UUID, list[pb.Cause]] = defaultdict(list)
    for row in rows:
        lines = [evidence[event] for event in row.evidence_ids if event in evidence]
        causes[row.incident_id].append(to_proto(pb.Cause, row, evidence=lines, finding_ids=[str(finding) for finding in row.finding_ids]))
    return causes


def _in_range(query: Select[Any], column: Any, start: int, end: int) -> Select[Any]:
    if start < 0 or end < 0 or (end and end <= start):
        raise InvalidArgument("a range needs a start that is not negative and an end after it", start=start, end=end)
    if start:
        query = query.where(column >= datetime.fromtimestamp(start / 1e9, UTC))
    if end:
        query = query.where(column < datetime.fromtimestamp(end / 1e9, UTC))
    return query


def _after(query: Select[Any], time: Any, row_id: Any, token: str) -> Select[Any]:
    key = decode_token(token, str, str)
    if key is None:
        return query
    try:
        at, last = datetime.fromisoformat(key[0]), UUID(key[1])
    except ValueError:
        raise InvalidArgument("the cursor is not one that ELIS gave") from None
    return query.where(tuple_(time, row_id) < tuple_(at, last))


def _next_token(rows: Sequence[Incident] | Sequence[Finding], size: int) -> str:
    return encode_token(rows[size - 1].started_at.isoformat(), str(rows[size - 1].id)) if len(rows) > size else ""
