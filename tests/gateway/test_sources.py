"""What a team says about its sources."""

from __future__ import annotations

import pytest

from elis.ingest.v1 import ingest_pb2
from elis.ingest.v1 import sources_pb2 as pb
from kit.errors import NotFound
from tests.gateway.stack import Gateway

UPDATE = "mutation($name: String!, $format: String, $timeZone: String) { updateSource(name: $name, format: $format, timeZone: $timeZone) { %s } }"


@pytest.fixture
def updated(gateway: Gateway) -> ingest_pb2.Source:
    """What the ingest service answers."""
    source = ingest_pb2.Source(name="prd", system="sap", format="sap_dev_trace", detected_by="declared", confidence=1, time_zone="Europe/Berlin")
    gateway.peers.answers["UpdateSource"] = pb.UpdateSourceResponse(source=source)
    return source


async def test_only_what_is_given_is_changed(gateway: Gateway, updated: ingest_pb2.Source) -> None:
    shown = "name format detectedBy confidence timeZone"
    answer = await gateway.run(UPDATE % shown, {"name": updated.name, "timeZone": "Europe/Berlin"})
    assert answer["updateSource"] == {"name": "prd", "format": "sap_dev_trace", "detectedBy": "declared", "confidence": 1, "timeZone": "Europe/Berlin"}
    [request] = gateway.peers.requests("UpdateSource")
    assert request == pb.UpdateSourceRequest(name="prd", time_zone="Europe/Berlin")
    assert not request.HasField("format")


async def test_an_empty_text_is_given(gateway: Gateway, updated: ingest_pb2.Source) -> None:
    await gateway.run(UPDATE % "name", {"name": updated.name, "format": ""})
    [request] = gateway.peers.requests("UpdateSource")
    assert request.HasField("format")
    assert not request.format
    assert not request.HasField("time_zone")


async def test_a_source_is_found_by_its_name(gateway: Gateway, updated: ingest_pb2.Source) -> None:
    query = "query($name: String!) { source(name: $name) { format detectedBy confidence } }"
    gateway.peers.answers["GetSource"] = pb.GetSourceResponse(source=updated)
    answer = await gateway.run(query, {"name": "prd"})
    assert answer["source"] == {"format": "sap_dev_trace", "detectedBy": "declared", "confidence": 1}
    gateway.peers.answers["GetSource"] = NotFound("there is no source 'x'")
    assert (await gateway.run(query, {"name": "x"}))["source"] is None
