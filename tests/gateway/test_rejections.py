from __future__ import annotations

from base64 import b64decode

from elis.ingest.v1 import rejections_pb2 as pb
from tests.gateway.peers import stamp
from tests.gateway.stack import Gateway


async def test_rejected_events_are_shown_with_their_senders(gateway: Gateway) -> None:
    sender = pb.RejectedSender(token_id="t1", token_name="vector", protocol="bulk", address="192.0.2.1")
    event = pb.RejectedEvent(id="r1", source="erp", reason="invalid_document", count=2, kept=1, bytes=2**40, sender=sender, last_seen_at=stamp(5))
    total = pb.RejectedTotal(reason="invalid_document", count=2, kept=1)
    record = pb.RejectedRecord(id="r2", event_id="r1", size=7, rejected_at=stamp(5))
    gateway.peers.answers["ListRejectedEvents"] = pb.ListRejectedEventsResponse(events=[event])
    gateway.peers.answers["GetRejectedTotals"] = pb.GetRejectedTotalsResponse(totals=[total])
    gateway.peers.answers["ListRejectedRecords"] = pb.ListRejectedRecordsResponse(records=[record])
    answer = await gateway.run(
        """{
          rejectedEvents(source: "erp", reason: "invalid_document") {
            edges { node { id reason detail count kept bytes replayed retryable sender { tokenId tokenName protocol address userAgent } lastSeenAt } } }
          rejectedTotals(source: "erp") { reason count kept replayed retryable }
          rejectedRecords(eventId: "r1") { edges { node { id eventId size rejectedAt replayedAt } } }
        }"""
    )
    node = answer["rejectedEvents"]["edges"][0]["node"]
    assert node["sender"] == {"tokenId": "t1", "tokenName": "vector", "protocol": "bulk", "address": "192.0.2.1", "userAgent": None}
    assert (node["count"], node["kept"], node["bytes"], node["detail"], node["retryable"]) == (2, 1, 2**40, None, False)
    assert answer["rejectedTotals"] == [{"reason": "invalid_document", "count": 2, "kept": 1, "replayed": 0, "retryable": False}]
    assert answer["rejectedRecords"]["edges"][0]["node"]["replayedAt"] is None
    [request] = gateway.peers.requests("ListRejectedEvents")
    assert (request.source, request.reason) == ("erp", "invalid_document")


async def test_rejected_records_are_replayed(gateway: Gateway) -> None:
    problem = pb.ReplayProblem(id="r2", problem="there is no text in it")
    gateway.peers.answers["ReplayRejected"] = pb.ReplayRejectedResponse(accepted=3, rejected=1, problems=[problem], remaining=4, next_page_token="n4")
    answer = await gateway.run(
        """mutation { replayRejected(ids: ["r1", "r2"], format: "plain", source: "repaired", after: "n2") {
          accepted duplicates rejected problems { id problem } remaining endCursor } }"""
    )
    assert answer["replayRejected"] == {
        "accepted": 3,
        "duplicates": 0,
        "rejected": 1,
        "problems": [{"id": "r2", "problem": "there is no text in it"}],
        "remaining": 4,
        "endCursor": "n4",
    }
    [request] = gateway.peers.requests("ReplayRejected")
    assert (list(request.ids), request.format, request.source, request.page_token) == (["r1", "r2"], "plain", "repaired", "n2")

    gateway.peers.answers["ReplayRejected"] = pb.ReplayRejectedResponse(accepted=1)
    answer = await gateway.run('mutation { replayRejected(ids: ["r1"]) { remaining endCursor } }')
    assert answer["replayRejected"] == {"remaining": 0, "endCursor": None}


async def test_a_rejected_record_is_revealed_with_a_reason(gateway: Gateway) -> None:
    gateway.peers.answers["RevealRejected"] = pb.RevealRejectedResponse(raw=b"a\xff", fields_json=b'{"host":"h1"}')
    answer = await gateway.run('mutation { revealRejected(id: "r2", reason: "asked by the sender") { raw text fields } }')
    revealed = answer["revealRejected"]
    assert (b64decode(revealed["raw"]), revealed["text"], revealed["fields"]) == (b"a\xff", "a\ufffd", {"host": "h1"})
    assert gateway.peers.requests("RevealRejected")[0].reason == "asked by the sender"
