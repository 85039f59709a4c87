"""Nothing that a sender writes leaves in the clear what the rules know: not into PostgreSQL, Valkey, logs or replies.

Secrets are put everywhere a sender can put text, through HEC, `_bulk`, Loki, OTLP and the API, each kind in each place; then every table of the database
(what is compressed is opened), all of Valkey, what the process wrote to its output, and all replies are searched for them.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import grpc
import httpx
import orjson
import pytest
import zstandard
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from redis.asyncio import Redis

from elis.ingest.v1 import ingest_pb2 as pb
from elis.ingest.v1 import ingest_pb2_grpc as rpc
from kit.errors import ElisError
from kit.server import Application, create_grpc_server
from services.ingest.settings import IngestSettings
from tests.fixtures.callers import Issuer
from tests.services.ingest.conftest import RunningIngest

SECRETS = {
    "eve.leak@example.com": "eve.leak@example.com",
    "4111111111111111": "4111111111111111",
    "DE89370400440532013000": "DE89370400440532013000",
    "AKIAIOSFODNN7EXAMPLE": "AKIAIOSFODNN7EXAMPLE",
    "s3cretPw": "postgres://app:s3cretPw@db.example/x",
    "Hunter2Hunter2": "password=Hunter2Hunter2",
    "0123456789abcdefghij": "Bearer 0123456789abcdefghij",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
}
"""What must not be found, and the text that it is sent in."""
_ZSTD = b"\x28\xb5\x2f\xfd"


def hec_requests(secret: str, now: int) -> Iterator[dict[str, Any]]:
    """Yields requests to the collector with a secret in every place."""
    agent = {"user-agent": f"agent {secret}", "x-elis-idempotency-key": secret.replace(" ", "_")}
    places = ("host", "source", "sourcetype", "index", "time")
    for place in places:
        yield {"url": "/services/collector/event", "content": orjson.dumps({"event": "ok", "time": now, place: secret}), "headers": agent}
    nested = {secret: {"deep": [secret, {secret: secret}]}, "n": 1, "password": [secret], "trace_id": secret, "level": secret, "service": secret}
    yield {"url": "/services/collector/event", "content": orjson.dumps({"event": nested, "time": now, "fields": {secret: secret, "x": [secret]}})}
    yield {"url": "/services/collector/event", "content": orjson.dumps({"event": secret, "time": now, "fields": {"environment": secret, "system": secret}})}
    yield {"url": "/services/collector/event", "content": orjson.dumps({"event": f'level={secret} msg="{secret}"', "time": now, secret: secret})}
    yield {"url": "/services/collector/event", "content": b'{"event": "' + secret.encode()}
    yield {"url": "/services/collector/event", "content": secret.encode(), "headers": {"content-encoding": secret.replace(" ", "_")}}
    yield {"url": "/services/collector/event", "content": gzip.compress(secret.encode())[:-4], "headers": {"content-encoding": "gzip"}}
    yield {"url": "/services/collector/event", "content": orjson.dumps({"event": secret + "x" * 1_100_000, "time": now}), "headers": {"user-agent": secret}}
    yield {"url": "/services/collector/raw", "content": f"{secret}\n<34>1 2026-01-01T00:00:00Z {secret} {secret} - - - {secret}".encode()}
    query = dict.fromkeys(("host", "source", "sourcetype", "index", "channel", "token", "environment", "system"), secret)
    yield {"url": "/services/collector/raw", "params": query, "content": secret.encode()}
    yield {"url": "/services/collector/event", "params": query, "content": orjson.dumps({"event": secret, "time": now})}
    yield {"url": f"/services/collector/{secret.replace('/', '_')}", "content": secret.encode()}
    yield {"url": "/services/collector/event", "content": b"{}", "headers": {"authorization": secret}}
    yield {"url": "/services/collector/event", "content": b"{}", "headers": {"authorization": f"Splunk {secret}"}}
    yield {"url": "/services/collector/ack", "params": {"channel": secret}, "content": orjson.dumps({"acks": [secret]})}


def push_requests(secret: str, now: int) -> Iterator[dict[str, Any]]:
    """Yields requests of `_bulk` and of Loki with a secret in every place; an index and an id are left out, which the protocol repeats to who sent them."""
    document = {"message": secret, "host": {"name": secret}, "service": {"name": secret, "environment": secret}, "log": {"level": secret}, secret: [secret]}
    lines = [{"create": {"_index": "shop"}}, document, {"create": {"_index": "shop"}}, {**document, "deep": json.loads("[" * 70 + f'"{secret}"' + "]" * 70)}]
    broken = b'{"create":{"_index":"shop"}}\n["' + secret.encode() + b'"]\n{"create":{"_index":"shop"}}\n{"' + secret.encode() + b"\n"
    bulk = {"content-type": "application/x-ndjson", "user-agent": f"agent {secret}", "x-opaque-id": secret}
    yield {"url": "/_bulk", "content": b"".join(orjson.dumps(line) + b"\n" for line in lines) + broken, "headers": bulk}
    yield {"url": "/_bulk", "content": secret.encode(), "headers": bulk, "params": {"filter_path": secret, "pipeline": secret}}
    yield {"url": "/_bulk", "content": b"{}", "headers": {"content-type": secret, "content-encoding": secret}}
    labels = dict.fromkeys(("service_name", "host", "level", "trace_id", "env", "a"), secret)
    streams = [{"stream": labels, "values": [[str(now), secret, {secret: secret, "b": secret}], [str(now), f"level={secret} a={secret}"]]}]
    loki = {"content-type": "application/json", "user-agent": f"agent {secret}", "x-scope-orgid": secret}
    yield {"url": "/loki/api/v1/push", "content": orjson.dumps({"streams": streams}), "headers": loki}
    yield {"url": "/loki/api/v1/push", "content": orjson.dumps({"streams": [{"stream": labels, "values": [[f"{secret} x", secret]]}]}), "headers": loki}
    yield {"url": "/loki/api/v1/push", "content": secret.encode(), "headers": loki}


def otlp_logs(secret: str, now: int) -> ExportLogsServiceRequest:
    """Returns logs with a secret in every place."""
    request = ExportLogsServiceRequest()
    for body in (secret, "plain"):
        resource = request.resource_logs.add()
        for name in ("service.name", "host.name", "deployment.environment", "service.namespace", secret):
            resource.resource.attributes.add(key=name).value.string_value = secret
        scope = resource.scope_logs.add()
        scope.scope.name = scope.scope.version = secret
        record = scope.log_records.add(time_unix_nano=now, severity_text=secret, event_name=secret, trace_id=secret.encode()[:16], span_id=b"12345678")
        record.body.string_value = body
        record.attributes.add(key="list").value.array_value.values.add().string_value = secret
        record.attributes.add(key="map").value.kvlist_value.values.add(key=secret).value.string_value = secret
    return request


def otlp_spans(secret: str, now: int) -> ExportTraceServiceRequest:
    """Returns spans with a secret in every place."""
    request = ExportTraceServiceRequest()
    for number, name in enumerate((secret, f"other {secret}")):
        resource = request.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = name
        span = resource.scope_spans.add().spans.add(name=secret, start_time_unix_nano=now, end_time_unix_nano=now + 5, kind=3 if number == 0 else 2)
        span.trace_id, span.span_id, span.parent_span_id = b"t" * 16, bytes([number + 1] * 8), bytes([number] * 8)
        for key in ("peer.service", "db.system", "server.address", secret):
            span.attributes.add(key=key).value.string_value = secret
    return request


def api_requests(secret: str, now: int) -> Iterator[pb.IngestEventsRequest]:
    """Yields requests of the API with a secret in every place; some are refused for it."""
    record = pb.Record(time_unix_nano=now, body=secret, host=secret, service=secret, severity_text=secret)
    record.attributes_json = orjson.dumps({secret: secret, "db.password": secret, "card": 4111111111111111})
    yield pb.IngestEventsRequest(source=secret, environment=secret, idempotency_key=secret, records=[record])
    for place in ("system", "format"):
        yield pb.IngestEventsRequest(source="shop", records=[record], **{place: secret})
    yield pb.IngestEventsRequest(source=secret * 20, records=[record])
    # Sixteen decimal digits are a span id, which stays as it is; any other text is none and is refused.
    for broken in ({"trace_id": secret}, {"span_id": secret + "0"}, {"attributes_json": secret.encode()}):
        yield pb.IngestEventsRequest(source="shop", records=[pb.Record(body="x", time_unix_nano=now, **broken)])


@pytest.fixture
async def channel(running_ingest: RunningIngest, issuer: Issuer) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the running ingest."""
    server = create_grpc_server(Application(servicers=running_ingest.application.servicers, verifier=issuer.verifier()))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with issuer.connect(f"127.0.0.1:{port}", "events:write", "events:read", "sources:read", "rejected:read") as channel:
        yield channel
    await server.stop(1.0)


