"""The protocols that the canary sends through, each as its agents send it: one event a request, acknowledged if the protocol can."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import grpc
import httpx
import msgpack
import orjson
from msgspec import Struct
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub

from kit.errors import PermissionDenied, Unavailable

SOURCE: Final = "elis-canary"
SEND_SECONDS: Final = 10.0
_SECOND: Final = 1_000_000_000


class CanaryCredentials(Struct, frozen=True):
    """The part of a credentials file that the canary needs."""

    graphql_url: str
    admin_api_key: str
    ingest_token: str
    hec_url: str
    otlp_http_url: str
    otlp_grpc_address: str
    syslog_address: str
    fluent_address: str


Send = Callable[[str, int], Awaitable[None]]
"""Sends one event: its text and its time (nanoseconds since 1970). Returns when it is acknowledged; raises Unavailable."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """A way in."""

    name: str
    acknowledges: bool
    """Whether the protocol says that an event is safe; without, an event that was sent may be lost on the way."""
    open: Callable[[CanaryCredentials, AsyncExitStack], Awaitable[Send]]


async def _open_http(
    stack: AsyncExitStack, url: str, headers: dict[str, str], encode: Callable[[str, int], bytes], accepts: Callable[[httpx.Response], bool]
) -> Send:
    client = await stack.enter_async_context(httpx.AsyncClient(timeout=SEND_SECONDS, trust_env=False, headers={"User-Agent": "elis-canary", **headers}))

    async def send(text: str, at: int) -> None:
        try:
            response = await client.post(url, content=encode(text, at))
        except httpx.TransportError as error:
            raise Unavailable(f"{url}: {type(error).__name__}") from None
        if not accepts(response):
            raise Unavailable(f"{url}: status {response.status_code}: {response.text[:200]}")

    return send


async def _open_hec(credentials: CanaryCredentials, stack: AsyncExitStack) -> Send:
    def encode(text: str, at: int) -> bytes:
        return orjson.dumps({"time": f"{at // _SECOND}.{at % _SECOND:09d}", "source": SOURCE, "event": text})

    headers = {"Authorization": f"Splunk {credentials.ingest_token}"}
    return await _open_http(stack, f"{credentials.hec_url}/services/collector/event", headers, encode, lambda response: response.status_code == 200)


async def _open_bulk(credentials: CanaryCredentials, stack: AsyncExitStack) -> Send:
    def encode(text: str, at: int) -> bytes:
        document = orjson.dumps({"@timestamp": datetime.fromtimestamp(at / _SECOND, UTC).isoformat(), "message": text, "service": {"name": SOURCE}})
        return b'{"create":{"_index":"%s"}}\n%s\n' % (SOURCE.encode(), document)

    key = base64.b64encode(f"canary:{credentials.ingest_token}".encode()).decode()
    headers = {"Authorization": f"ApiKey {key}", "Content-Type": "application/x-ndjson"}
    return await _open_http(stack, f"{credentials.hec_url}/_bulk", headers, encode, lambda response: b'"errors":false' in response.content)


async def _open_loki(credentials: CanaryCredentials, stack: AsyncExitStack) -> Send:
    def encode(text: str, at: int) -> bytes:
        return orjson.dumps({"streams": [{"stream": {"service_name": SOURCE}, "values": [[str(at), text]]}]})

    headers = {"Authorization": f"Bearer {credentials.ingest_token}", "Content-Type": "application/json"}
    return await _open_http(stack, f"{credentials.hec_url}/loki/api/v1/push", headers, encode, lambda response: response.status_code == 204)


async def _open_graphql(credentials: CanaryCredentials, stack: AsyncExitStack) -> Send:
    mutation = "mutation($source: String!, $events: [EventInput!]!) { ingest(source: $source, events: $events) { accepted } }"

    def encode(text: str, at: int) -> bytes:
        event = {"body": text, "timestamp": datetime.fromtimestamp(at / _SECOND, UTC).isoformat()}
        return orjson.dumps({"query": mutation, "variables": {"source": SOURCE, "events": [event]}})

    headers = {"Authorization": f"Bearer {credentials.admin_api_key}", "Content-Type": "application/json"}
    return await _open_http(stack, credentials.graphql_url, headers, encode, lambda response: b'"accepted":1' in response.content.replace(b" ", b""))


def _export(text: str, at: int) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    attribute = resource.resource.attributes.add()
    attribute.key, attribute.value.string_value = "service.name", SOURCE
    record = resource.scope_logs.add().log_records.add()
    record.time_unix_nano, record.body.string_value = at, text
    return request


async def _open_otlp_http(credentials: CanaryCredentials, stack: AsyncExitStack) -> Send:
    headers = {"Authorization": f"Bearer {credentials.ingest_token}", "Content-Type": "application/x-protobuf"}
    url = f"{credentials.otlp_http_url}/v1/logs"
    return await _open_http(stack, url, headers, lambda text, at: _export(text, at).SerializeToString(), lambda response: response.status_code == 200)


async def _open_otlp_grpc(credentials: CanaryCredentials, stack: AsyncExitStack) -> Send:
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(credentials.otlp_grpc_address))
    exporter: Any = LogsServiceStub(channel)

    async def send(text: str, at: int) -> None:
        try:
            await exporter.Export(_export(text, at), metadata=[("authorization", f"Bearer {credentials.ingest_token}")], timeout=SEND_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise Unavailable(f"{credentials.otlp_grpc_address}: {error.code().name}: {error.details()}") from None

    return send


Greet = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class _Connection:
    """A TCP connection that is opened again when it broke."""

    def __init__(self, address: str, greet: Greet | None = None) -> None:
        """`greet` does what a protocol wants at the start of a connection."""
        self.address = address
        self._greet = greet
        host, _, port = address.rpartition(":")
        self._host, self._port = host, int(port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def exchange(self, data: bytes, read: Callable[[asyncio.StreamReader], Awaitable[None]] | None) -> None:
        """Writes, and reads an answer if there is one; raises Unavailable."""
        try:
            async with asyncio.timeout(SEND_SECONDS):
                if self._streams is None or self._streams[0].at_eof():
                    self._streams = await asyncio.open_connection(self._host, self._port)
                    if self._greet is not None:
                        await self._greet(*self._streams)
                reader, writer = self._streams
                writer.write(data)
                await writer.drain()
                if read is not None:
                    await read(reader)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            await self.close()
            raise Unavailable(f"{self.address}: {type(error).__name__}") from None

    async def close(self) -> None:
        """Closes the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _syslog_message(text: str, at: int) -> bytes:
    stamp = datetime.fromtimestamp(at / _SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return f"<14>1 {stamp} localhost {SOURCE} - - - {text}".encode()


async def _open_syslog_tcp(credentials: CanaryCredentials, stack: AsyncExitStack) -> Send:
    connection = _Connection(credentials.syslog_address)
    stack.push_async_callback(connection.close)

    async def send(text: str, at: int) -> None:
        message = _syslog_message(text, at)
        await connection.exchange(b"%d %s" % (len(message), message), None)

    return send


async def _open_syslog_udp(credentials: CanaryCredentials, stack: AsyncExitStack) -> Send:
    host, _, port = credentials.syslog_address.rpartition(":")
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=(host, int(port)))
    stack.callback(transport.close)

    async def send(text: str, at: int) -> None:
        transport.sendto(_syslog_message(text, at))

    return send


