"""Unmodified clients of the HTTP Event Collector against a running ingest, and what other agents are known to expect."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import time
from typing import Any

import aiohttp
import asyncpg
import httpx
import pytest
from hass_splunk import SplunkPayloadError, hass_splunk
from splunk_handler import SplunkHandler

from tests.services.ingest.conftest import RunningIngest
from tests.services.ingest.receivers.web import serve_web, stored_events


async def test_home_assistants_client(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    async with serve_web(running_ingest) as (host, port), aiohttp.ClientSession() as session:
        client = hass_splunk(session, running_ingest.token, host, port, use_ssl=False)
        assert await client.check()
        await client.queue({"time": time.time(), "host": "ha", "event": {"entity_id": "sensor.door", "state": "open"}}, send=False)
        assert await client.queue({"time": time.time(), "host": "ha", "event": {"entity_id": "sensor.door", "state": "closed"}})
        wrong = hass_splunk(session, "00000000-0000-0000-0000-000000000000", host, port, use_ssl=False)
        assert not await wrong.check()
        with pytest.raises(SplunkPayloadError) as caught:
            await wrong.queue({"event": "lost"})
        assert (caught.value.status, caught.value.code) == (403, 4)
    assert [event["host"] for event in await stored_events(pool)] == ["ha", "ha"]


async def test_splunk_handler_of_python_logging(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    def log(host: str, port: int) -> None:
        handler = SplunkHandler(
            host=host,
            port=port,
            token=running_ingest.token,
            index="main",
            source="billing",
            sourcetype="_json",
            protocol="http",
            verify=False,
            flush_interval=0,
            timeout=10,
            record_format=True,
        )
        logger = logging.Logger("billing")
        logger.addHandler(handler)
        logger.error({"message": "card refused", "order": 17})
        handler.close()

    async with serve_web(running_ingest) as (host, port):
        await asyncio.to_thread(log, host, port)
    [event] = await stored_events(pool)
    assert (event["source"], event["attributes"]["splunk.index"]) == ("billing", "main")
    assert "card refused" in event["body"]


async def test_the_probe_and_the_batches_of_dockers_driver(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    """What docker/daemon/logger/splunk sends: OPTIONS at the start, then gzipped envelopes one after the other, time as text."""
    envelopes = "".join(
        json.dumps({"event": {"line": line, "source": "stdout", "tag": "c0ffee"}, "time": f"{time.time():.6f}", "host": "node-1"}) for line in ("a", "b")
    )
    async with serve_web(running_ingest) as (host, port), httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
        assert (await client.options("/services/collector/event/1.0")).status_code == 200
        headers = {"authorization": f"Splunk {running_ingest.token}", "content-encoding": "gzip"}
        response = await client.post("/services/collector/event/1.0", content=gzip.compress(envelopes.encode()), headers=headers)
    assert response.status_code == 200
    assert len(await stored_events(pool)) == 2


async def test_the_health_check_of_vector(running_ingest: RunningIngest) -> None:
    """Vector's splunk_hec sink asks for health with its token and wants 200; Fluent Bit's clone of the reply is another one."""
    async with serve_web(running_ingest) as (host, port), httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
        for path in ("/services/collector/health", "/services/collector/health/1.0"):
            response = await client.get(path, headers={"authorization": f"Splunk {running_ingest.token}"})
            assert (response.status_code, response.content) == (200, b'{"text":"HEC is healthy","code":17}')


async def raw_exchange(address: tuple[str, int], request: bytes, *, half_close: bool = False) -> bytes:
    """Sends bytes and returns what comes until the server closes, or 5 seconds have passed."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request)
    if half_close:
        writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


async def test_sockets_that_are_closed_halfway(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    body = b'{"event":"whole"}'
    head = (
        f"POST /services/collector HTTP/1.1\r\nHost: elis\r\nAuthorization: Splunk {running_ingest.token}\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    async with serve_web(running_ingest) as address:
        answer = await raw_exchange(address, head + body)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b'{"text":"Success","code":0}')
        # A body that ends before its length is never stored, whatever of it came.
        cut = head.replace(str(len(body)).encode(), b"4096") + b'{"event":"cut"}{"event":'
        assert not (await raw_exchange(address, cut, half_close=True)).startswith(b"HTTP/1.1 200")
        chunked = head.replace(f"Content-Length: {len(body)}".encode(), b"Transfer-Encoding: chunked")
        await raw_exchange(address, chunked + b"f\r\n" + b'{"event":"cut"}' + b"\r\n", half_close=True)
        assert (await raw_exchange(address, chunked + b"11\r\n" + body + b"\r\n0\r\n\r\n")).startswith(b"HTTP/1.1 200")
    assert {event["body"] for event in await stored_events(pool)} == {"whole"}
