from __future__ import annotations

import orjson

from elis.ingest.v1 import ingest_pb2 as pb
from kit.errors import Unavailable
from tests.gateway.peers import Peers, stamp
from tests.gateway.stack import Gateway, run_gateway

INGEST = """mutation($events: [EventInput!]!) {
  ingest(source: "shop", system: "application", environment: "test", events: $events, format: "json", idempotencyKey: "k1") {
    accepted duplicates rejected } }"""


async def test_events_are_handed_over(gateway: Gateway) -> None:
    gateway.peers.answers["IngestEvents"] = pb.IngestEventsResponse(accepted=2, duplicates=1, rejected=3)
    event = {
        "body": "order failed",
        "timestamp": "2026-01-01T00:00:00.000000009Z",
        "severity": "ERROR",
        "severityText": "ERR",
        "host": "web-1",
        "service": "shop",
        "attributes": {"order": 4711, "nested": {"a": [1.5, None, True]}},
        "traceId": "ab",
        "spanId": "cd",
    }
    answer = await gateway.run(INGEST, {"events": [event, {"body": ""}]})
    assert answer["ingest"] == {"accepted": 2, "duplicates": 1, "rejected": 3}
    [request] = gateway.peers.requests("IngestEvents")
    assert (request.source, request.system, request.environment, request.format, request.idempotency_key) == ("shop", "application", "test", "json", "k1")
    first, second = request.records
    assert (first.time_unix_nano, first.severity_number, first.severity_text) == (1_767_225_600_000_000_009, 17, "ERR")
    assert orjson.loads(first.attributes_json) == event["attributes"]
    assert second == pb.Record()


async def test_attributes_may_be_written_in_the_document(gateway: Gateway) -> None:
    gateway.peers.answers["IngestEvents"] = pb.IngestEventsResponse(accepted=1)
    await gateway.run('mutation{ingest(source:"shop",events:[{body:"a",attributes:{order:4711,paths:["x",1.5,true,null]}}]){accepted}}')
    [request] = gateway.peers.requests("IngestEvents")
    assert orjson.loads(request.records[0].attributes_json) == {"order": 4711, "paths": ["x", 1.5, True, None]}


async def test_what_cannot_be_stored_is_refused(gateway: Gateway) -> None:
    deep: object = 1
    for _ in range(300):
        deep = [deep]
    for event, message in (
        ({"body": "a", "attributes": [1]}, "the attributes of event 0 are not a JSON object"),
        ({"body": "a", "attributes": {"deep": deep}}, "the attributes of event 0 cannot be stored"),
        ({"body": "a", "attributes": {"big": 2**70}}, None),
    ):
        response = (await gateway.post(INGEST, {"events": [event]})).json()
        if message is not None:
            assert message in response["errors"][0]["message"]
            assert response["errors"][0]["extensions"]["code"] == "INVALID_ARGUMENT"
    error = await gateway.fail(INGEST, {"events": []})
    assert error["message"] == "ingest takes 1 to 10000 events, not 0"


async def test_a_full_ingest_says_when_to_come_back(gateway: Gateway) -> None:
    gateway.peers.answers["IngestEvents"] = Unavailable("ingest is full", retry_after=2.0)
    error = await gateway.fail(INGEST, {"events": [{"body": "a"}]})
    assert (error["extensions"]["code"], error["extensions"]["retry_after"]) == ("UNAVAILABLE", 2.0)


async def test_ingest_has_a_rate_of_its_own(peers: Peers, addresses: dict[str, str], valkey_url: str) -> None:
    peers.answers["IngestEvents"] = pb.IngestEventsResponse(accepted=1)
    token = peers.issuer.token("events:write", "self:read", name="busy")
    async with run_gateway(peers, addresses, valkey_url, rate_limits={"ingest": "2/hour"}) as gateway:
        for _ in range(2):
            await gateway.run(INGEST, {"events": [{"body": "a"}]}, token=token)
        error = await gateway.fail(INGEST, {"events": [{"body": "a"}]}, token=token)
        assert error["extensions"]["code"] == "RESOURCE_EXHAUSTED"
        await gateway.run("{__typename}", token=token)


async def test_sources(gateway: Gateway) -> None:
    source = pb.Source(name="erp", system="sap", format="sap_dev_w", detected_by="detected", confidence=0.5, events=2**40, first_seen_at=stamp(5))
    gateway.peers.answers["ListSources"] = pb.ListSourcesResponse(sources=[source])
    answer = await gateway.run("{sources{edges{node{name system environment format detectedBy confidence events rejected firstSeenAt lastSeenAt}}}}")
    assert answer["sources"]["edges"][0]["node"] == {
        "name": "erp",
        "system": "sap",
        "environment": None,
        "format": "sap_dev_w",
        "detectedBy": "detected",
        "confidence": 0.5,
        "events": 2**40,
        "rejected": 0,
        "firstSeenAt": "1970-01-01T00:00:00.000000005Z",
        "lastSeenAt": None,
    }
