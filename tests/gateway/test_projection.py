"""Rows that are spliced and rows that go through graphql-core give the same bytes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elis.search.v1 import search_pb2 as pb
from gateway.context import Context, Services
from gateway.metrics import Metrics
from gateway.projection import EVENT_FIELDS, Splice
from gateway.schema import create_schema
from kit.auth import Principal, current_principal
from services.search.lines import decode_line, to_event
from services.search.projection import read_projection
from tests.gateway.peers import stamp

SCHEMA = create_schema()
CALLER = Principal("user:ada", "ada", "user", "viewer", frozenset({"events:read"}), "", 2**40, "")


class Search:
    """Answers with lines as the search service encodes them, and remembers which way it was asked."""

    def __init__(self, lines: list[bytes]) -> None:
        self.lines = lines
        self.projected: list[bool] = []

    async def SearchEvents(self, request: pb.SearchEventsRequest, timeout: float | None = None) -> pb.SearchEventsResponse:
        self.projected.append(bool(request.projection))
        response = pb.SearchEventsResponse(
            cursors=[f'c{number}"é\\' for number in range(len(self.lines))],
            has_next_page=True,
            total=7 if request.with_total else None,
            freshness=pb.Freshness(as_of=stamp(5), lag_seconds=0.25),
        )
        if request.projection:
            response.rows.extend(read_projection(request.projection)(self.lines))
        else:
            response.events.extend(to_event(decode_line(line)) for line in self.lines)
        return response


def answer(query: str, lines: list[bytes], variables: dict[str, Any] | None = None) -> tuple[bytes, list[bool]]:
    """Returns the answer's bytes and which calls were projected."""
    search = Search(lines)
    context = Context(
        services=cast(Services, SimpleNamespace(search=search)),
        callers=cast(Any, None),
        rates=cast(Any, None),
        metrics=Metrics(),
        address="",
        caller=CALLER,
    )

    async def execute() -> bytes:
        current_principal.set(CALLER)
        result = await SCHEMA.execute(query, variables, context)
        assert not result.errors, result.errors
        return orjson.dumps(result.data)

    return asyncio.run(execute()), search.projected


def line(event_id: int, **fields: Any) -> bytes:
    """Returns a canonical line."""
    required = {
        "event_id": event_id,
        "timestamp": 1_767_225_600_123_456_789,
        "observed_at": 1_767_225_601_000_000_000,
        "source": "web",
        "system": "application",
        "severity_number": 17,
        "fingerprint": "00000000deadbeef",
        "body": 'a "quoted" line\nwith ünïcode \u2028 \x00',
    }
    return orjson.dumps(required | fields)


LINES = [
    line(2**62 + 1, environment="production", host="web-1", service="shop", severity_text="ERR", attributes={"a": [1, 2.0, None, {"é": "x"}]}, trace_id="ab"),
    line(1, severity_number=0),
    line(2, severity_number=24, attributes={"severity": 17}, span_id="cd"),
    line(3, attributes={})[:-1].replace(b'"attributes":{}', b'"attributes":{"big":123456789012345678901234567890,"f":1.0,"e":1e400}') + b"}",
]

UNDERSTOOD = [
    "{events{edges{node{id}}}}",
    "{events{edges{cursor node{id eventId timestamp observedAt}} pageInfo{endCursor hasNextPage startCursor} totalCount asOf lagSeconds degraded}}",
    "{events{edges{node{" + " ".join(EVENT_FIELDS) + "} cursor}}}",
    "{a:events{b:edges{c:cursor d:node{e:id f:body g:body h:severity}} i:totalCount}}",
    "{events{edges{node{id}} edges{cursor node{body}}}}",
    "{events{edges{node{id id ...F}}}} fragment F on LogEvent{id host ...G} fragment G on LogEvent{service ...H} fragment H on LogEvent{host}",
    "{events{...C}} fragment C on EventConnection{edges{...E}} fragment E on LogEventEdge{node{... on LogEvent{id} ... {body}} cursor}",
    "{events{__typename edges{__typename cursor node{__typename id}}}}",
    "{events{edges{cursor __typename node{id body __typename}} __typename}}",
    "{events{edges{cursor a:cursor node{t:__typename id u:__typename}}}}",
    "query($n:Int!,$f:EventFilter){events(first:$n,filter:$f){edges{node{id attributes}}}}",
    "{one:events{edges{node{id}}} two:events(first:3){edges{node{body}}}}",
    "{events{edges{node{severity severityNumber severityText attributes}}}}",
]
NOT_UNDERSTOOD = [
    "{events{totalCount}}",
    "{events{edges{cursor}}}",
    "{events{edges{node{__typename}}}}",
    "{events{edges{node{id __typename body}}}}",
    "{events{edges{node{id @include(if:true)}}}}",
    "{events{edges{node{id ...F @skip(if:false)}}}} fragment F on LogEvent{body}",
    "{events{edges{node{id} other:node{body}}}}",
    "{events{edges{node{id}} more:edges{cursor}}}",
    "{events{edges{node{... on Node{id}}}}}",
    "query($yes:Boolean=true){events{edges @include(if:$yes){node{id}}}}",
]


