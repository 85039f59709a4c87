"""What many, slow and huge requests may take from others: bytes in work are bounded, and no sender is in the way of the rest."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import asyncpg
import cramjam
import grpc
import httpx
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from kit import web
from services.ingest import intake
from services.ingest.receivers import bodies, otlp_reads
from services.ingest.settings import MEBIBYTE, IngestSettings
from tests.services.ingest.conftest import RunningIngest
from tests.services.ingest.receivers.web import serve_web, stored_events

ROOM = 4 * MEBIBYTE
BODY = 2 * MEBIBYTE
GOOD = b'{"event":"good one"}'
BULK = b'{"create":{}}\n{"message":"good two"}\n'
LOKI = b'{"streams":[{"stream":{"service_name":"s"},"values":[["1795000000000000000","good three"]]}]}'
OTLP = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"good four"}}]}]}]}'
WAYS = {
    "/services/collector": ("application/json", GOOD, 200, 503),
    "/services/collector/raw": ("text/plain", b"good five", 200, 503),
    "/_bulk": ("application/x-ndjson", BULK, 200, 429),
    "/loki/api/v1/push": ("application/json", LOKI, 204, 429),
    "/v1/logs": ("application/json", OTLP, 200, 503),
}
"""Path to content type, a body with one event, the status of success and that of a refusal which is tried again."""
EVENTS = {f"good {name}" for name in ("one", "two", "three", "four", "five")}


@pytest.fixture
def settings(settings: IngestSettings) -> IngestSettings:
    """Settings with little room."""
    return settings.model_copy(update={"max_pending_bytes": ROOM, "max_body_bytes": BODY, "otlp_message_bytes": MEBIBYTE})


def head(path: str, token: str, *headers: str) -> bytes:
    """Returns the head of a request."""
    content_type = WAYS[path][0]
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", f"Content-Type: {content_type}", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


@asynccontextmanager
async def connect(address: tuple[str, int]) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Yields a connection that ends with the block."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def read_reply(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Reads one whole reply; returns status and body."""
    async with asyncio.timeout(60):
        top = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = top.partition(b"content-length: ")[2].partition(b"\r")[0]
        return int(top.split()[1]), await reader.readexactly(int(length or 0))


async def send(address: tuple[str, int], path: str, token: str, body: bytes, *headers: str) -> tuple[int, bytes]:
    """Sends a request on a connection of its own; returns status and body of the reply."""
    async with connect(address) as (reader, writer):
        writer.write(head(path, token, f"Content-Length: {len(body)}", *headers) + body)
        return await read_reply(reader)


