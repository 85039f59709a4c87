"""From a sender to the store and back: sealed values of real events, and dry runs on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import grpc
import httpx
import orjson
import pytest

from elis.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from elis.ingest.v1 import masking_pb2 as pb
from elis.ingest.v1 import masking_pb2_grpc as rpc
from kit.errors import NotFound
from kit.server import Application, create_grpc_server
from services.ingest.settings import IngestSettings
from tests.fixtures.callers import Issuer
from tests.services.ingest.conftest import RunningIngest
from tests.services.ingest.masking.conftest import SCOPES

REASON = "an incident that needs the address"


@pytest.fixture
async def channel(running_ingest: RunningIngest, issuer: Issuer) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the running ingest."""
    server = create_grpc_server(Application(servicers=running_ingest.application.servicers, verifier=issuer.verifier()))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with issuer.connect(f"127.0.0.1:{port}", *SCOPES) as channel:
        yield channel
    await server.stop(1.0)


async def send(ingest: RunningIngest, *events: str) -> httpx.Response:
    """Sends timed events."""
    content = b"".join(orjson.dumps({"event": event, "time": 1_790_000_000, "source": "shop", "fields": {"to": "eve@example.com"}}) for event in events)
    response = await ingest.web.post("/services/collector/event", content=content, headers={"authorization": f"Splunk {ingest.token}"})
    assert response.status_code == 200, response.text
    return response


async def test_values_are_revealed_by_the_id_of_their_event(running_ingest: RunningIngest, channel: grpc.aio.Channel, settings: IngestSettings) -> None:
    masking, ingest = rpc.MaskingServiceStub(channel), ingest_pb2_grpc.IngestServiceStub(channel)
    await send(running_ingest, "before bob@example.com")
    await masking.PutMaskingRule(pb.PutMaskingRuleRequest(rule=pb.MaskingRule(name="email", enabled=True, sealed=True)))
    first = [f"first{number}@example.com ordered" for number in range(3)]
    await send(running_ingest, *first)
    # Some of the group is stored already: its blocks are built again, and the values follow their events.
    replies = await asyncio.gather(send(running_ingest, *first), send(running_ingest, "second@example.com pays", "third@example.com pays"))
    assert replies[0].headers["Elis-Duplicates"] == "3"

    lines = (await ingest.RecentEvents(ingest_pb2.RecentEventsRequest(limit=50))).lines
    events = [orjson.loads(line) for line in lines]
    assert len(events) == 6
    revealed: dict[str, str] = {}
    for event in events:
        try:
            values = (await masking.RevealMasked(pb.RevealMaskedRequest(event_id=event["event_id"], field="body", reason=REASON))).values
        except NotFound:
            assert event["body"].startswith("before [email:")
            continue
        assert values[0].token == event["body"].split()[0]
        revealed[event["body"]] = values[0].value
        [other] = (await masking.RevealMasked(pb.RevealMaskedRequest(event_id=event["event_id"], token=event["attributes"]["to"], reason=REASON))).values
        assert (other.field, other.value) == ("attributes/to", "eve@example.com")
    assert sorted(revealed.values()) == [*(text.split()[0] for text in first), "second@example.com", "third@example.com"]
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    assert await connection.fetchval("SELECT count(*) FROM ingest.sealed_values") == 10
    await connection.close()


async def test_a_dry_run_on_stored_events_shows_what_a_rule_would_add(running_ingest: RunningIngest, channel: grpc.aio.Channel) -> None:
    masking = rpc.MaskingServiceStub(channel)
    await send(running_ingest, "order KD-123456 by bob@example.com", "nothing", "order KD-654321")
    rule = pb.MaskingRule(name="customer", pattern=r"KD-(?P<secret>\d{6})", enabled=True)
    run = await masking.PreviewMasking(pb.PreviewMaskingRequest(rule=rule, source="shop", events=100))
    assert (run.examined, run.changed, [(count.rule, count.hits) for count in run.counts]) == (3, 2, [("customer", 2)])
    newest, oldest = run.changes
    assert newest.before == "order KD-654321"
    assert newest.after.startswith("order KD-[customer:")
    assert oldest.before.startswith("order KD-123456 by [email:")
    assert oldest.event_id + 2 == newest.event_id
    assert (await masking.PreviewMasking(pb.PreviewMaskingRequest(rule=rule, source="shop", events=1))).examined == 1
    assert (await masking.PreviewMasking(pb.PreviewMaskingRequest(source="shop", events=100))).changed == 0
    assert (await masking.PreviewMasking(pb.PreviewMaskingRequest(source="other", events=100))).examined == 0


async def test_the_metric_counts_by_rule(running_ingest: RunningIngest) -> None:
    await send(running_ingest, "bob@example.com", "carl@example.com")
    text = (await running_ingest.web.get("/metrics")).text
    assert 'elis_masking_hits_total{rule="email"} 4.0' in text
    assert "shop" not in text
