from __future__ import annotations

import pytest

from elis.correlate.v1 import correlate_pb2 as pb
from kit.errors import Conflict, NotFound
from tests.gateway.peers import stamp
from tests.gateway.stack import Gateway

IDS = [f"0195f5a0-0000-7000-8000-{number:012}" for number in range(5)]


def incident(number: int, *, whole: bool = False) -> pb.Incident:
    evidence = pb.EvidenceEvent(event_id=2**62, timestamp=stamp(5), source="hana", system="sap", severity_number=21, body="disk full")
    cause = pb.Cause(
        rank=1, system="sap", service="hana", summary="a volume is full", score=0.75, onset=0.5, upstream=0.25, started_at=stamp(5), evidence=[evidence]
    )
    found = pb.Incident(
        id=IDS[number],
        number=number,
        title="orders fail",
        state=pb.INCIDENT_STATE_OPEN,
        severity="critical",
        systems=["sap", "splunk"],
        finding_count=2,
        causes=[cause],
    )
    if whole:
        found.findings.add(id="f1", detector="error_rate", summary="errors", score=0.9, evidence_ids=[1, 2])
        found.links.add(from_finding_id="f1", to_finding_id="f2", rule="time", confidence=0.5)
        found.timeline.add(at=stamp(6), kind="opened", text="opened", event_ids=[2**62])
        found.evidence.add().CopyFrom(evidence)
    return found


@pytest.fixture
def incidents(gateway: Gateway) -> Gateway:
    def list_incidents(request: pb.ListIncidentsRequest) -> pb.ListIncidentsResponse:
        start = int(request.page_token or 0)
        rows = [incident(number) for number in range(start, min(start + request.page_size, len(IDS)))]
        end = start + len(rows)
        return pb.ListIncidentsResponse(incidents=rows, next_page_token=str(end) if end < len(IDS) else "")

    def get_incident(request: pb.GetIncidentRequest) -> pb.GetIncidentResponse | NotFound:
        if request.id in IDS:
            return pb.GetIncidentResponse(incident=incident(IDS.index(request.id), whole=True))
        if request.id.isdigit() and int(request.id) < len(IDS):
            return pb.GetIncidentResponse(incident=incident(int(request.id), whole=True))
        return NotFound(f"incident {request.id} does not exist", id=request.id)

    gateway.peers.answers["ListIncidents"] = list_incidents
    gateway.peers.answers["GetIncident"] = get_incident
    return gateway


async def test_an_incident_with_everything_that_belongs_to_it(incidents: Gateway) -> None:
    query = """query($id: ID!) { incident(id: $id) {
        id number title state severity startedAt systems findingCount
        causes { rank service score onset startedAt evidence { eventId timestamp severity host body } }
        findings { id detector evidenceIds templateId } links { rule confidence } timeline { at kind eventIds actor } evidence { eventId }
    } }"""
    answer = (await incidents.run(query, {"id": IDS[1]}))["incident"]
    assert answer == {
        "id": IDS[1],
        "number": 1,
        "title": "orders fail",
        "state": "OPEN",
        "severity": "critical",
        "startedAt": None,
        "systems": ["sap", "splunk"],
        "findingCount": 2,
        "causes": [
            {
                "rank": 1,
                "service": "hana",
                "score": 0.75,
                "onset": 0.5,
                "startedAt": "1970-01-01T00:00:00.000000005Z",
                "evidence": [{"eventId": str(2**62), "timestamp": "1970-01-01T00:00:00.000000005Z", "severity": "FATAL", "host": None, "body": "disk full"}],
            }
        ],
        "findings": [{"id": "f1", "detector": "error_rate", "evidenceIds": ["1", "2"], "templateId": None}],
        "links": [{"rule": "time", "confidence": 0.5}],
        "timeline": [{"at": "1970-01-01T00:00:00.000000006Z", "kind": "opened", "eventIds": [str(2**62)], "actor": None}],
        "evidence": [{"eventId": str(2**62)}],
    }
    assert len(incidents.peers.requests("GetIncident")) == 1


async def test_an_incident_by_its_number(incidents: Gateway) -> None:
    answer = await incidents.run('{incident(id:"2"){id findings{id} timeline{kind}}}')
    assert answer["incident"] == {"id": IDS[2], "findings": [{"id": "f1"}], "timeline": [{"kind": "opened"}]}
    assert len(incidents.peers.requests("GetIncident")) == 1


async def test_an_incident_that_does_not_exist(incidents: Gateway) -> None:
    body = (await incidents.post('{incident(id:"99"){id} me:__typename}')).json()
    assert body["data"] == {"incident": None, "me": "Query"}
    assert body["errors"][0]["extensions"]["code"] == "NOT_FOUND"


async def test_a_list_asks_for_details_once_per_incident_and_only_when_they_are_selected(incidents: Gateway) -> None:
    await incidents.run("{incidents(first:5){edges{node{number causes{summary}}}}}")
    assert incidents.peers.requests("GetIncident") == []
    answer = await incidents.run("{incidents(first:5){edges{node{number findings{id} timeline{kind} evidence{body} links{rule}}}}}")
    assert [edge["node"]["findings"] for edge in answer["incidents"]["edges"]] == [[{"id": "f1"}]] * 5
    assert sorted(request.id for request in incidents.peers.requests("GetIncident")) == IDS


