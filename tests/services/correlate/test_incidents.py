"""From counts to an incident through the whole service: opened once, explained, changed by people, never absorbing after that."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from elis.correlate.v1 import correlate_pb2 as pb
from kit.errors import Conflict, InvalidArgument, NotFound, PermissionDenied
from tests.services.correlate.peer import MINUTE, START
from tests.services.correlate.stage import Stage, eventually
from tests.services.correlate.timelines import Timeline

if TYPE_CHECKING:
    from tests.services.correlate.stage import CorrelateStub

ONSET = 26 * 60 + 12.0


async def incidents_of(correlate: CorrelateStub, **more: object) -> list[pb.Incident]:
    response: pb.ListIncidentsResponse = await correlate.ListIncidents(pb.ListIncidentsRequest(**more))  # type: ignore[arg-type]
    return list(response.incidents)


async def judged(stage: Stage, minute: int) -> bool:
    [(newest,)] = await stage.fetch("SELECT judged_minute FROM correlate.watermark")
    return newest is not None and newest >= START // MINUTE + minute


async def play(stage: Stage, timeline: Timeline, pause: float = 0.0) -> None:
    for block in timeline.blocks():
        stage.log.add(block)
        await asyncio.sleep(pause)


async def test_a_fault_becomes_one_explained_incident(stage: Stage) -> None:
    timeline = Timeline(1, minutes=34)
    timeline.break_database(ONSET)
    await play(stage, timeline)
    async with stage.correlate() as correlate:
        await eventually(lambda: judged(stage, 33), 30)
        [listed] = await incidents_of(correlate)
        response: pb.GetIncidentResponse = await correlate.GetIncident(pb.GetIncidentRequest(id=listed.id))
        incident = response.incident
        assert incident.causes[0].service == "ledger-db"
        assert incident.causes[0].system == "infrastructure"
        assert abs(incident.causes[0].started_at.ToNanoseconds() - START - ONSET * 1e9) < 20e9
        assert sum(cause.score for cause in incident.causes) <= 1.0001
        assert [cause.rank for cause in incident.causes] == list(range(1, len(incident.causes) + 1))
        assert all("pool exhausted" in event.body for event in incident.causes[0].evidence)
        assert {"infrastructure", "sap", "application"} == set(incident.systems)
        assert "3 systems affected" in incident.title
        assert {entry.kind for entry in incident.timeline} >= {"finding", "opened"}
        assert {"trace", "key"} <= {link.rule for link in incident.links}
        assert incident.finding_count == len(incident.findings) > 3
        ids = {event.event_id for event in incident.evidence}
        assert {event for finding in incident.findings for event in finding.evidence_ids} == ids
        findings: pb.ListFindingsResponse = await correlate.ListFindings(pb.ListFindingsRequest(page_size=100))
        assert {finding.id for finding in incident.findings} <= {finding.id for finding in findings.findings}


async def test_normal_operation_opens_nothing(stage: Stage) -> None:
    timeline = Timeline(2, minutes=34)
    for minute in (14, 20, 27):
        timeline.say(minute * 60 + 3, "mailer", "application", f"delivery {minute} failed: greylisted", 17, host="app9")
    timeline.say(25 * 60, "portal", "application", "version 3.1 deployed", 9, host="web4")
    timeline.at_random(24 * 60, 32 * 60, 200, lambda second: timeline.say(second, "agent", "infrastructure", "metric name too long", 13, host="mon1"))
    await play(stage, timeline)
    async with stage.correlate() as correlate:
        await eventually(lambda: judged(stage, 33), 30)
        assert await incidents_of(correlate) == []


async def test_a_restart_and_a_second_replica_change_nothing(stage: Stage) -> None:
    timeline = Timeline(3, minutes=36)
    timeline.break_database(ONSET)
    blocks = list(timeline.blocks())
    for block in blocks[: 29 * 6]:
        stage.log.add(block)
    async with stage.correlate() as correlate:
        await eventually(lambda: judged(stage, 28), 30)
        [before] = await incidents_of(correlate)
    async with stage.correlate() as one, stage.correlate():
        for block in blocks[29 * 6 :]:
            stage.log.add(block)
        await eventually(lambda: judged(stage, 35), 30)
        [after] = await incidents_of(one)
        assert after.id == before.id
        assert after.number == before.number
        assert after.causes[0].service == "ledger-db"
        [(tokens,)] = await stage.fetch("SELECT token FROM correlate.lease")
        assert tokens >= 2


async def test_people_move_an_incident_through_its_states(stage: Stage) -> None:
    timeline = Timeline(4, minutes=33)
    timeline.break_database(ONSET)
    await play(stage, timeline)
    async with stage.correlate() as correlate:
        await eventually(lambda: judged(stage, 32), 30)
        [incident] = await incidents_of(correlate)

        async def change(state: pb.IncidentState.ValueType, comment: str = "") -> pb.Incident:
            request = pb.ChangeIncidentStateRequest(id=incident.id, state=state, comment=comment)
            response: pb.ChangeIncidentStateResponse = await correlate.ChangeIncidentState(request)
            return response.incident

        assert (await change(pb.INCIDENT_STATE_ACKNOWLEDGED, "on it")).state == pb.INCIDENT_STATE_ACKNOWLEDGED
        with pytest.raises(Conflict):
            await change(pb.INCIDENT_STATE_OPEN)
        resolved = await change(pb.INCIDENT_STATE_RESOLVED)
        assert resolved.HasField("resolved_at")
        with pytest.raises(Conflict):
            await change(pb.INCIDENT_STATE_ACKNOWLEDGED)
        with pytest.raises(InvalidArgument):
            await change(pb.INCIDENT_STATE_UNSPECIFIED)
        reopened = await change(pb.INCIDENT_STATE_OPEN, "still there")
        assert not reopened.HasField("resolved_at")
        entries = [(entry.kind, entry.text, entry.actor) for entry in reopened.timeline if entry.actor]
        assert entries == [("acknowledged", "on it", "ada"), ("resolved", "incident resolved", "ada"), ("reopened", "still there", "ada")]
        assert await incidents_of(correlate, states=[pb.INCIDENT_STATE_RESOLVED]) == []
        assert len(await incidents_of(correlate, states=[pb.INCIDENT_STATE_OPEN])) == 1
        assert await incidents_of(correlate, start=1, end=2) == []
        with pytest.raises(NotFound):
            await correlate.GetIncident(pb.GetIncidentRequest(id=str(uuid4())))
        with pytest.raises(InvalidArgument):
            await correlate.GetIncident(pb.GetIncidentRequest(id="no number"))


async def test_a_resolved_incident_absorbs_nothing(stage: Stage) -> None:
    timeline = Timeline(5, minutes=45)
    timeline.break_database(ONSET)
    blocks = list(timeline.blocks())
    for block in blocks[: 32 * 6]:
        stage.log.add(block)
    async with stage.correlate() as correlate:
        await eventually(lambda: judged(stage, 31), 30)
        [first] = await incidents_of(correlate)
        await correlate.ChangeIncidentState(pb.ChangeIncidentStateRequest(id=first.id, state=pb.INCIDENT_STATE_RESOLVED))
        for block in blocks[32 * 6 :]:
            stage.log.add(block)
        await eventually(lambda: judged(stage, 44), 30)
        response: pb.GetIncidentResponse = await correlate.GetIncident(pb.GetIncidentRequest(id=first.id))
        assert response.incident.finding_count == first.finding_count
        others = [incident for incident in await incidents_of(correlate) if incident.id != first.id]
        # The fault goes on, so it is an incident again: one of its own.
        assert len(others) == 1


async def test_a_viewer_may_read_and_not_change(stage: Stage) -> None:
    async with stage.correlate("incidents:read") as correlate:
        assert await incidents_of(correlate) == []
        with pytest.raises(PermissionDenied):
            await correlate.ChangeIncidentState(pb.ChangeIncidentStateRequest(id=str(uuid4()), state=pb.INCIDENT_STATE_RESOLVED))
