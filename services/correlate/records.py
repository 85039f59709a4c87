"""Records: the analysis in PostgreSQL. One transaction stores a round; after a change of hands all is read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.correlate import models
from services.correlate.analysis import Analyst, Round
from services.correlate.cases import AFTER, Case
from services.correlate.dimensions import clean, to_hex, to_signed
from services.correlate.evidence import copy_evidence, decode_line
from services.correlate.findings import MINUTE_NS, Finding
from services.correlate.incidents import ACKNOWLEDGED, OPEN, RESOLVED
from services.correlate.keys import phrases
from services.correlate.links import Link
from services.correlate.topology import Node, Topology

_KEYS_KEPT = 100


class Overtaken(Exception):
    """Somebody resolved an incident while it was being extended: what was concluded must be thought over."""


async def save_round(session: AsyncSession, result: Round, topology: Topology) -> None:
    """Stores what came of a round; raises Overtaken when an incident in it is resolved meanwhile. Commit is the caller's."""
    known = {case.id for case in result.cases if not case.is_new}
    states = await session.execute(select(models.Incident.id, models.Incident.state).where(models.Incident.id.in_(known)).with_for_update())
    if any(state == RESOLVED for _, state in states):
        raise Overtaken
    for case in result.cases:
        await _save_incident(session, case, result.minute)
    await _upsert(session, models.Finding, [_finding_row(finding) for finding in _all_findings(result)], ["id"])
    await copy_evidence(session, result.lines.values())
    rows = [_link_row(link) for link in result.links]
    await _upsert(session, models.Link, rows, ["from_finding_id", "to_finding_id", "rule"])
    for case in result.cases:
        await _save_causes(session, case)
        await _save_timeline(session, case, result.minute)
    await _save_edges(session, topology)
    await mark_judged(session, result.minute)


async def mark_judged(session: AsyncSession, minute: int) -> None:
    """Notes that everything up to a minute is judged."""
    await session.execute(update(models.Watermark).values(judged_minute=func.greatest(models.Watermark.judged_minute, minute)))


def settle_round(result: Round, topology: Topology) -> None:
    """Notes that a round is stored; call it after the commit."""
    topology.changed.clear()
    for case in result.cases:
        case.is_new = False
        case.joined.clear()
        case.merged.clear()


async def read_states(session: AsyncSession) -> dict[UUID, int]:
    """Returns the state of every incident that is not resolved."""
    rows = await session.execute(
        select(models.Incident.id, models.Incident.state).where(models.Incident.state != RESOLVED, models.Incident.merged_into.is_(None))
    )
    return {incident_id: state for incident_id, state in rows}  # noqa: C416  rows are no pairs to dict()


async def read_judged(session: AsyncSession) -> int | None:
    """Returns the newest minute that was judged."""
    return await session.scalar(select(models.Watermark.judged_minute))


