"""How good sources are, through the API."""

from __future__ import annotations

from time import time_ns

from elis.ingest.v1 import quality_pb2 as pb
from tests.gateway.stack import Gateway

REASON = pb.QualityReason(kind="unparsed", share=0.25, weight=0.3, points=7.5, text="25 % of the events were not understood")
DETAIL = """query($range: TimeRange) { dataQuality(source: "shop", range: $range) {
  source score events rejected reasons { kind share weight points text }
  hours { hour events rejected duplicates unparsed parseRate missingTime futureTime pastTime ahead unknownSeverity repaired overflowing truncated meanLagMs
          activeMinutes sampled score }
  fields { name nullRate drifted types { type share } } } }"""


async def test_a_source_is_shown_with_its_hours_and_fields(gateway: Gateway) -> None:
    hour = pb.QualityHour(events=4, unparsed=1, parse_rate=0.75, active_minutes=2)
    hour.hour.FromSeconds(1_767_225_600)
    field = pb.FieldQuality(name="id", types=[pb.FieldType(type="number", share=1.0)], null_rate=0.5, drifted=True)
    quality = pb.DataQuality(source="shop", score=92.5, reasons=[REASON], events=4, rejected=2**40, hours=[hour], fields=[field])
    gateway.peers.answers["GetDataQuality"] = pb.GetDataQualityResponse(quality=quality)
    answer = await gateway.run(DETAIL, {"range": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00Z"}})
    shown = answer["dataQuality"]
    assert (shown["source"], shown["score"], shown["events"], shown["rejected"]) == ("shop", 92.5, 4, 2**40)
    assert shown["reasons"] == [{"kind": "unparsed", "share": 0.25, "weight": 0.3, "points": 7.5, "text": "25 % of the events were not understood"}]
    [of_hour] = shown["hours"]
    assert of_hour["hour"].startswith("2026-01-01T00:00:00")
    assert (of_hour["parseRate"], of_hour["meanLagMs"], of_hour["score"], of_hour["activeMinutes"]) == (0.75, None, None, 2)
    assert shown["fields"] == [{"name": "id", "nullRate": 0.5, "drifted": True, "types": [{"type": "number", "share": 1.0}]}]
    [request] = gateway.peers.requests("GetDataQuality")
    assert (request.source, request.start, request.end) == ("shop", 1_767_225_600 * 10**9, 1_767_229_200 * 10**9)


async def test_the_last_day_is_the_range_when_none_is_given(gateway: Gateway) -> None:
    gateway.peers.answers["GetDataQuality"] = pb.GetDataQualityResponse(quality=pb.DataQuality(source="shop"))
    assert (await gateway.run('{ dataQuality(source: "shop") { score } }'))["dataQuality"] == {"score": None}
    [request] = gateway.peers.requests("GetDataQuality")
    assert request.end - request.start == 86_400 * 10**9
    assert request.end <= time_ns()


async def test_all_sources_are_shown_page_by_page(gateway: Gateway) -> None:
    def answer(request: pb.ListDataQualityRequest) -> pb.ListDataQualityResponse:
        if request.page_token:
            return pb.ListDataQualityResponse(qualities=[pb.DataQualitySummary(source="good")])
        return pb.ListDataQualityResponse(qualities=[pb.DataQualitySummary(source="bad", score=50.0, reasons=[REASON])], next_page_token="next")

    gateway.peers.answers["ListDataQuality"] = answer
    query = """query($after: String) { dataQualities(range: {last: "1h"}, first: 1, after: $after) {
      edges { cursor node { source score reasons { kind } } } pageInfo { hasNextPage endCursor } } }"""
    page = (await gateway.run(query))["dataQualities"]
    assert [edge["node"] for edge in page["edges"]] == [{"source": "bad", "score": 50.0, "reasons": [{"kind": "unparsed"}]}]
    assert page["pageInfo"]["hasNextPage"]
    page = (await gateway.run(query, {"after": page["pageInfo"]["endCursor"]}))["dataQualities"]
    assert [edge["node"] for edge in page["edges"]] == [{"source": "good", "score": None, "reasons": []}]
    request = gateway.peers.requests("ListDataQuality")[0]
    assert request.end - request.start == 3_600 * 10**9
