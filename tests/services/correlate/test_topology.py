"""Who needs whom is learned from traces and from names in messages, or declared."""

from __future__ import annotations

from typing import Any

from services.correlate.evidence import Event
from services.correlate.topology import Names, Topology, duration_ns, infer_calls

WEB, SHOP, DB = ("splunk", "web"), ("application", "shop"), ("sap", "database")
NAMES = Names.collect([(WEB, "web-log", "w1-frontend"), (SHOP, "shop-log", "app-17.example.com"), (DB, "trace", "dbhost7")])


def event(node: tuple[str, str], body: str = "", at: int = 0, **more: Any) -> Event:
    return Event(event_id=at, timestamp=at, source=f"{node[1]}-log", system=node[0], service=node[1], body=body, **more)


def test_a_parent_span_is_a_call() -> None:
    spans = [event(WEB, at=5, span_id="a"), event(SHOP, at=1, span_id="b", attributes={"parent_span_id": "a"})]
    assert infer_calls(spans) == {(WEB, SHOP)}


def test_whose_time_holds_another_s_has_called_it() -> None:
    spans = [event(WEB, at=100), event(SHOP, at=200), event(DB, at=250), event(SHOP, at=300), event(WEB, at=400)]
    assert infer_calls(spans) == {(WEB, SHOP), (WEB, DB), (SHOP, DB)}


def test_an_access_line_at_the_end_holds_what_its_duration_covers() -> None:
    spans = [event(SHOP, at=2_000_000_000), event(WEB, at=2_100_000_000, attributes={"request_time": "0.500"})]
    assert infer_calls(spans) == {(WEB, SHOP)}


def test_durations_are_read_with_their_unit() -> None:
    assert duration_ns({"duration_ms": 15}) == 15_000_000
    assert duration_ns({"request_time": "0.25"}) == 250_000_000
    assert duration_ns({"latency": 7, "duration_ms": True, "elapsed_s": "soon"}) == 0


def test_a_host_in_a_message_is_a_need_and_one_that_called_is_not() -> None:
    assert NAMES.named_in(event(SHOP, "lost connection to dbhost7:30015")) == {DB}
    assert NAMES.named_in(event(SHOP, "read from dbhost7 failed")) == {DB}
    assert NAMES.named_in(event(DB, "new connection from app-17 accepted")) == set()
    assert NAMES.named_in(event(SHOP, "shop started on app-17", host="app-17.example.com")) == set()
    assert NAMES.named_in(event(WEB, "checkout failed", attributes={"peer.service": "shop"})) == {SHOP}


def test_learned_dependencies_grow_sure_and_contradictions_cancel() -> None:
    topology = Topology(declared=[("Web", "database")])
    assert topology.need(WEB, SHOP) == (0.0, "")
    for number in range(6):
        spans = [event(WEB, at=1, trace_id=f"{number}"), event(SHOP, at=2, trace_id=f"{number}"), event(WEB, at=3, trace_id=f"{number}")]
        topology.learn(spans, spans, NAMES)
    sure, origin = topology.need(WEB, SHOP)
    assert sure > 0.8
    assert origin == "trace"
    assert topology.need(SHOP, WEB)[0] == 0
    assert topology.need(WEB, DB) == (1.0, "declared")
    assert (WEB, SHOP, "trace") in topology.changed
