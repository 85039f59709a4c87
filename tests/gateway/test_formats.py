from __future__ import annotations

from elis.ingest.v1 import formats_pb2 as pb
from kit.errors import InvalidArgument
from tests.gateway.stack import Gateway

TEST = """query($sample: String!) { testFormat(sample: $sample, format: "json_lines", timeZone: "Europe/Berlin") {
  format detectedBy confidence total matched lines system
  candidates { format confidence }
  records { text timestamp severity severityNumber severityText host service body attributes traceId spanId } } }"""


async def test_what_would_become_of_a_text_is_shown(gateway: Gateway) -> None:
    gateway.peers.answers["TestFormat"] = pb.TestFormatResponse(
        format="json_lines",
        detected_by="declared",
        confidence=0.95,
        candidates=[pb.FormatCandidate(format="plain", confidence=0.05)],
        records=[
            pb.ParsedRecord(
                text="{}",
                timestamp=1_767_225_600_000_000_009,
                severity_number=18,
                severity_text="crit",
                host="h",
                body="b",
                attributes_json=b'{"a":{"b":1}}',
                trace_id="ab",
            ),
            pb.ParsedRecord(text="x", body="x"),
        ],
        total=2,
        matched=1,
        lines=3,
    )
    answer = (await gateway.run(TEST, {"sample": "{}\nx"}))["testFormat"]
    first, second = answer.pop("records")
    assert answer == {
        "format": "json_lines",
        "detectedBy": "declared",
        "confidence": 0.95,
        "total": 2,
        "matched": 1,
        "lines": 3,
        "system": None,
        "candidates": [{"format": "plain", "confidence": 0.05}],
    }
    assert first == {
        "text": "{}",
        "timestamp": "2026-01-01T00:00:00.000000009Z",
        "severity": "ERROR",
        "severityNumber": 18,
        "severityText": "crit",
        "host": "h",
        "service": None,
        "body": "b",
        "attributes": {"a": {"b": 1}},
        "traceId": "ab",
        "spanId": None,
    }
    assert (second["timestamp"], second["severity"], second["attributes"]) == (None, None, {})
    [request] = gateway.peers.requests("TestFormat")
    assert request == pb.TestFormatRequest(sample="{}\nx", format="json_lines", time_zone="Europe/Berlin")


async def test_what_is_refused_is_said(gateway: Gateway) -> None:
    gateway.peers.answers["TestFormat"] = InvalidArgument("the sample is empty; give some lines of the log")
    response = await gateway.post('{testFormat(sample:""){format}}')
    assert "the sample is empty" in response.text
