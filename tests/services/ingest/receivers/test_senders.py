"""Who sends, over every protocol: what reaches the endpoints, what limits answer, and whose source wins."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import grpc
import httpx
import msgpack
import orjson
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub

from elis.auth.v1 import auth_pb2
from elis.auth.v1.auth_pb2_grpc import AuthServiceStub
from elis.ingest.v1 import endpoints_pb2 as pb
from elis.ingest.v1 import endpoints_pb2_grpc, ingest_pb2, ingest_pb2_grpc
from kit.errors import RateLimited
from kit.server import Application, create_grpc_server
from services.ingest.batch import Batch
from services.ingest.intake import Intake
from services.ingest.limits import Limits
from services.ingest.receivers.elastic_documents import decode_bulk
from services.ingest.receivers.hec_events import decode_events, decode_raw
from services.ingest.receivers.loki_push import decode_json
from services.ingest.receivers.otlp import decode_logs
from services.ingest.settings import IngestSettings
from services.ingest.tokens import Agent
from tests.fixtures.callers import Issuer
from tests.fixtures.signin import RunningAuth
from tests.services.ingest.conftest import RunningIngest
from tests.services.ingest.receivers.sockets import HOST, SECONDS, connect, open_sockets
from tests.services.ingest.receivers.stored import read_events, wait_for_events

BOUND = Agent("token-1", "web tier", "shop")
FREE = Agent("token-2", "web tier", "")
HEC = "/services/collector/event"
OTLP = "/v1/logs"
BULK = "/_bulk"
LOKI = "/loki/api/v1/push"
JSON = {"content-type": "application/json"}
WEB_PROTOCOLS = {"hec": HEC, "otlp_http": OTLP, "bulk": BULK, "loki": LOKI}
TIME = 1_795_510_800


def otlp(count: int = 1, text: str = "over otlp") -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    logs = request.resource_logs.add()
    logs.resource.attributes.add(key="service.name").value.string_value = "orders"
    records = logs.scope_logs.add().log_records
    for number in range(count):
        records.add(time_unix_nano=TIME * 10**9 + number).body.string_value = text
    return request


def body_of(protocol: str, count: int = 1) -> tuple[bytes, dict[str, str]]:
    """Returns a body of `count` records that name the source `orders`, and its headers."""
    if protocol == "hec":
        return orjson.dumps({"event": "over hec", "source": "orders", "time": TIME}) * count, {}
    if protocol == "otlp_http":
        return otlp(count).SerializeToString(), {"content-type": "application/x-protobuf"}
    if protocol == "bulk":
        document = b'{"create":{}}\n{"message":"over bulk","@timestamp":"2026-11-24T09:00:00Z","service":{"name":"orders"}}\n'
        return document * count, JSON
    values = [[str(TIME * 10**9 + number), "over loki"] for number in range(count)]
    return orjson.dumps({"streams": [{"stream": {"service_name": "orders"}, "values": values}]}), JSON


async def post(ingest: RunningIngest, protocol: str, token: str = "", count: int = 1) -> httpx.Response:
    body, headers = body_of(protocol, count)
    sent = {"authorization": f"Bearer {token or ingest.token}", "user-agent": f"{protocol}-agent/1.0", **headers}
    return await ingest.web.post(WEB_PROTOCOLS[protocol], content=body, headers=sent)


async def export(ingest: RunningIngest, token: str = "", count: int = 1) -> None:
    async with grpc.aio.insecure_channel(ingest.otlp_grpc_address) as channel:
        await LogsServiceStub(channel).Export(otlp(count, "over grpc"), timeout=SECONDS, metadata=(("authorization", f"Bearer {token or ingest.token}"),))


@asynccontextmanager
async def open_rpcs(ingest: RunningIngest, issuer: Issuer) -> AsyncIterator[grpc.aio.Channel]:
    """Opens a channel to the RPCs as an operator."""
    server = create_grpc_server(Application(servicers=ingest.application.servicers, verifier=issuer.verifier()))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with issuer.connect(f"127.0.0.1:{port}", "events:write", "rejected:read") as channel:
        yield channel
    await server.stop(1.0)


async def wait_for_listed(channel: grpc.aio.Channel, done: Callable[[list[pb.IngestEndpoint]], bool]) -> list[pb.IngestEndpoint]:
    """Returns all endpoints, once what is waited for is written."""
    stub = endpoints_pb2_grpc.EndpointServiceStub(channel)
    async with asyncio.timeout(SECONDS):
        while True:
            listed = list((await stub.ListEndpoints(pb.ListEndpointsRequest(page_size=100))).endpoints)
            if done(listed):
                return listed
            await asyncio.sleep(0.1)


async def wait_for_endpoints(channel: grpc.aio.Channel, done: Callable[[dict[str, pb.IngestEndpoint]], bool], *, unknown: bool) -> dict[str, pb.IngestEndpoint]:
    """Returns the endpoints of known or unknown senders by protocol, once they are written."""

    def choose(listed: list[pb.IngestEndpoint]) -> dict[str, pb.IngestEndpoint]:
        return {endpoint.protocol: endpoint for endpoint in listed if (endpoint.token_id == "") is unknown}

    return choose(await wait_for_listed(channel, lambda listed: done(choose(listed))))


async def test_every_receiver_tells_who_sends_and_who_is_refused(running_ingest: RunningIngest, issuer: Issuer) -> None:
    for protocol in WEB_PROTOCOLS:
        for _ in range(2):  # the second is a resend
            assert (await post(running_ingest, protocol)).is_success
        assert (await post(running_ingest, protocol, token="guess")).status_code in (401, 403)
    for _ in range(2):
        await export(running_ingest)
    with pytest.raises(grpc.aio.AioRpcError):
        await export(running_ingest, token="guess")
    async with connect(running_ingest.ports["syslog"]) as client:
        client.writer.write(b"<34>1 2026-11-24T09:00:00Z web-1 orders - - - over syslog\n")
    async with connect(running_ingest.ports["fluent"]) as client:
        client.send(["shop.orders", [[TIME, {"message": "over fluent"}]], {"chunk": "c1"}])
        assert await client.receive() == {"ack": "c1"}
    async with open_rpcs(running_ingest, issuer) as channel:
        request = ingest_pb2.IngestEventsRequest(source="shop", records=[ingest_pb2.Record(body="over graphql")], client_address="203.0.113.9")
        await ingest_pb2_grpc.IngestServiceStub(channel).IngestEvents(request)
        with pytest.raises(Exception, match="a source has a name"):
            await ingest_pb2_grpc.IngestServiceStub(channel).IngestEvents(ingest_pb2.IngestEventsRequest(client_address="203.0.113.9"))
        protocols = {*WEB_PROTOCOLS, "otlp_grpc", "syslog", "fluent", "graphql"}

        def all_known(found: dict[str, pb.IngestEndpoint]) -> bool:
            return found.keys() == protocols and found["graphql"].last_minute.requests == 2

        known = await wait_for_endpoints(channel, all_known, unknown=False)
        unknown = await wait_for_endpoints(channel, lambda found: len(found) == 5, unknown=True)
        traces = {"authorization": f"Bearer {running_ingest.token}", "content-type": "application/x-protobuf"}
        assert (await running_ingest.web.post("/v1/traces", content=b"", headers=traces)).is_success
        await wait_for_endpoints(channel, lambda found: found["otlp_http"].last_minute.requests == 3, unknown=False)

    for protocol in (*WEB_PROTOCOLS, "otlp_grpc"):
        counts = known[protocol].last_minute
        assert (counts.requests, counts.refused, counts.resent, counts.events, counts.duplicates) == (2, 0, 1, 1, 1), protocol
        assert counts.bytes == 2 * len(body_of("otlp_http" if protocol == "otlp_grpc" else protocol)[0])
        refused = unknown[protocol]
        assert (refused.last_minute.requests, refused.last_minute.refused, refused.token_name, refused.retry_storm) == (1, 1, "", False)
        assert "token" in refused.last_error
        assert "guess" not in str(refused)
        for endpoint in (known[protocol], refused):
            assert endpoint.clients[0].address in ("127.0.0.1", "::1"), protocol
            assert endpoint.clients[0].user_agent.startswith("grpc-python" if protocol == "otlp_grpc" else f"{protocol}-agent/1.0")
    for protocol, name in (("syslog", "127.0.0.0/8"), ("fluent", "fluent")):
        assert (known[protocol].token_name, known[protocol].clients[0].address, known[protocol].last_minute.events) == (name, "127.0.0.1", 1)
        assert known[protocol].last_minute.bytes > 0
    graphql = known["graphql"]
    assert (graphql.clients[0].address, graphql.last_minute.events, graphql.last_minute.refused) == ("203.0.113.9", 1, 1)
    assert "a source has a name" in graphql.last_error


class TestLimits:
    """An installation that allows each token 50 events a second."""

    @pytest.fixture
    def settings(self, settings: IngestSettings) -> IngestSettings:
        return settings.model_copy(update={"token_events_per_second": 50})

    async def test_every_receiver_says_busy_in_the_words_of_its_protocol(self, running_ingest: RunningIngest, pool: asyncpg.Pool[Any], issuer: Issuer) -> None:
        assert (await post(running_ingest, "bulk", count=5_000)).is_success  # more than a second allows passes, and the next ones wait
        busy = await post(running_ingest, "hec")
        assert (busy.status_code, busy.json()) == (503, {"text": "Server is busy", "code": 9})
        answers = [busy, *[await post(running_ingest, protocol) for protocol in ("otlp_http", "bulk", "loki")]]
        assert [answer.status_code for answer in answers[1:]] == [429, 429, 429]
        assert all(1 < int(answer.headers["retry-after"]) <= 99 for answer in answers)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await export(running_ingest)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        details: dict[str, Any] = dict(refused.value.trailing_metadata() or ())
        retry = RetryInfo()
        assert Status.FromString(details["grpc-status-details-bin"]).details[0].Unpack(retry)
        assert 1 < retry.retry_delay.seconds <= 99
        assert (await running_ingest.web.get("/services/collector/health")).status_code == 200
        assert len(await wait_for_events(pool, 5_000)) == 5_000
        async with open_rpcs(running_ingest, issuer) as channel:
            found = await wait_for_endpoints(channel, lambda found: len(found) == 5, unknown=False)
            stub = ingest_pb2_grpc.IngestServiceStub(channel)
            records = [ingest_pb2.Record(body=f"{number}") for number in range(5_000)]
            await stub.IngestEvents(ingest_pb2.IngestEventsRequest(source="shop", records=records))
            with pytest.raises(RateLimited, match="50 events per second") as told:
                await stub.IngestEvents(ingest_pb2.IngestEventsRequest(source="shop", records=records[:1]))
        assert {protocol: (endpoint.last_minute.refused, endpoint.last_minute.limited) for protocol, endpoint in found.items()} == dict.fromkeys(found, (1, 1))
        assert "50 events per second" in found["hec"].last_error
        assert 1 < told.value.detail["retry_after"] <= 99


async def test_a_token_has_the_limits_and_the_source_that_it_was_made_with(running_ingest: RunningIngest, running_auth: RunningAuth, issuer: Issuer) -> None:
    async with grpc.aio.insecure_channel(running_auth.address) as channel:
        auth = AuthServiceStub(channel)
        key = await auth.ExchangeApiKey(auth_pb2.ExchangeApiKeyRequest(key=running_auth.credentials.admin_api_key), timeout=SECONDS)
        admin = (("authorization", f"Bearer {key.access_token}"),)
        request = auth_pb2.CreateApiKeyRequest(name="batch jobs", kind="ingest", source="shop", bytes_per_second=1)
        made = await auth.CreateApiKey(request, timeout=SECONDS, metadata=admin)
    assert (await post(running_ingest, "hec", token=made.secret)).is_success
    assert (await post(running_ingest, "hec", token=made.secret)).status_code == 503
    assert (await post(running_ingest, "hec")).is_success
    async with open_rpcs(running_ingest, issuer) as rpcs:
        found = await wait_for_listed(rpcs, lambda listed: len(listed) == 2)
    [limited] = [endpoint for endpoint in found if endpoint.token_id == made.key.id]
    assert (limited.token_name, limited.source, limited.last_minute.limited) == ("batch jobs", "shop", 1)
    assert limited.last_error.startswith("the limit of 1 bytes per second")


async def test_networks_that_may_not_send_are_told(settings: IngestSettings, intake: Intake) -> None:
    async with open_sockets(settings, intake, syslog_allow="192.0.2.0/24") as sockets:
        async with connect(sockets.port("syslog")) as client:
            assert await client.hung_up()
        with socket.socket(type=socket.SOCK_DGRAM) as sender:
            sender.sendto(b"<13>not allowed", (HOST, sockets.port("syslog_udp")))
        async with asyncio.timeout(SECONDS):
            while not sockets.dropped("not_allowed"):  # noqa: ASYNC110  a datagram that is dropped has no event
                await asyncio.sleep(0.02)
    [(endpoint, counts)] = intake.endpoints.draw()
    assert (endpoint.protocol, endpoint.token_id, counts.requests, counts.refused) == ("syslog", "", 2, 2)
    assert "ELIS_SYSLOG_ALLOW" in endpoint.last_error
    assert [address for address, _ in endpoint.clients] == [HOST]


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


async def test_senders_that_get_no_reply_are_held_back_and_lose_nothing(settings: IngestSettings, intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    clock = Clock()
    intake.limits = Limits(default_events=50, clock=clock)
    for sender in ("syslog:127.0.0.0/8", "fluent"):
        intake.limits.charge_events(Agent(sender, sender, ""), 1_000)
    async with open_sockets(settings, intake) as sockets, connect(sockets.port("syslog")) as syslog, connect(sockets.port("fluent")) as fluent:
        syslog.writer.write(b"".join(b"<34>1 - web-1 orders - - - line %03d\n" % number for number in range(40)))
        fluent.send(["app", [[TIME, {"message": f"line {number:03d}"}] for number in range(40, 60)], {"chunk": "c1"}])
        limited: set[str] = set()
        async with asyncio.timeout(SECONDS):
            while limited != {"syslog", "fluent"}:
                await asyncio.sleep(0.02)
                limited |= {endpoint.protocol for endpoint, counts in intake.endpoints.draw() if counts.limited}
        assert await read_events(pool) == []
        clock.now += 1_000.0
        assert await fluent.receive() in ({"ack": "c1"}, None)  # None: closed without an acknowledgement, so that it is sent again
        events = await wait_for_events(pool, 40)
    assert [event["body"] for event in events if event["source"] == "syslog"] == [f"line {number:03d}" for number in range(40)]


def read_hec(agent: Agent) -> Batch:
    return decode_events(b'{"event":"x","source":"orders"}', {}, agent)[0].batch


def read_raw(agent: Agent) -> Batch:
    return decode_raw(b"x", {"source": "orders"}, agent).batch


def read_otlp(agent: Agent) -> Batch:
    return decode_logs(otlp().SerializeToString(), agent)[0]


def read_bulk(agent: Agent) -> Batch:
    return decode_bulk(b'{"create":{"_index":"orders"}}\n{"message":"x"}\n', agent, "", 1_000).batch


def read_loki(agent: Agent) -> Batch:
    return decode_json(orjson.dumps({"streams": [{"stream": {"job": "orders"}, "values": [[str(TIME * 10**9), "x"]]}]}), agent, "").batch


@pytest.mark.parametrize(
    ("read", "kept"),
    [
        (read_hec, {"splunk.source": "orders"}),
        (read_raw, {"splunk.source": "orders"}),
        (read_otlp, "orders"),
        (read_bulk, {"elasticsearch.index": "orders"}),
        (read_loki, {"job": "orders"}),
    ],
)
def test_a_bound_token_decides_the_source_and_the_name_that_was_sent_is_kept(read: Callable[[Agent], Batch], kept: Any) -> None:
    bound = read(BOUND)
    assert bound.source == ["shop"]
    if isinstance(kept, dict):
        assert kept.items() <= (bound.attributes[0] or {}).items()
    else:
        assert bound.service == [kept]
    assert read(FREE).source == ["orders"]


async def test_a_bound_port_decides_the_source_and_the_name_that_was_sent_is_kept(settings: IngestSettings, intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    async with open_sockets(settings, intake, syslog_allow="127.0.0.0/8=switches", fluent_source="shop") as sockets:
        async with connect(sockets.port("syslog")) as client:
            client.writer.write(b"<34>1 2026-11-24T09:00:00Z sw-1 orders - - - over syslog\n")
        await wait_for_events(pool, 1)
        async with connect(sockets.port("fluent")) as client:
            client.writer.write(msgpack.packb(["orders.web", TIME, {"message": "over fluent"}]))
        syslog, fluent = sorted(await wait_for_events(pool, 2), key=lambda event: event["body"], reverse=True)
    assert (syslog["source"], syslog["host"], syslog["service"]) == ("switches", "sw-1", "orders")
    assert (fluent["source"], fluent["attributes"]["fluent.tag"]) == ("shop", "orders.web")