async def send_all(ingest: RunningIngest, channel: grpc.aio.Channel, now: int) -> AsyncIterator[tuple[str, bytes]]:
    """Sends every secret to every place; yields what was answered, with the name of who did."""
    splunk = {"authorization": f"Splunk {ingest.token}"}
    otlp = httpx.AsyncClient(transport=httpx.ASGITransport(ingest.application.http[1].application), base_url="http://ingest")
    stub = rpc.IngestServiceStub(channel)
    for text in SECRETS.values():
        for request in (*hec_requests(text, now), *push_requests(text, now)):
            response = await ingest.web.post(**{**request, "headers": {**splunk, **request.get("headers", {})}})
            yield request["url"], response.content + repr(response.headers.raw).encode()
        for path, message in (("/v1/logs", otlp_logs(text, now)), ("/v1/traces", otlp_spans(text, now)), ("/v1/logs", None)):
            for kind in ("application/x-protobuf", text.partition(" ")[0]):
                headers = {**splunk, "content-type": kind, "user-agent": text}
                response = await otlp.post(path, content=message.SerializeToString() if message else text.encode(), headers=headers)
                yield f"otlp {path}", response.content + repr(response.headers.raw).encode()
        async with grpc.aio.insecure_channel(ingest.otlp_grpc_address) as plain:
            export: Any = plain.unary_unary("/opentelemetry.proto.collector.logs.v1.LogsService/Export")
            for content in (otlp_logs(text, now + 1).SerializeToString(), text.encode()):
                try:
                    yield "otlp grpc", await export(content, metadata=(("authorization", f"Bearer {ingest.token}"),), timeout=20)
                except grpc.aio.AioRpcError as error:
                    yield "otlp grpc", repr((error.details(), error.trailing_metadata())).encode()
        for call in api_requests(text, now):
            try:
                yield "api", (await stub.IngestEvents(call)).SerializeToString()
            except ElisError as error:
                yield "api", repr((error.message, error.detail)).encode()
    await otlp.aclose()


