"""From a sender to the store and back: sealed values of real events, and dry runs on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import grpc
import httpx
import orjson
import pytest
from pydantic import SecretStr

from elis.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from elis.ingest.v1 import masking_pb2 as pb
from elis.ingest.v1 import masking_pb2_grpc as rpc
from kit.errors import NotFound
from kit.server import Application, create_grpc_server
from services.ingest.batch import Batch
from services.ingest.blocks import decompress_lines, list_blocks
from services.ingest.settings import IngestSettings
from tests.fixtures.callers import Issuer
from tests.services.ingest.conftest import ARRIVAL, RunningIngest, run_intake
from tests.services.ingest.masking.conftest import SCOPES, assemble

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


async def test_events_before_and_after_a_change_of_the_key_are_joinable(settings: IngestSettings, pool: asyncpg.Pool[Any]) -> None:
    rotated = settings.model_copy(update={"masking_key": SecretStr("n" * 32), "masking_old_keys": settings.masking_key})
    for used in (settings, rotated):
        async with run_intake(used, pool) as intake:
            batch = Batch()
            batch.append("bob@example.com pays", source="shop", timestamp=1_790_000_000_000_000_000)
            batch.append("eve@example.com pays", source="shop", timestamp=1_790_000_000_000_000_000)
            await intake.take(batch, ARRIVAL, default_system="application", idempotency_key=used.masking_key.get_secret_value())
    blocks, _ = await list_blocks(pool, "", limit=10, with_lines=True, with_summary=False, max_bytes=2**20)
    events = [orjson.loads(line) for block in blocks for line in decompress_lines(block.lines).splitlines()]
    old, old_eve, new, new_eve = (event["body"].split()[0] for event in events)
    assert len({old, old_eve, new, new_eve}) == 4
    vault = assemble(pool, *rotated.masking_keys).vault
    assert await vault.equivalents(old) == [old, new]
    assert await vault.equivalents(new) == [new, old]
    assert await vault.equivalents(old_eve) == [old_eve, new_eve]
