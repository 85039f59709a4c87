from __future__ import annotations

import asyncio
from time import time_ns

import orjson
import pytest

from elis.ingest.v1 import ingest_pb2
from elis.search.v1 import search_pb2 as pb
from gateway.events import EventFilter, name_severity, parse_event_id, read_line, resolve_range, to_filter
from gateway.search import compile_filter
from kit.errors import InvalidArgument, NotFound, Unavailable
from tests.gateway.peers import stamp
from tests.gateway.stack import Gateway

AWAY = Unavailable("search does not answer")


def line(event_id: int, **fields: object) -> bytes:
    required = {
        "event_id": event_id,
        "timestamp": 1_767_225_600_000_000_000 + event_id,
        "observed_at": 1_767_225_601_000_000_000,
        "source": "erp",
        "system": "sap",
        "severity_number": 17,
        "fingerprint": "00000000deadbeef",
        "body": f"line {event_id}",
    }
    return orjson.dumps(required | fields)


async def test_a_filter_reaches_search(gateway: Gateway) -> None:
    gateway.peers.answers["SearchEvents"] = pb.SearchEventsResponse()
    await gateway.run(
        """query($f: EventFilter!) { events(filter: $f, first: 1000, after: "here", order: OLDEST_FIRST) { edges { cursor } pageInfo { hasPreviousPage } } }""",
        {
            "f": {
                "start": "2026-01-01T00:00:00.000000001Z",
                "end": "2026-01-02T00:00:00+01:00",
                "query": "service:billing",
                "sources": ["a"],
                "systems": ["sap"],
                "services": ["b"],
                "hosts": ["c"],
                "minSeverity": "WARN",
                "fingerprints": ["d"],
                "traceId": "e",
            }
        },
    )
    [request] = gateway.peers.requests("SearchEvents")
    assert request.filter == pb.Filter(
        start=1_767_225_600_000_000_001,
        end=1_767_308_400_000_000_000,
        query="service:billing",
        sources=["a"],
        systems=["sap"],
        services=["b"],
        hosts=["c"],
        min_severity=13,
        fingerprints=["d"],
        trace_id="e",
    )
    assert (request.order, request.first, request.after) == (pb.ORDER_OLDEST_FIRST, 1000, "here")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("{events(first:0){degraded}}", "first must be 1 to 1000, not 0"),
        ("{events(first:1001){degraded}}", "first must be 1 to 1000, not 1001"),
        ('{events(filter:{start:"2026-01-02T00:00:00Z",end:"2026-01-01T00:00:00Z"}){degraded}}', "the range ends before it starts"),
        ('{events(filter:{start:"2026-01-02T00:00:00Z",last:"1h"}){degraded}}', "give start or last, not both"),
        ('{event(id:"x"){id}}', "'x' is not the number of an event"),
        ("{facets(fields:[]){total}}", "facets needs 1 to 20 fields, not 0"),
        ("{patterns(size:101){total}}", "first must be 1 to 100, not 101"),
        ('{events(filter:{last:"soon"}){degraded}}', "Duration must be numbers"),
        ('{events(filter:{start:"yesterday"}){degraded}}', "DateTime must be RFC 3339"),
    ],
)
async def test_arguments_are_checked(gateway: Gateway, query: str, message: str) -> None:
    error = await gateway.fail(query)
    assert message in error["message"]
    assert error["extensions"]["code"] == "INVALID_ARGUMENT"
    assert gateway.peers.callers == []


async def test_without_search_the_newest_events_come_from_the_store(gateway: Gateway) -> None:
    gateway.peers.answers["SearchEvents"] = AWAY
    lines = [line(3, host="app-1", attributes={"order": 4711}), line(2, severity_number=9), line(1, source="other")]
    gateway.peers.answers["RecentEvents"] = ingest_pb2.RecentEventsResponse(lines=lines)
    page = await gateway.run(
        '{events(filter:{minSeverity:ERROR,sources:["erp"]}){'
        "degraded asOf totalCount edges{cursor node{id host body attributes severity}} pageInfo{hasNextPage endCursor}}}"
    )
    events = page["events"]
    assert events.pop("asOf")
    assert events == {
        "degraded": True,
        "totalCount": None,
        "edges": [{"cursor": "", "node": {"id": "3", "host": "app-1", "body": "line 3", "attributes": {"order": 4711}, "severity": "ERROR"}}],
        "pageInfo": {"hasNextPage": False, "endCursor": None},
    }
    [request] = gateway.peers.requests("RecentEvents")
    assert (request.limit, request.source, request.min_severity) == (200, "erp", 17)


