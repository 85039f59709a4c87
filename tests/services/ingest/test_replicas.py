"""Two ingest processes on one PostgreSQL: what is sent to both at once is stored once, however it is framed."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import asyncpg
import cramjam
import grpc
import httpx
import msgpack
import orjson
import pytest
from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from kit.server import cancel_tasks
from kit.settings import Addresses
from services.ingest.app import build
from services.ingest.settings import IngestSettings
from tests.fixtures.signin import RunningAuth
from tests.services.ingest.conftest import free_offset
from tests.services.ingest.receivers.stored import read_events

ROUNDS = 8
EVENTS = 5
TIME = 1_795_000_000_000_000_000
EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


@dataclass
class Replica:
    """One ingest process: its web receivers, called in process, and its ports."""

    web: httpx.AsyncClient
    token: str
    otlp: grpc.aio.Channel
    fluent_port: int

    async def post(self, path: str, body: bytes, content_type: str, encoding: str = "identity") -> None:
        """Sends a request that must succeed."""
        headers = {"authorization": f"Bearer {self.token}", "content-type": content_type, "content-encoding": encoding}
        # Their order is as good as any other.
        response = await self.web.post(path, content=body, headers=dict(reversed(headers.items())) if len(body) % 2 else headers)
        assert response.status_code in (200, 204), response.text

    async def post_in_pieces(self, path: str, body: bytes, content_type: str) -> None:
        """The same without a declared length."""

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 7):
                yield body[start : start + 7]

        headers = {"authorization": f"Bearer {self.token}", "content-type": content_type}
        assert (await self.web.post(path, content=pieces(), headers=headers)).status_code in (200, 204)

    async def export(self, request: bytes, compression: grpc.Compression) -> None:
        """Sends an OTLP request that must succeed."""
        call: Any = self.otlp.unary_unary(EXPORT)
        assert await call(request, metadata=[("authorization", f"Bearer {self.token}")], timeout=60, compression=compression) == b""

    async def forward(self, message: bytes, chunk: str) -> None:
        """Sends a Fluent message that must be acknowledged."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.fluent_port)
        writer.write(message)
        async with asyncio.timeout(60):
            assert msgpack.unpackb(await reader.readexactly(len(msgpack.packb({"ack": chunk})))) == {"ack": chunk}
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def run_replica(settings: IngestSettings, auth: RunningAuth) -> AsyncIterator[Replica]:
    """Runs an ingest process."""
    settings = settings.model_copy(update={"addresses": Addresses(auth=auth.address), "port_offset": free_offset()})
    async with build(settings) as application:
        tasks = [asyncio.ensure_future(work()) for work in application.background]
        for server in application.extra_servers:
            await server.start()
        async with (
            httpx.AsyncClient(transport=httpx.ASGITransport(application.http[0].application), base_url="http://ingest") as web,
            grpc.aio.insecure_channel(f"127.0.0.1:{settings.port('ingest', 'otlp_grpc')}") as otlp,
        ):
            yield Replica(web, auth.credentials.ingest_token, otlp, settings.port("ingest", "fluent"))
        for server in application.extra_servers:
            await server.stop(1.0)
        await cancel_tasks(tasks)