async def restore(session: AsyncSession, analyst: Analyst, judged: int) -> None:
    """Fills an analyst with the open incidents, the findings of late and the topology."""
    for edge in await session.scalars(select(models.Edge)):
        key = ((edge.caller_system, edge.caller_service), (edge.callee_system, edge.callee_service), edge.origin)
        analyst.topology.weights[key] = edge.weight
    incidents = {
        row.id: row for row in await session.scalars(select(models.Incident).where(models.Incident.state != RESOLVED, models.Incident.merged_into.is_(None)))
    }
    since = datetime.fromtimestamp((judged - 2 * AFTER) * 60, UTC)
    loose = models.Finding.incident_id.is_(None) & (models.Finding.ended_at >= since)
    rows = list(await session.scalars(select(models.Finding).where(models.Finding.incident_id.in_(incidents) | loose)))
    wanted = {event for row in rows for event in row.evidence_ids}
    lines = {row.event_id: row.line for row in await session.scalars(select(models.EvidenceEvent).where(models.EvidenceEvent.event_id.in_(wanted)))}
    findings = [_to_finding(row, lines) for row in rows]
    analyst.findings.restore(findings)
    for incident in incidents.values():
        analyst.cases.cases[incident.id] = Case(incident.id, [], int(incident.ended_at.timestamp()) // 60, incident.state == ACKNOWLEDGED)
    for finding in findings:
        if finding.incident is None:
            analyst.cases.loose[finding.id] = finding
        else:
            analyst.cases.cases[finding.incident].findings.append(finding)
    ids = {finding.id for finding in findings}
    for link in await session.scalars(select(models.Link).where(models.Link.from_finding_id.in_(ids), models.Link.to_finding_id.in_(ids))):
        noted = Link(link.from_finding_id, link.to_finding_id, link.rule, link.detail, link.confidence, tuple(link.evidence_ids))
        analyst.cases.links[noted.first, noted.second, noted.rule] = noted


async def _save_incident(session: AsyncSession, case: Case, minute: int) -> None:
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "title": clean(case.title, 300),
        "severity": case.severity,
        "started_at": _time(case.started),
        "ended_at": _time((case.last + 1) * MINUTE_NS - 1),
        "updated_at": now,
        "systems": list(dict.fromkeys(cause.node[0] for cause in case.causes)),
        "services": list(dict.fromkeys(cause.node[1] for cause in case.causes)),
        "finding_count": len(case.findings),
    }
    if case.is_new:
        session.add(models.Incident(id=case.id, state=OPEN, opened_at=now, resolved_at=None, merged_into=None, **values))
        session.add(_entry(case, minute, "opened", f"incident opened: {case.title}"))
    else:
        await session.execute(update(models.Incident).where(models.Incident.id == case.id).values(**values))
    await session.flush()
    for other in case.merged:
        number = await session.scalar(
            update(models.Incident).where(models.Incident.id == other).values(merged_into=case.id, updated_at=now).returning(models.Incident.number)
        )
        session.add(_entry(case, minute, "linked", f"incident {number} turned out to be part of this one"))


async def _save_causes(session: AsyncSession, case: Case) -> None:
    await session.execute(delete(models.Cause).where(models.Cause.incident_id == case.id))
    session.add_all(
        models.Cause(
            incident_id=case.id,
            rank=rank,
            system=cause.node[0],
            service=cause.node[1],
            summary=clean(cause.summary, 500),
            score=cause.score,
            onset=cause.onset,
            upstream=cause.upstream,
            strength=cause.strength,
            started_at=_time(cause.started),
            evidence_ids=cause.evidence,
            finding_ids=[finding.id for finding in cause.findings],
        )
        for rank, cause in enumerate(case.causes, 1)
    )


async def _save_timeline(session: AsyncSession, case: Case, minute: int) -> None:
    for finding in sorted(case.joined, key=lambda item: item.onset):
        body = finding.bodies[0].split("\n")[0][:200] if finding.bodies and finding.template is not None else ""
        entry = _entry(case, minute, "finding", f"{body} ({finding.summary})" if body else finding.summary)
        entry.at = _time(finding.onset)
        entry.system, entry.service = finding.node
        entry.event_ids = finding.evidence[:3]
        session.add(entry)
    if case.joined and not case.is_new:
        services = ", ".join(sorted({finding.node[1] for finding in case.joined}))
        session.add(_entry(case, minute, "linked", f"{len(case.joined)} more findings joined, in {services}"))


def _entry(case: Case, minute: int, kind: str, text: str) -> models.TimelineEntry:
    return models.TimelineEntry(
        incident_id=case.id, at=_time((minute + 1) * MINUTE_NS), kind=kind, text=clean(text, 500), system="", service="", actor="", event_ids=[]
    )