async def test_pages_of_any_size_give_every_row_once(incidents: Gateway) -> None:
    query = "query($first:Int!,$after:String){incidents(first:$first,after:$after){edges{cursor node{number}} pageInfo{hasNextPage hasPreviousPage endCursor}}}"
    for size in (1, 2, 3, 5, 100):
        numbers: list[int] = []
        after = None
        while True:
            page = (await incidents.run(query, {"first": size, "after": after}))["incidents"]
            assert page["pageInfo"]["hasPreviousPage"] is (after is not None)
            numbers += [edge["node"]["number"] for edge in page["edges"]]
            after = page["pageInfo"]["endCursor"]
            if not page["pageInfo"]["hasNextPage"]:
                break
        assert numbers == [0, 1, 2, 3, 4], size
    page = (await incidents.run(query, {"first": 4, "after": None}))["incidents"]
    middle = page["edges"][1]["cursor"]
    assert [edge["node"]["number"] for edge in (await incidents.run(query, {"first": 2, "after": middle}))["incidents"]["edges"]] == [2, 3]


@pytest.mark.parametrize("after", ["nonsense", "WzEsMl0", "WyIiLC0xXQ", "WyIiLDk5OV0"])
async def test_a_cursor_that_elis_did_not_give_is_refused(incidents: Gateway, after: str) -> None:
    error = await incidents.fail("query($after:String){incidents(after:$after){edges{cursor}}}", {"after": after})
    assert error["message"] == "the cursor is not one that ELIS gave"


async def test_incidents_are_chosen_by_state_and_time(incidents: Gateway) -> None:
    await incidents.run('{incidents(states:[OPEN,RESOLVED],range:{start:"2026-01-01T00:00:00Z"}){edges{cursor}}}')
    [request] = incidents.peers.requests("ListIncidents")
    assert (list(request.states), request.start, request.end) == ([1, 3], 1_767_225_600_000_000_000, 0)


@pytest.mark.parametrize(("mutation", "state"), [("acknowledgeIncident", 2), ("resolveIncident", 3), ("reopenIncident", 1)])
async def test_changing_the_state(incidents: Gateway, mutation: str, state: int) -> None:
    changed = incident(1)
    changed.state = state  # type: ignore[assignment]
    incidents.peers.answers["ChangeIncidentState"] = pb.ChangeIncidentStateResponse(incident=changed)
    await incidents.run(f'mutation{{{mutation}(id:"{IDS[1]}",comment:"mine"){{state timeline{{kind}}}}}}')
    [request] = incidents.peers.requests("ChangeIncidentState")
    assert (request.id, request.state, request.comment) == (IDS[1], state, "mine")
    incidents.peers.answers["ChangeIncidentState"] = Conflict("incident 1 is resolved", state="resolved")
    error = await incidents.fail(f'mutation{{{mutation}(id:"{IDS[1]}"){{state}}}}')
    assert (error["extensions"]["code"], error["extensions"]["state"]) == ("ABORTED", "resolved")


async def test_statistics(gateway: Gateway) -> None:
    group = pb.StatisticsGroup(
        events=2**40, errors=1, error_rate=0.5, events_per_second=2.0, points=[pb.StatisticsPoint(start=stamp(60_000_000_000), events=3)]
    )
    gateway.peers.answers["GetStatistics"] = pb.GetStatisticsResponse(total=group, groups=[group], as_of=stamp(7), lag_seconds=0.5)
    answer = await gateway.run(
        '{statistics(range:{start:"2026-01-01T00:00:00Z",end:"2026-01-02T00:00:00Z"},groupBy:SYSTEM,step:"5m"){'
        "total{key events errorRate points{start events errors}} groups{eventsPerSecond} asOf lagSeconds}}"
    )
    assert answer["statistics"] == {
        "total": {"key": None, "events": 2**40, "errorRate": 0.5, "points": [{"start": "1970-01-01T00:01:00.000000000Z", "events": 3, "errors": 0}]},
        "groups": [{"eventsPerSecond": 2.0}],
        "asOf": "1970-01-01T00:00:00.000000007Z",
        "lagSeconds": 0.5,
    }
    await gateway.run("{statistics{lagSeconds}}")
    first, second = gateway.peers.requests("GetStatistics")
    assert (first.start, first.end, first.group_by, first.step_minutes) == (1_767_225_600_000_000_000, 1_767_312_000_000_000_000, "system", 5)
    assert second.end - second.start == 3_600_000_000_000
    assert (await gateway.fail('{statistics(step:"90s"){lagSeconds}}'))["message"] == "the step must be whole minutes, such as 5m"


async def test_templates(gateway: Gateway) -> None:
    gateway.peers.answers["ListTemplates"] = pb.ListTemplatesResponse(templates=[pb.Template(id="t1", text="order <*>", fingerprints=["a"], events=5)])
    answer = await gateway.run("{templates{edges{node{id text fingerprints events firstSeenAt}}}}")
    assert answer["templates"]["edges"] == [{"node": {"id": "t1", "text": "order <*>", "fingerprints": ["a"], "events": 5, "firstSeenAt": None}}]