async def test_slow_senders_are_in_nobodys_way(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    token = running_ingest.token
    async with serve_web(running_ingest) as address, AsyncExitStack() as stack:
        for number in range(200):
            _, writer = await stack.enter_async_context(connect(address))
            path = list(WAYS)[number % len(WAYS)]
            framing = f"Content-Length: {BODY}" if number % 2 else "Transfer-Encoding: chunked"
            writer.write(head(path, token, framing) + (b"{" if number % 2 else b"1\r\n{\r\n"))
        for path, (_, body, success, _) in WAYS.items():
            assert (await send(address, path, token, body))[0] == success
    assert {event["body"] for event in await stored_events(pool)} == EVENTS


async def await_health(address: tuple[str, int], status: int) -> None:
    """Waits until the event collector says that it takes events, or that it does not."""
    async with httpx.AsyncClient(base_url=f"http://{address[0]}:{address[1]}") as client, asyncio.timeout(60):
        while (await client.get("/services/collector/health")).status_code != status:  # noqa: ASYNC110  there is no event for it
            await asyncio.sleep(0.01)


async def test_without_room_every_protocol_says_try_again(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    token = running_ingest.token
    async with serve_web(running_ingest) as address:
        async with AsyncExitStack() as stack:
            for _ in range(2):
                _, writer = await stack.enter_async_context(connect(address))
                writer.write(head("/services/collector/raw", token, f"Content-Length: {BODY}") + b"x" * (BODY - 1))
            await await_health(address, 503)
            for path, (_, body, _, refusal) in WAYS.items():
                assert (await send(address, path, token, body + b" " * MEBIBYTE))[0] == refusal
        await await_health(address, 200)  # who hangs up gives its room back
        for path, (_, body, success, _) in WAYS.items():
            assert (await send(address, path, token, body))[0] == success
    assert {event["body"] for event in await stored_events(pool)} == EVENTS


async def test_a_body_that_stops_coming_is_given_up(running_ingest: RunningIngest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.1)
    async with serve_web(running_ingest) as address:
        for path, (_, body, _, refusal) in WAYS.items():
            async with connect(address) as (reader, writer):
                writer.write(head(path, running_ingest.token, "Content-Length: 1000") + body)
                assert (await read_reply(reader))[0] == refusal


async def test_huge_bodies_are_refused_in_the_protocols_words(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    token = running_ingest.token
    bomb = gzip.compress(bytes(64 * MEBIBYTE))
    many = gzip.compress(b"") * 20_000
    chunk = b"%x\r\n" % (BODY // 2) + b" " * (BODY // 2) + b"\r\n"
    async with serve_web(running_ingest) as address:
        for path in WAYS:
            async with connect(address) as (reader, writer):  # refused by what it declares
                writer.write(head(path, token, "Content-Length: 99999999999"))
                assert (await read_reply(reader))[0] in (413, 429, 503)
            async with connect(address) as (reader, writer):  # declares nothing, and does not end
                writer.write(head(path, token, "Transfer-Encoding: chunked") + chunk * 3)
                assert (await read_reply(reader))[0] == 413
            assert (await send(address, path, token, bomb, "Content-Encoding: gzip"))[0] in (400, 413)
            assert (await send(address, path, token, many, "Content-Encoding: gzip"))[0] == 400
        snappy = head("/loki/api/v1/push", token).replace(b"application/json", b"application/x-protobuf")[:-2]
        for block in (bytes(cramjam.snappy.compress_raw(bytes(16 * MEBIBYTE))), b"\xff\xff\xff\xff\x0f" + b"x" * 100):
            async with connect(address) as (reader, writer):
                writer.write(snappy + b"Content-Length: %d\r\n\r\n" % len(block) + block)
                assert (await read_reply(reader))[0] == 413
    assert await stored_events(pool) == []


async def test_idle_and_half_open_connections_take_nobodys_place(
    running_ingest: RunningIngest, pool: asyncpg.Pool[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "MAX_CONNECTIONS", 100)
    async with serve_web(running_ingest) as address, AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(connect(address)) for _ in range(300)]
        for path, (_, body, success, _) in WAYS.items():
            assert (await send(address, path, running_ingest.token, body))[0] == success
        for reader, _ in idle[:150]:  # the oldest went first
            async with asyncio.timeout(60):
                with suppress(ConnectionResetError):
                    assert await reader.read() == b""
    assert {event["body"] for event in await stored_events(pool)} == EVENTS


async def test_a_head_that_does_not_end_is_given_up(running_ingest: RunningIngest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "HEAD_SECONDS", 0.1)
    async with serve_web(running_ingest) as address, connect(address) as (reader, writer):
        writer.write(b"POST /services/collector HTTP/1.1\r\nX: ")
        async with asyncio.timeout(60):
            assert await reader.read() == b""


async def test_a_sender_that_closed_its_side_gets_its_reply(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    async with serve_web(running_ingest) as address:
        for path, (_, body, success, _) in WAYS.items():
            async with connect(address) as (reader, writer):
                request = head(path, running_ingest.token, f"Content-Length: {len(body)}") + body
                writer.write(request * 2)  # pipelined: both are answered
                writer.write_eof()
                assert (await read_reply(reader))[0] == success
                assert (await read_reply(reader))[0] == success
                assert await reader.read() == b""
    assert {event["body"] for event in await stored_events(pool)} == EVENTS


async def test_records_that_wait_for_their_commit_are_bounded(running_ingest: RunningIngest, pool: asyncpg.Pool[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MAX_PENDING_RECORDS", 10)
    token, events = running_ingest.token, GOOD * 8
    async with serve_web(running_ingest) as address:
        requests = [f'{{"event":"first {number}"}}'.encode() + events for number in range(20)]
        replies = await asyncio.gather(*(send(address, "/services/collector", token, body) for body in requests))
        assert {status for status, _ in replies} <= {200, 503}
        stored = {f"first {number}" for number, (status, _) in enumerate(replies) if status == 200}
        assert len(stored) > 0
        assert (await send(address, "/services/collector", token, b'{"event":"one"}' * 100))[0] == 200  # alone, whatever its size
    assert {event["body"] for event in await stored_events(pool) if event["body"].startswith("first")} == stored


def message(size: int) -> bytes:
    """Returns an export request whose one record has a text of that size."""
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    record.body.string_value, record.time_unix_nano = "x" * size, 1_795_000_000_000_000_000
    return request.SerializeToString()


async def test_grpc_reads_few_messages_at_once_and_slow_ones_last(
    running_ingest: RunningIngest, pool: asyncpg.Pool[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp_reads, "FAIR_SECONDS", 0.02)
    metadata = [("authorization", f"Bearer {running_ingest.token}")]
    path = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
    async with grpc.aio.insecure_channel(running_ingest.otlp_grpc_address) as channel:
        export: Any = channel.unary_unary(path)
        # Calls that never send their message: as many as would take every turn.
        silent: list[Any] = [channel.stream_unary(path)(metadata=metadata) for _ in range(60)]
        await asyncio.gather(*(call.wait_for_connection() for call in silent))
        assert await export(message(10), metadata=metadata, timeout=60) == b""
        for size, compression, code in (
            (3 * MEBIBYTE, grpc.Compression.NoCompression, grpc.StatusCode.RESOURCE_EXHAUSTED),
            (64 * MEBIBYTE, grpc.Compression.Gzip, grpc.StatusCode.RESOURCE_EXHAUSTED),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await export(message(size), metadata=metadata, timeout=60, compression=compression)
            assert refused.value.code() is code
        for call in silent:
            call.cancel()
    assert [event["body"] for event in await stored_events(pool)] == ["x" * 10]


async def test_a_call_without_a_message_is_refused_for_good(running_ingest: RunningIngest) -> None:
    async with grpc.aio.insecure_channel(running_ingest.otlp_grpc_address) as channel:
        call: Any = channel.stream_unary("/opentelemetry.proto.collector.logs.v1.LogsService/Export")(
            metadata=[("authorization", f"Bearer {running_ingest.token}")], timeout=60
        )
        await call.done_writing()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_million_fields_and_deep_json_leave_ingest_serving(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    token = running_ingest.token
    deep = b"[" * 40_000 + b"]" * 40_000
    wide = b"{" + b",".join(b'"%d":1' % number for number in range(150_000)) + b"}"
    async with serve_web(running_ingest) as address:
        for content in (deep, wide):
            requests = {
                "/services/collector": b'{"event":' + content + b"}",
                "/services/collector/raw": content,
                "/_bulk": b'{"create":{}}\n{"message":"m","deep":' + content + b"}\n",
                "/loki/api/v1/push": b'{"streams":[{"stream":{"a":"b"},"values":[["1","m",' + content + b"]]}]}",
                "/v1/logs": OTLP[:-1] + b',"deep":' + content + b"}",
            }
            for path, body in requests.items():
                assert (await send(address, path, token, body))[0] in (200, 204, 400)
        for path, (_, body, success, _) in WAYS.items():
            assert (await send(address, path, token, body))[0] == success
    assert all(json.loads(json.dumps(event)) == event for event in await stored_events(pool))