@pytest.mark.parametrize("query", UNDERSTOOD)
def test_an_understood_selection_is_spliced(query: str) -> None:
    variables = {"n": 4, "f": {"last": "1h"}}
    spliced, projected = answer(query, LINES, variables)
    assert all(projected)
    with patch("gateway.search.plan_projection", lambda _: None):
        typed, projected = answer(query, LINES, variables)
    assert not any(projected)
    assert spliced == typed


@pytest.mark.parametrize("query", NOT_UNDERSTOOD)
def test_anything_else_goes_field_by_field(query: str) -> None:
    _, projected = answer(query, LINES)
    assert not any(projected)


def test_an_empty_page() -> None:
    spliced, projected = answer("{events{edges{node{id}}}}", [])
    assert projected == [True]
    assert spliced == b'{"events":{"edges":[]}}'


def test_the_total_is_counted_only_when_it_is_asked_for() -> None:
    assert orjson.loads(answer("{events{edges{node{id}} totalCount}}", LINES)[0])["events"]["totalCount"] == 7
    seen: list[bool] = []
    original = Search.SearchEvents

    async def remember(self: Search, request: pb.SearchEventsRequest, timeout: float | None = None) -> pb.SearchEventsResponse:
        seen.append(request.with_total)
        return await original(self, request, timeout)

    with patch.object(Search, "SearchEvents", remember):
        answer("{events{edges{node{id}}}}", LINES)
        answer("{events{...F}} fragment F on EventConnection{n:totalCount}", LINES)
    assert seen == [False, True]


def test_a_service_that_projects_nothing_is_understood() -> None:
    async def typed(self: Search, request: pb.SearchEventsRequest, timeout: float | None = None) -> pb.SearchEventsResponse:
        return pb.SearchEventsResponse(events=[to_event(decode_line(line)) for line in self.lines], cursors=[str(number) for number in range(len(self.lines))])

    with patch.object(Search, "SearchEvents", typed):
        content, _ = answer("{events{edges{node{id}}}}", LINES)
    assert [edge["node"]["id"] for edge in orjson.loads(content)["events"]["edges"]] == [str(2**62 + 1), "1", "2", "3"]


def test_a_splice_is_json() -> None:
    assert orjson.dumps(Splice(orjson.Fragment(b"[1]")).json) == b"[1]"


texts = st.text(st.characters(codec="utf-8"), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
lines = st.builds(
    lambda event_id, severity, optional: line(event_id, severity_number=severity, **optional),
    st.integers(0, 2**63 - 1),
    st.integers(0, 24),
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("body", "environment", "host", "service", "severity_text", "trace_id", "span_id"), texts)
        | {"attributes": st.dictionaries(texts, json_values, max_size=3), "timestamp": st.integers(0, 2**63 - 1)},
    ),
)


def selection(fields: st.SearchStrategy[str], type_name: str) -> st.SearchStrategy[str]:
    """Selections of some fields, some of them in fragments or under directives."""
    plain = st.lists(fields, min_size=1, max_size=5).map(" ".join)
    wrapped = st.tuples(st.sampled_from(["%s", "%s", f"... on {type_name}{{%s}}", "...{%s}", "... @include(if:true){%s}", "...@skip(if:true){%s}"]), plain)
    return st.lists(wrapped.map(lambda pair: pair[0] % pair[1]), min_size=1, max_size=3).map(" ".join)


node_fields = st.sampled_from([*EVENT_FIELDS, "__typename", "x:id", "y:body", "z:severity"])
edge_fields = st.just("cursor") | st.just("__typename") | st.just("k:cursor") | selection(node_fields, "LogEvent").map(lambda inner: f"node{{{inner}}}")
page_fields = st.sampled_from(["totalCount", "asOf", "degraded", "pageInfo{endCursor hasNextPage}", "__typename"])
connection_fields = page_fields | selection(edge_fields, "LogEventEdge").map(lambda inner: f"edges{{{inner}}}")


@settings(max_examples=60, deadline=None)
@given(selection(connection_fields, "EventConnection"), st.lists(lines, max_size=3))
def test_both_ways_give_the_same_bytes(chosen: str, page: list[bytes]) -> None:
    query = f"{{events{{{chosen}}}}}"
    with patch("gateway.limits.MAX_ALIASES", 1_000), patch("gateway.limits.MAX_DIRECTIVES", 1_000):
        usual, _ = answer(query, page)
        with patch("gateway.search.plan_projection", lambda _: None):
            typed, projected = answer(query, page)
    assert not any(projected)
    assert usual == typed
