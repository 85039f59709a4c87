"""Indexer acknowledgement: channels, ids, and what happens to them while Redis is away."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import grpc
import pytest
from redis.asyncio import Redis

from elis.auth.v1 import auth_pb2 as auth
from elis.auth.v1.auth_pb2_grpc import AuthServiceStub
from kit.cache import open_redis
from kit.errors import Unavailable
from services.ingest.receivers import hec_acks
from services.ingest.receivers.hec_acks import IDLE_SECONDS, AckLedger, parse_channel
from services.ingest.settings import IngestSettings
from tests.fixtures.signin import RunningAuth
from tests.services.ingest.conftest import RunningIngest
from tests.services.ingest.receivers.web import stored_events

CHANNEL = "0AECCA9A-6A1A-4B3C-9D3E-000000000001"
OTHER = "0aecca9a-6a1a-4b3c-9d3e-000000000002"


@pytest.fixture
async def redis(settings: IngestSettings) -> AsyncIterator[Redis]:
    async with open_redis(settings) as client:
        yield client


@pytest.fixture
async def ack_token(running_auth: RunningAuth) -> str:
    """A token with acknowledgement, made as an admin makes it."""
    async with grpc.aio.insecure_channel(running_auth.address) as channel:
        stub = AuthServiceStub(channel)
        access = (await stub.ExchangeApiKey(auth.ExchangeApiKeyRequest(key=running_auth.credentials.admin_api_key), timeout=10)).access_token
        request = auth.CreateApiKeyRequest(name="firehose", kind="ingest", ack=True)
        return (await stub.CreateApiKey(request, metadata=(("authorization", f"Bearer {access}"),), timeout=10)).secret


async def post(ingest: RunningIngest, token: str, path: str, body: str, **headers: str) -> tuple[int, Any]:
    given = {"authorization": f"Splunk {token}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    response = await ingest.web.post(f"/services/collector{path}", content=body, headers=given)
    return response.status_code, response.json()


async def test_ids_are_counted_per_channel_and_each_is_acknowledged_once(running_ingest: RunningIngest, ack_token: str) -> None:
    for number, path in enumerate(("", "/event", "/event/1.0", "/raw", "/raw/1.0")):
        reply = await post(running_ingest, ack_token, path, json.dumps({"event": f"event {number}"}), x_splunk_request_channel=CHANNEL)
        assert reply == (200, {"text": "Success", "code": 0, "ackId": number})
    assert await post(running_ingest, ack_token, f"/event?channel={OTHER}", '{"event":"other"}') == (200, {"text": "Success", "code": 0, "ackId": 0})
    # The channel may be written in either case, in the header or in the query.
    asked = await post(running_ingest, ack_token, f"/ack?channel={CHANNEL.lower()}", '{"acks":[0,1,3,17,-1]}')
    assert asked == (200, {"acks": {"0": True, "1": True, "3": True, "17": False, "-1": False}})
    assert await post(running_ingest, ack_token, "/ack/1.0", '{"acks":[0,2]}', x_splunk_request_channel=CHANNEL) == (200, {"acks": {"0": False, "2": True}})


async def test_replies_of_tokens_with_acknowledgement(running_ingest: RunningIngest, ack_token: str, pool: asyncpg.Pool[Any]) -> None:
    event = '{"event":"a"}'
    missing, invalid = (400, {"text": "Data channel is missing", "code": 10}), (400, {"text": "Invalid data channel", "code": 11})
    no_data, broken = (400, {"text": "No data", "code": 5}), (400, {"text": "Invalid data format", "code": 6})
    for path in ("", "/raw", "/ack"):
        assert await post(running_ingest, ack_token, path, event) == missing
        for channel in ("7", "0AECCA9A-6A1A-4B3C-9D3E", f"{CHANNEL}0", "g" * 36):
            assert await post(running_ingest, ack_token, f"{path}?channel={channel}", event) == invalid
        # What AWS Firehose opens with: token and channel, no payload.
        assert await post(running_ingest, ack_token, path, "", x_splunk_request_channel=CHANNEL) == no_data
    for question in ("[]", "{}", '{"acks":{}}', '{"acks":["0"]}', '{"acks":[1e400]}', "nonsense", '{"acks":' + "[" * 40_000):
        assert await post(running_ingest, ack_token, f"/ack?channel={CHANNEL}", question) == broken
    assert await post(running_ingest, ack_token, f"/ack?channel={CHANNEL}", '{"acks":[]}') == no_data
    # A request with a bad event is no success and has no id.
    partial = await post(running_ingest, ack_token, f"?channel={CHANNEL}", '{"event":"kept"}{"event":""}')
    assert partial == (400, {"text": "Event field cannot be blank", "code": 13, "invalid-event-number": 1})
    assert [event["body"] for event in await stored_events(pool)] == ["kept"]


async def test_a_token_without_acknowledgement_needs_no_channel_and_answers_no_questions(running_ingest: RunningIngest) -> None:
    off = (400, {"text": "ACK is disabled", "code": 14})
    assert await post(running_ingest, running_ingest.token, f"/ack?channel={CHANNEL}", '{"acks":[0]}') == off
    assert await post(running_ingest, running_ingest.token, "/ack", "") == off
    assert await post(running_ingest, running_ingest.token, "?channel=whatever", '{"event":"a"}') == (200, {"text": "Success", "code": 0})


async def test_a_token_that_was_ended_is_told_so(running_ingest: RunningIngest, running_auth: RunningAuth) -> None:
    async with grpc.aio.insecure_channel(running_auth.address) as channel:
        stub = AuthServiceStub(channel)
        access = (await stub.ExchangeApiKey(auth.ExchangeApiKeyRequest(key=running_auth.credentials.admin_api_key), timeout=10)).access_token
        metadata = (("authorization", f"Bearer {access}"),)
        made = await stub.CreateApiKey(auth.CreateApiKeyRequest(name="old", kind="ingest", ack=True), metadata=metadata, timeout=10)
        await stub.RevokeApiKey(auth.RevokeApiKeyRequest(id=made.key.id), metadata=metadata, timeout=10)
    for path in ("", "/raw", "/ack"):
        assert await post(running_ingest, made.secret, path, '{"event":"a"}') == (403, {"text": "Token disabled", "code": 1})


async def test_any_replica_answers_for_an_id(redis: Redis, settings: IngestSettings) -> None:
    async with open_redis(settings) as other:
        assert await AckLedger(redis).draw("t", CHANNEL) == 0
        assert await AckLedger(other).draw("t", CHANNEL) == 1
        assert await AckLedger(other).settle("t", CHANNEL, [0, 1]) == {0: True, 1: True}
        assert await AckLedger(redis).settle("t", CHANNEL, [0, 1]) == {0: False, 1: False}
        assert await AckLedger(redis).settle("another token", CHANNEL, [2]) == {2: False}


async def test_many_ids_are_answered_in_one_question(redis: Redis) -> None:
    ledger = AckLedger(redis)
    drawn = [await ledger.draw("t", CHANNEL) for _ in range(20)]
    settled = await ledger.settle("t", CHANNEL, range(12_000))
    assert [number for number, found in settled.items() if found] == drawn


async def test_an_idle_channel_is_forgotten_and_a_full_one_is_busy(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hec_acks, "MAX_PENDING", 3)
    ledger = AckLedger(redis)
    for number in range(3):
        assert await ledger.draw("t", CHANNEL) == number
    [key] = [key async for key in redis.scan_iter("elis:hec:acks:*")]
    assert 0 < await redis.ttl(key) <= IDLE_SECONDS
    with pytest.raises(Unavailable, match="ask for them first"):
        await ledger.draw("t", CHANNEL)
    await ledger.settle("t", CHANNEL, [1])
    assert await ledger.draw("t", CHANNEL) == 3


async def test_without_redis_ids_are_unavailable() -> None:
    ledger = AckLedger(Redis(port=1))
    with pytest.raises(Unavailable):
        await ledger.draw("t", CHANNEL)
    with pytest.raises(Unavailable):
        await ledger.settle("t", CHANNEL, [0])
    assert not await ledger.ping()


@pytest.mark.parametrize("text", ["", "0", f"{CHANNEL}\n", f"{{{CHANNEL}}}", CHANNEL.replace("-", "")])
def test_what_is_no_guid_is_no_channel(text: str) -> None:
    assert parse_channel(text) is None
