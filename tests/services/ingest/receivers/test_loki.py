"""Loki's push API of a running ingest: its replies, and unmodified clients."""

from __future__ import annotations

import asyncio
import gzip
import logging
import time
from typing import Any

import asyncpg
import cramjam
import httpx
import orjson
from logging_loki import LokiHandler

from tests.services.ingest.conftest import RunningIngest
from tests.services.ingest.receivers.test_loki_push import protobuf_body
from tests.services.ingest.receivers.web import serve_web, stored_events

PUSH = "/loki/api/v1/push"


def body_of(*lines: str, labels: dict[str, str] | None = None, first: int = 0) -> bytes:
    """Returns a JSON push of one stream."""
    start = 1_795_510_800_000_000_000 + first
    values = [[str(start + number), line] for number, line in enumerate(lines)]
    return orjson.dumps({"streams": [{"stream": labels or {"job": "varlogs", "host": "web-1"}, "values": values}]})


async def post(ingest: RunningIngest, body: bytes, **headers: str) -> httpx.Response:
    """Pushes with the valid token."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await ingest.web.post(PUSH, content=body, headers={"authorization": f"Bearer {ingest.token}", "content-type": "application/json", **given})


async def test_a_push_is_answered_without_content_and_a_resent_one_changes_nothing(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    body = body_of("a", "b")
    for headers, content in [({}, body), ({"content_encoding": "gzip"}, gzip.compress(body)), ({"content_type": "application/json; charset=utf-8"}, body)]:
        response = await post(running_ingest, content, x_scope_orgid="team-a", **headers)
        assert (response.status_code, response.content) == (204, b"")
    events = await stored_events(pool)
    assert [event["body"] for event in events] == ["a", "b"]
    assert events[0] | {"event_id": 0, "observed_at": 0, "fingerprint": ""} == {
        "event_id": 0,
        "timestamp": 1_795_510_800_000_000_000,
        "observed_at": 0,
        "source": "varlogs",
        "system": "application",
        "severity_number": 0,
        "fingerprint": "",
        "body": "a",
        "environment": "production",
        "host": "web-1",
        "attributes": {"job": "varlogs", "loki.tenant": "team-a"},
    }


async def test_snappy_protobuf_is_taken_with_and_without_its_header(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    for number, headers in enumerate([{}, {"content_encoding": "snappy"}]):
        raw = protobuf_body(b'{job="varlogs"}', (1_795_510_800_000_000_000 + number, b"line", {b"k": b"v"}))
        response = await post(running_ingest, bytes(cramjam.snappy.compress_raw(raw)), content_type="application/x-protobuf", **headers)
        assert (response.status_code, response.content) == (204, b"")
    assert [(event["body"], event["attributes"]) for event in await stored_events(pool)] == [("line", {"job": "varlogs", "k": "v"})] * 2


async def test_empty_pushes_are_a_success(running_ingest: RunningIngest) -> None:
    assert (await post(running_ingest, b'{"streams":[]}')).status_code == 204
    assert (await post(running_ingest, bytes(cramjam.snappy.compress_raw(b"")), content_type="application/x-protobuf")).status_code == 204


async def test_errors_are_plain_text_of_lokis_status(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    protobuf = {"content_type": "application/x-protobuf"}
    bomb = b"\xff\xff\xff\xff\x0f" + b"\xfe\x01\x00" * 1_000
    cases: list[tuple[bytes, dict[str, str], int]] = [
        (b"", {}, 400),
        (b"{", {}, 400),
        (b'{"streams":[{"stream":{},"values":[[1795510800000000000,"a number"]]}]}', {}, 400),
        (body_of("x"), {"content_type": "text/plain"}, 400),
        (b"", protobuf, 400),
        (b"not snappy", protobuf, 400),
        (bomb, protobuf, 413),
        (gzip.compress(body_of("x"))[:-9], {"content_encoding": "gzip"}, 400),
        (gzip.compress(bytes(64 * 1024 * 1024)), {"content_encoding": "gzip"}, 413),
        (body_of("x"), {"content_encoding": "br"}, 400),
        (body_of("x"), {"x_scope_orgid": "a|b"}, 400),
        (body_of("x"), {"x_scope_orgid": "a" * 200}, 400),
        (body_of("x"), {"authorization": "Bearer 00000000-0000-0000-0000-000000000000"}, 403),
        (body_of("x"), {"authorization": "nothing"}, 401),
    ]
    for body, headers, status in cases:
        response = await post(running_ingest, body, **headers)
        assert response.status_code == status, (body[:40], headers, response.text)
        assert response.headers["content-type"].startswith("text/plain")
        assert response.text.endswith("\n")
    assert await stored_events(pool) == []


async def test_ready_is_told_to_anyone(running_ingest: RunningIngest) -> None:
    response = await running_ingest.web.get("/ready")
    assert (response.status_code, response.text) == (200, "ready\n")


async def test_otlp_is_taken_where_loki_takes_it(running_ingest: RunningIngest) -> None:
    headers = {"authorization": f"Bearer {running_ingest.token}", "content-type": "application/x-protobuf"}
    assert (await running_ingest.web.post("/otlp/v1/logs", content=b"", headers=headers)).status_code == 200


async def test_the_handler_of_python_logging(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    def log(host: str, port: int) -> None:
        handler = LokiHandler(f"http://{host}:{port}{PUSH}", tags={"application": "billing"}, auth=("elis", running_ingest.token))
        failures: list[logging.LogRecord] = []
        handler.handleError = failures.append
        logger = logging.Logger("billing")
        logger.addHandler(handler)
        logger.error("card of order %d refused", 17, extra={"tags": {"env": "staging"}})
        logger.info("done")
        handler.close()
        assert failures == []

    async with serve_web(running_ingest) as (host, port):
        await asyncio.to_thread(log, host, port)
    first, second = await stored_events(pool)
    assert (first["source"], first["service"], first["severity_number"], first["environment"]) == ("billing", "billing", 17, "staging")
    assert (first["body"], second["body"]) == ("card of order 17 refused", "done")
    assert abs(first["timestamp"] - time.time_ns()) < 600 * 1_000_000_000


async def test_a_sender_that_hangs_up_leaves_nothing_behind(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    async with serve_web(running_ingest) as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        head = f"POST {PUSH} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {running_ingest.token}\r\nContent-Type: application/json\r\n"
        writer.write(head.encode() + b"Content-Length: 100000\r\n\r\n" + body_of("lost"))
        writer.write_eof()  # half closed: it still reads
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
            headers = {"authorization": f"Bearer {running_ingest.token}", "content-type": "application/json"}
            assert (await client.post(PUSH, content=body_of("kept"), headers=headers)).status_code == 204
    assert [event["body"] for event in await stored_events(pool)] == ["kept"]


async def test_who_wants_to_read_is_told_where(running_ingest: RunningIngest) -> None:
    for method, path in (("GET", "/loki/api/v1/labels"), ("GET", "/loki/api/v1/query_range?query=%7B%7D"), ("POST", "/loki/api/v1/query")):
        response = await running_ingest.web.request(method, path)
        assert (response.status_code, "read events through its GraphQL API" in response.text) == (404, True)