@pytest.fixture
async def replicas(settings: IngestSettings, running_auth: RunningAuth) -> AsyncIterator[list[Replica]]:
    """Two of them."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(run_replica(settings, running_auth)) for _ in range(2)]


Sending = Callable[[Replica], Awaitable[None]]


def posted(path: str, content_type: str, *bodies: bytes) -> list[Sending]:
    """Returns ways to send the same events over HTTP: each body plain, compressed and in pieces."""
    ways: list[Sending] = []
    for body in bodies:
        members = gzip.compress(body[:9]) + gzip.compress(body[9:], 1)
        ways += [
            partial(Replica.post, path=path, body=body, content_type=content_type),
            partial(Replica.post, path=path, body=gzip.compress(body), content_type=content_type, encoding="gzip"),
            partial(Replica.post, path=path, body=members, content_type=content_type, encoding="gzip"),
            partial(Replica.post_in_pieces, path=path, body=body, content_type=content_type),
        ]
    return ways


def hec(texts: list[str]) -> list[Sending]:
    """Envelopes behind each other, with and without space between."""
    events = [json.dumps({"time": TIME // 10**9 + number, "source": "s", "event": text}).encode() for number, text in enumerate(texts)]
    return posted("/services/collector", "application/json", b"".join(events), b"\n".join(events), b" \r\n\t".join(events) + b"\n")


def otlp(texts: list[str]) -> list[Sending]:
    """An export over gRPC and HTTP, in protobuf and JSON."""
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for number, text in enumerate(texts):
        record = records.add()
        record.time_unix_nano, record.body.string_value, record.trace_id = TIME + number, text, bytes(range(16))
    protobuf = request.SerializeToString()
    as_json = orjson.loads(MessageToJson(request))
    for record in as_json["resourceLogs"][0]["scopeLogs"][0]["logRecords"]:
        record["traceId"] = bytes(range(16)).hex()  # OTLP's own form
    return [
        *posted("/v1/logs", "application/x-protobuf", protobuf),
        *posted("/v1/logs", "application/json", orjson.dumps(as_json), json.dumps(as_json, indent=2).encode()),
        partial(Replica.export, request=protobuf, compression=grpc.Compression.NoCompression),
        partial(Replica.export, request=protobuf, compression=grpc.Compression.Gzip),
    ]


def loki(texts: list[str]) -> list[Sending]:
    """A push in JSON."""
    values = [[str(TIME + number), text] for number, text in enumerate(texts)]
    body = {"streams": [{"stream": {"service_name": "s"}, "values": values}]}
    return posted("/loki/api/v1/push", "application/json", orjson.dumps(body), json.dumps(body, indent=1).encode())


def bulk(texts: list[str]) -> list[Sending]:
    """Documents with ids, cut into other requests by every way."""
    lines = [b'{"create":{"_id":"%s"}}\n{"message":"%s"}\n' % (text.encode(), text.encode()) for text in texts]
    bodies = [b"".join(lines), b"".join(reversed(lines)), b"".join(lines + lines[:2])]
    ways = [way for body in bodies for way in posted("/_bulk", "application/x-ndjson", body)]

    async def one_by_one(replica: Replica) -> None:
        for line in lines:
            await replica.post("/_bulk", line, "application/x-ndjson")

    return [*ways, one_by_one]


def fluent(texts: list[str]) -> list[Sending]:
    """A chunk in every mode of the protocol."""
    chunk = texts[0]
    entries = [[TIME // 10**9, {"message": text}] for text in texts]
    packed = b"".join(msgpack.packb(entry) for entry in entries)
    messages = [
        msgpack.packb(["s", entries, {"chunk": chunk}]),
        msgpack.packb(["s", packed, {"chunk": chunk}]),
        msgpack.packb(["s", gzip.compress(packed), {"chunk": chunk, "compressed": "gzip"}]),
    ]
    return [partial(Replica.forward, message=message, chunk=chunk) for message in messages]


@pytest.mark.parametrize("protocol", [hec, otlp, loki, bulk, fluent])
async def test_a_request_that_races_with_itself_on_another_replica_counts_once(
    replicas: list[Replica], pool: asyncpg.Pool[Any], protocol: Callable[[list[str]], list[Sending]]
) -> None:
    expected: Counter[str] = Counter()
    for number in range(ROUNDS):
        texts = [f"{protocol.__name__} round {number} event {event}" for event in range(EVENTS)]
        expected.update(texts)
        sendings = protocol(texts)
        # Each way goes to both at once, and every way at the same time as every other.
        await asyncio.gather(*(sending(replica) for sending in sendings for replica in replicas))
        await asyncio.gather(*(sending(replica) for sending in sendings[:2] for replica in replicas))
    events = await read_events(pool)
    assert Counter(event["body"] for event in events) == expected
    assert len({event["event_id"] for event in events}) == len(events)


async def test_a_snappy_block_is_the_request_that_it_was(replicas: list[Replica], pool: asyncpg.Pool[Any]) -> None:
    # PushRequest{streams{labels, entries{timestamp{seconds}, line}}}
    line = b"a line"
    entry = b"\x0a\x06\x08" + b"\x80\xe9\xf5\xd7\x06" + b"\x12" + bytes([len(line)]) + line
    labels = b'{service_name="s"}'
    stream = b"\x0a" + bytes([len(labels)]) + labels + b"\x12" + bytes([len(entry)]) + entry
    push = b"\x0a" + bytes([len(stream)]) + stream
    literal = bytes([len(push), (len(push) - 1) << 2 if len(push) <= 60 else 60 << 2]) + (b"" if len(push) <= 60 else bytes([len(push) - 1])) + push
    blocks = [bytes(cramjam.snappy.compress_raw(push)), literal]
    for block in blocks:
        assert bytes(cramjam.snappy.decompress_raw(block)) == push
    path, content_type = "/loki/api/v1/push", "application/x-protobuf"
    await asyncio.gather(*(replica.post(path, block, content_type) for block in blocks for replica in replicas))
    assert [event["body"] for event in await read_events(pool)] == ["a line"]