async def _save_edges(session: AsyncSession, topology: Topology) -> None:
    rows = [
        {
            "caller_system": caller[0],
            "caller_service": caller[1],
            "callee_system": callee[0],
            "callee_service": callee[1],
            "origin": origin,
            "weight": topology.weights[caller, callee, origin],
            "updated_at": datetime.now(UTC),
        }
        for caller, callee, origin in sorted(topology.changed)
    ]
    await _upsert(session, models.Edge, rows, ["caller_system", "caller_service", "callee_system", "callee_service", "origin"])


async def _upsert(session: AsyncSession, table: type[models.Table], rows: Sequence[Mapping[str, Any]], key: Sequence[str]) -> None:
    if not rows:
        return
    statement = insert(table)
    changes = {name: statement.excluded[name] for name in rows[0] if name not in key}
    await session.execute(statement.on_conflict_do_update(index_elements=list(key), set_=changes), list(rows))


def _all_findings(result: Round) -> Iterable[Finding]:
    """Returns the changed findings and those that only changed their incident."""
    found = {finding.id: finding for finding in result.findings}
    found.update((finding.id, finding) for case in result.cases for finding in case.joined)
    return found.values()


def _finding_row(finding: Finding) -> dict[str, Any]:
    return {
        "id": finding.id,
        "detector": finding.detector,
        "system": finding.system,
        "source": finding.source,
        "service": finding.service,
        "template_id": "" if finding.template is None else to_hex(finding.template),
        "summary": clean(finding.summary, 500),
        "score": finding.score,
        "severity_number": finding.severity,
        "started_at": _time(finding.onset),
        "ended_at": _time((finding.last + 1) * MINUTE_NS - 1),
        "expected": finding.expected,
        "observed": finding.observed,
        "baseline": finding.baseline,
        "evidence_ids": finding.evidence,
        "memory": {
            "first": finding.first,
            "last": finding.last,
            "surprise": finding.surprise,
            "weight": finding.weight,
            "exact": finding.exact,
            "sampled": finding.sampled,
            "herald": finding.herald,
            "keys": {clean(key): event for key, event in list(finding.keys.items())[:_KEYS_KEPT]},
            "constants": sorted(clean(key) for key in finding.constants),
            "needs": [[*node, number] for node, number in finding.needs.items()],
        },
        "incident_id": finding.incident,
    }


def _to_finding(row: models.Finding, lines: Mapping[int, bytes]) -> Finding:
    state = row.memory
    events = [decode_line(lines[event]) for event in row.evidence_ids if event in lines]
    finding = Finding(
        id=row.id,
        detector=row.detector,
        system=row.system,
        source=row.source,
        service=row.service,
        template=to_signed(int(row.template_id, 16)) if row.template_id else None,
        severity=row.severity_number,
        first=state["first"],
        last=state["last"],
        onset=int(row.started_at.timestamp() * 1_000_000) * 1000,
        expected=row.expected,
        observed=row.observed,
        surprise=state["surprise"],
        weight=state["weight"],
        baseline=row.baseline,
        summary=row.summary,
        evidence=list(row.evidence_ids),
        keys=dict(state["keys"]),
        sampled=state["sampled"],
        exact=state["exact"],
        herald=state["herald"],
        incident=row.incident_id,
    )
    finding.needs = {_to_node(node): number for *node, number in state["needs"]}
    finding.key_counts.update(dict.fromkeys(state["constants"], finding.sampled))
    finding.bodies = [event.body[:500] for event in events[:3]]
    for event in events:
        finding.phrases |= phrases(event.body)
    return finding


def _to_node(parts: Sequence[str]) -> Node:
    system, service = parts
    return system, service


def _link_row(link: Link) -> dict[str, Any]:
    return {
        "from_finding_id": link.first,
        "to_finding_id": link.second,
        "rule": link.rule,
        "detail": clean(link.detail, 500),
        "confidence": link.confidence,
        "evidence_ids": list(link.evidence),
    }


def _time(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC).replace(microsecond=nanoseconds // 1000 % 1_000_000)
