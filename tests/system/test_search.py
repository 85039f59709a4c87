"""What was sent is found, through every question that GraphQL answers."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.system.api import Api, eventually, iso, name_source

pytestmark = pytest.mark.system

ORDERS = [
    ("checkout", "ERROR: payment of order {} declined by acquirer"),
    ("checkout", "INFO: order {} placed"),
    ("cart", "INFO: cart {} opened"),
]


def make_orders(source: str, count: int, now: int) -> list[dict[str, Any]]:
    """Three kinds of events in turn, one a millisecond, ending now."""
    events = []
    for number in range(count):
        service, body = ORDERS[number % 3]
        at = now - (count - number) * 1_000_000
        fields = {"service": service, "order": str(number)}
        events.append({"time": f"{at // 10**9}.{at % 10**9:09d}", "host": "web-1", "source": source, "event": body.format(number), "fields": fields})
    return events


def test_events_are_found_by_every_question(api: Api) -> None:
    source, now = name_source("orders"), time.time_ns()
    response = api.send(make_orders(source, 300, now))
    assert response.status_code == 200
    assert response.json() == {"text": "Success", "code": 0}
    assert response.headers["Elis-Accepted"] == "300"
    api.await_count(source, 300)

    events = api.events(source)
    assert [event["body"] for event in events] == [ORDERS[n % 3][1].partition(": ")[2].format(n) for n in range(300)]
    assert [event["timestamp"] for event in events] == [iso(now - (300 - n) * 1_000_000) for n in range(300)]
    assert len({event["id"] for event in events}) == 300
    assert [page_event for page in api.pages(source, 7) for page_event in page] == events

    answer = api.query(
        """query($source: String!, $id: ID!, $minute: Duration!) {
          event(id: $id) { id eventId body source system host service severity severityText attributes fingerprint observedAt }
          node(id: $id) { __typename ... on LogEvent { body } }
          failed: events(filter: {sources: [$source], query: "service:checkout AND severity:>=error AND declined"}, first: 100) {
            totalCount edges { node { body severity } } }
          phrase: events(filter: {sources: [$source], query: "\\"order 4 placed\\""}) { edges { node { body } } }
          none: events(filter: {sources: [$source], query: "service:checkout -severity:info -severity:error"}) { totalCount }
          histogram(filter: {sources: [$source], last: $minute}, splitBy: SERVICE) { total buckets { count split { value count } } lagSeconds }
          facets(fields: ["service", "severityText", "host", "attributes.order"], filter: {sources: [$source]}, size: 2) {
            total facets { field values { value count } other } }
          patterns(filter: {sources: [$source]}) { total patterns { template count share sampleEventId fingerprints } }
        }""",
        {"source": source, "id": events[0]["id"], "minute": "5m"},
    )
    first = answer["event"]
    assert first["id"] == first["eventId"] == events[0]["id"]
    assert first["body"] == answer["node"]["body"] == "payment of order 0 declined by acquirer"
    assert (first["source"], first["system"], first["host"], first["service"], first["severity"]) == (source, "splunk", "web-1", "checkout", "ERROR")
    assert first["attributes"]["order"] == "0"
    assert answer["node"]["__typename"] == "LogEvent"
    assert answer["failed"]["totalCount"] == 100
    assert {edge["node"]["severity"] for edge in answer["failed"]["edges"]} == {"ERROR"}
    assert [edge["node"]["body"] for edge in answer["phrase"]["edges"]] == ["order 4 placed"]
    assert answer["none"]["totalCount"] == 0
    assert answer["histogram"]["total"] == 300
    assert sum(bucket["count"] for bucket in answer["histogram"]["buckets"]) == 300
    split = [value for bucket in answer["histogram"]["buckets"] for value in bucket["split"]]
    assert sum(value["count"] for value in split if value["value"] == "cart") == 100
    service, level, host, order = answer["facets"]["facets"]
    assert service == {"field": "service", "values": [{"value": "checkout", "count": 200}, {"value": "cart", "count": 100}], "other": 0}
    assert {value["value"].lower(): value["count"] for value in level["values"]} == {"info": 200, "error": 100}
    assert host["values"] == [{"value": "web-1", "count": 300}]
    assert order["other"] == 298
    assert answer["patterns"]["total"] == 300
    assert [pattern["count"] for pattern in answer["patterns"]["patterns"]] == [100, 100, 100]
    assert {pattern["fingerprints"][0] for pattern in answer["patterns"]["patterns"]} >= {first["fingerprint"]}


def test_statistics_count_each_event_once(api: Api) -> None:
    source, now = name_source("counted"), time.time_ns()
    assert api.send(make_orders(source, 90, now)).status_code == 200
    question = """query($start: DateTime!, $end: DateTime!) { statistics(range: {start: $start, end: $end}, groupBy: SOURCE) {
      groups { key events errors errorRate } lagSeconds } }"""
    span = {"start": iso(now - 3600 * 10**9), "end": iso(now + 3600 * 10**9)}

    def group() -> dict[str, Any] | None:
        groups: list[dict[str, Any]] = api.query(question, span)["statistics"]["groups"]
        return next((group for group in groups if group["key"] == source and group["events"] >= 90), None)

    counted = eventually(group)
    assert (counted["events"], counted["errors"]) == (90, 30)
    assert counted["errorRate"] == pytest.approx(1 / 3)


def test_a_request_that_is_sent_again_adds_nothing(api: Api) -> None:
    source, now = name_source("again"), time.time_ns()
    events = make_orders(source, 10, now)
    assert api.send(events).headers["Elis-Accepted"] == "10"
    again = api.send(events)
    assert (again.headers["Elis-Accepted"], again.headers["Elis-Duplicates"]) == ("0", "10")
    api.await_count(source, 10)


def test_events_that_graphql_takes_are_found(api: Api) -> None:
    source = name_source("graphql")
    mutation = """mutation($source: String!, $events: [EventInput!]!) { ingest(source: $source, system: "application", events: $events) {
      accepted duplicates rejected } }"""
    events = [
        {"body": f"job {n} finished", "timestamp": iso(time.time_ns()), "severity": "WARN", "attributes": {"job": n}, "service": "batch"} for n in range(3)
    ]
    assert api.query(mutation, {"source": source, "events": events})["ingest"] == {"accepted": 3, "duplicates": 0, "rejected": 0}
    assert api.query(mutation, {"source": source, "events": events})["ingest"] == {"accepted": 0, "duplicates": 3, "rejected": 0}
    api.await_count(source, 3)
    found = api.query("query($s: String!) { events(filter: {sources: [$s]}) { edges { node { severity system service attributes } } } }", {"s": source})
    assert found["events"]["edges"][0]["node"] == {"severity": "WARN", "system": "application", "service": "batch", "attributes": {"job": 2}}