async def _open_fluent(credentials: CanaryCredentials, stack: AsyncExitStack) -> Send:
    key = os.environ.get("ELIS_FLUENT_SHARED_KEY", "")
    user, _, password = os.environ.get("ELIS_FLUENT_USERS", "").partition(",")[0].strip().partition(":")

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        helo = await _read_packed(reader)
        if not isinstance(helo, list) or helo[0] != b"HELO":
            raise Unavailable(f"{credentials.fluent_address}: no greeting; ELIS has no shared key, so unset ELIS_FLUENT_SHARED_KEY")
        salt = secrets.token_bytes(16)
        proof = hashlib.sha512(salt + SOURCE.encode() + helo[1][b"nonce"] + key.encode()).hexdigest()
        word = hashlib.sha512(helo[1][b"auth"] + user.encode() + password.encode()).hexdigest()
        writer.write(msgpack.packb(["PING", SOURCE, salt, proof, user, word]))
        pong = await _read_packed(reader)
        if not pong[1]:
            raise PermissionDenied(f"Fluent: {pong[2].decode()}; set ELIS_FLUENT_SHARED_KEY and ELIS_FLUENT_USERS as ELIS has them")

    connection = _Connection(credentials.fluent_address, greet if key else None)
    stack.push_async_callback(connection.close)

    async def send(text: str, at: int) -> None:
        chunk = base64.b64encode(f"{text} {at}".encode()).decode()
        event_time = msgpack.ExtType(0, (at // _SECOND).to_bytes(4, "big") + (at % _SECOND).to_bytes(4, "big"))

        async def read(reader: asyncio.StreamReader) -> None:
            answer = await _read_packed(reader)
            if isinstance(answer, list):
                raise PermissionDenied("Fluent: ELIS asks for its shared key; set ELIS_FLUENT_SHARED_KEY as ELIS has it")
            if answer.get(b"ack") != chunk.encode():
                raise Unavailable(f"{connection.address}: another chunk was acknowledged")

        await connection.exchange(msgpack.packb([SOURCE, event_time, {"message": text}, {"chunk": chunk}]), read)

    return send


async def _read_packed(reader: asyncio.StreamReader) -> Any:
    """Returns the next MessagePack value, its texts as bytes."""
    unpacker = msgpack.Unpacker(raw=True, max_buffer_size=65_536)
    while (answer := next(iter(unpacker), None)) is None:
        data = await reader.read(4096)
        if not data:
            raise asyncio.IncompleteReadError(b"", None)
        unpacker.feed(data)
    return answer


PROTOCOLS: Final[dict[str, Protocol]] = {
    protocol.name: protocol
    for protocol in (
        Protocol("hec", acknowledges=True, open=_open_hec),
        Protocol("otlp-grpc", acknowledges=True, open=_open_otlp_grpc),
        Protocol("otlp-http", acknowledges=True, open=_open_otlp_http),
        Protocol("bulk", acknowledges=True, open=_open_bulk),
        Protocol("loki", acknowledges=True, open=_open_loki),
        Protocol("fluent", acknowledges=True, open=_open_fluent),
        Protocol("graphql", acknowledges=True, open=_open_graphql),
        Protocol("syslog-tcp", acknowledges=False, open=_open_syslog_tcp),
        Protocol("syslog-udp", acknowledges=False, open=_open_syslog_udp),
    )
}
"""Every way in by name."""


def now_ns() -> int:
    """Returns the time in whole microseconds, as nanoseconds since 1970: every protocol can carry that."""
    return time.time_ns() // 1_000 * 1_000