async def dump(database_url: str) -> AsyncIterator[tuple[str, bytes]]:
    """Yields every row of every table that is not PostgreSQL's own, with what is compressed in it opened."""
    connection = await asyncpg.connect(database_url)
    tables = await connection.fetch(
        """
        SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables
        WHERE schemaname NOT IN ('pg_catalog', 'information_schema', 'auth') AND tablename NOT LIKE 'alembic%'
        """
    )
    for table in tables:
        for row in await connection.fetch(f"SELECT * FROM {table['name']}"):
            for column, value in row.items():
                content = bytes(value) if isinstance(value, bytes) else repr(value).encode()
                if content.startswith(_ZSTD):
                    content += zstandard.ZstdDecompressor().decompress(content, max_output_size=2**26)
                yield f"{table['name']}.{column}", content
    await connection.close()


async def test_no_secret_is_found_anywhere(
    running_ingest: RunningIngest,
    channel: grpc.aio.Channel,
    settings: IngestSettings,
    capfd: pytest.CaptureFixture[str],
) -> None:
    now = 1_790_000_000_000_000_000
    found: dict[str, set[str]] = {}

    def search(place: str, content: bytes) -> None:
        lower = content.lower()
        for secret in SECRETS:
            if secret.lower().encode() in lower:
                found.setdefault(place, set()).add(secret)

    async for place, reply in send_all(running_ingest, channel, now):
        search(f"reply of {place}", reply)
    tables = set()
    database = settings.database_url.get_secret_value()
    connection = await asyncpg.connect(database)
    while not await connection.fetchval("SELECT count(*) FROM ingest.sources"):
        await connection.execute("SELECT pg_sleep(0.1)")
    await connection.close()
    async for place, content in dump(database):
        tables.add(place.rpartition(".")[0])
        search(place, content)
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        async for key in redis.scan_iter():
            search("valkey", key + (await redis.dump(key) or b""))
    search("output", "".join(capfd.readouterr()).encode())
    assert found == {}
    assert {"ingest.blocks", "ingest.sources", "ingest.rejected_events", "ingest.feed", "ingest.request_digests"} <= tables