async def test_a_search_that_hangs_is_not_waited_for_to_the_end(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(_: object) -> pb.SearchEventsResponse:
        await asyncio.sleep(30)
        return pb.SearchEventsResponse()

    monkeypatch.setattr("gateway.search.SEARCH_SECONDS", 0.2)
    gateway.peers.answers["SearchEvents"] = hang
    gateway.peers.answers["RecentEvents"] = ingest_pb2.RecentEventsResponse(lines=[line(1)])
    page = await gateway.run("{events{degraded edges{node{id}}}}")
    assert page["events"] == {"degraded": True, "edges": [{"node": {"id": "1"}}]}


@pytest.mark.parametrize("arguments", ['filter:{query:"timeout"}', 'after:"here"', "order:OLDEST_FIRST"])
async def test_what_needs_search_says_that_it_is_away(gateway: Gateway, arguments: str) -> None:
    gateway.peers.answers["SearchEvents"] = AWAY
    error = await gateway.fail(f"{{events({arguments}){{degraded}}}}")
    assert error["extensions"]["code"] == "UNAVAILABLE"
    assert gateway.peers.requests("RecentEvents") == []


async def test_an_event_comes_from_the_store_or_else_from_search(gateway: Gateway) -> None:
    answers = gateway.peers.answers
    query = '{event(id:"7"){id eventId timestamp observedAt source system environment severityNumber severity}}'
    answers["GetEvents"] = ingest_pb2.GetEventsResponse(lines=[line(7, environment="production")])
    assert (await gateway.run(query))["event"] == {
        "id": "7",
        "eventId": "7",
        "timestamp": "2026-01-01T00:00:00.000000007Z",
        "observedAt": "2026-01-01T00:00:01.000000000Z",
        "source": "erp",
        "system": "sap",
        "environment": "production",
        "severityNumber": 17,
        "severity": "ERROR",
    }
    answers["GetEvents"] = ingest_pb2.GetEventsResponse()
    assert (await gateway.run(query))["event"] is None
    answers["GetEvents"] = Unavailable("ingest is away")
    answers["GetEvent"] = pb.GetEventResponse(event=read_line(line(7)))
    assert (await gateway.run(query))["event"]["id"] == "7"
    answers["GetEvent"] = NotFound("event 7 does not exist")
    assert (await gateway.run(query))["event"] is None


async def test_node_finds_events_and_incidents(gateway: Gateway) -> None:
    gateway.peers.answers["GetEvents"] = ingest_pb2.GetEventsResponse(lines=[line(7)])
    gateway.peers.answers["GetIncident"] = NotFound("incident does not exist")
    query = "query($id:ID!){node(id:$id){__typename id ... on LogEvent{body}}}"
    assert (await gateway.run(query, {"id": "7"}))["node"] == {"__typename": "LogEvent", "id": "7", "body": "line 7"}
    assert (await gateway.run(query, {"id": "0195f5a0-0000-7000-8000-000000000000"}))["node"] is None
    assert (await gateway.run(query, {"id": "nonsense"}))["node"] is None


async def test_histogram(gateway: Gateway) -> None:
    bucket = pb.HistogramBucket(start=stamp(60_000_000_000), count=2**40, split=[pb.FacetValue(value="sap", count=3)])
    gateway.peers.answers["Histogram"] = pb.HistogramResponse(buckets=[bucket], interval=90_000_000_000, total=5, freshness=pb.Freshness(as_of=stamp(1)))
    answer = await gateway.run(
        '{histogram(filter:{last:"2h"},interval:"1m",splitBy:SEVERITY_TEXT){interval total asOf lagSeconds buckets{start count split{value count}}}}'
    )
    assert answer["histogram"] == {
        "interval": "1m30s",
        "total": 5,
        "asOf": "1970-01-01T00:00:00.000000001Z",
        "lagSeconds": 0.0,
        "buckets": [{"start": "1970-01-01T00:01:00.000000000Z", "count": 2**40, "split": [{"value": "sap", "count": 3}]}],
    }
    [request] = gateway.peers.requests("Histogram")
    assert (request.interval, request.split_by) == (60_000_000_000, "severity_text")
    assert abs(time_ns() - 7_200_000_000_000 - request.filter.start) < 60_000_000_000


async def test_facets_and_patterns(gateway: Gateway) -> None:
    gateway.peers.answers["Facets"] = lambda request: pb.FacetsResponse(
        facets=[pb.Facet(field=field, values=[pb.FacetValue(value="x", count=1)], other=2) for field in request.fields], total=3
    )
    gateway.peers.answers["Patterns"] = pb.PatternsResponse(
        patterns=[
            pb.Pattern(template="order <*> failed", count=2, share=0.5, sparkline=[0, 2], sample_event_id=2**62),
            pb.Pattern(template="x", template_id="t"),
        ],
        total=4,
    )
    answer = await gateway.run(
        '{facets(fields:["severityText","attributes.order"],size:3){total facets{field other values{value}}} '
        "patterns(size:5,points:2){total patterns{templateId template share sparkline sampleEventId}}}"
    )
    assert [facet["field"] for facet in answer["facets"]["facets"]] == ["severityText", "attributes.order"]
    assert answer["patterns"]["patterns"] == [
        {"templateId": None, "template": "order <*> failed", "share": 0.5, "sparkline": [0, 2], "sampleEventId": str(2**62)},
        {"templateId": "t", "template": "x", "share": 0.0, "sparkline": [], "sampleEventId": None},
    ]
    [facets] = gateway.peers.requests("Facets")
    assert list(facets.fields) == ["severity_text", "attributes.order"]
    [patterns] = gateway.peers.requests("Patterns")
    assert (patterns.size, patterns.points) == (5, 2)


def test_aggregations_look_at_the_last_day_unless_told_otherwise() -> None:
    assert abs(to_filter(None, default_last=100).start - time_ns()) < 60_000_000_000
    assert to_filter(None).start == to_filter(None).end == 0
    assert resolve_range(5, None, None, default_last=100) == (5, 0)
    assert resolve_range(None, 1_000, 300) == (700, 1_000)
    assert resolve_range(None, 10, 300) == (0, 10)
    with pytest.raises(InvalidArgument):
        resolve_range(5, 5, None)


@pytest.mark.parametrize(
    ("number", "name"), [(0, None), (1, "TRACE"), (4, "TRACE"), (5, "DEBUG"), (12, "INFO"), (13, "WARN"), (17, "ERROR"), (24, "FATAL"), (25, None)]
)
def test_severity_numbers_have_names(number: int, name: str | None) -> None:
    step = name_severity(number)
    assert (step.name if step else None) == name


def test_ids_of_events() -> None:
    assert parse_event_id("0042") == 42
    assert parse_event_id("-1") is parse_event_id("") is parse_event_id("٤") is parse_event_id("1" * 20) is parse_event_id("1.0") is None


def test_every_condition_of_a_filter_holds_without_search() -> None:
    event = read_line(line(1, service="billing", host="app-1", trace_id="ab"))
    moment = event.timestamp.ToNanoseconds()
    given = EventFilter(services=["billing"], hosts=["app-1", "x"], systems=["sap"], sources=["erp"], fingerprints=["00000000deadbeef"], trace_id="ab")
    matching = to_filter(given)
    assert compile_filter(matching)(event)
    for change in (
        {"services": ["x"]},
        {"hosts": ["x"]},
        {"systems": ["x"]},
        {"sources": ["x"]},
        {"fingerprints": ["x"]},
        {"trace_id": "x"},
        {"min_severity": 18},
        {"start": moment + 1},
        {"end": moment},
    ):
        other = pb.Filter()
        other.CopyFrom(matching)
        for name in change:
            other.ClearField(name)  # type: ignore[arg-type]
        other.MergeFrom(pb.Filter(**change))
        assert not compile_filter(other)(event), change
    assert compile_filter(pb.Filter(start=moment, end=moment + 1))(event)
