"""`_bulk` and the handshake of a running ingest."""

from __future__ import annotations

import asyncio
import gzip
from base64 import b64encode
from typing import Any

import asyncpg
import httpx
import orjson

from tests.services.ingest.conftest import RunningIngest
from tests.services.ingest.receivers.web import rejected_details, serve_web, stored_events

NDJSON = "application/x-ndjson"


def document(number: int) -> bytes:
    return orjson.dumps({"@timestamp": f"2026-11-24T09:00:00.{number:03d}Z", "message": f"event {number}", "service": {"name": "orders"}})


def bulk(numbers: range, *, ids: bool = False) -> bytes:
    """Returns a body that creates events of those numbers."""
    action = b'{"create":{"_index":"logs-app-default","_id":"%d"}}\n' if ids else b'{"create":{"_index":"logs-app-default"}}\n'
    return b"".join((action % number if ids else action) + document(number) + b"\n" for number in numbers)


async def post(ingest: RunningIngest, body: bytes, path: str = "/_bulk", **headers: str) -> httpx.Response:
    """Posts with the valid token, as an API key."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await ingest.web.post(path, content=body, headers={"authorization": f"ApiKey {ingest.token}", "content-type": NDJSON, **given})


def statuses(response: httpx.Response) -> list[int]:
    assert response.status_code == 200, response.text
    return [next(iter(item.values()))["status"] for item in response.json()["items"]]


async def test_documents_are_taken(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    for number, path in enumerate(["/_bulk", "/_bulk/?pipeline=p", "/logs-app-default/_bulk", "/_bulk?timeout=60s"]):
        response = await post(running_ingest, bulk(range(number, number + 1)), path)
        assert statuses(response) == [201]
        assert response.headers["x-elastic-product"] == "Elasticsearch"
    events = await stored_events(pool)
    assert [event["body"] for event in events] == ["event 0", "event 1", "event 2", "event 3"]
    assert {(event["source"], event["service"], event["system"]) for event in events} == {("orders", "orders", "application")}


async def test_a_resent_request_changes_nothing_however_it_is_compressed(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    body = bulk(range(3))
    assert statuses(await post(running_ingest, body)) == [201, 201, 201]
    again = await post(running_ingest, gzip.compress(body.replace(b"\n", b"\r\n")), content_encoding="gzip")
    assert statuses(again) == [200, 200, 200]
    assert b'"errors":false,"items":[' in again.content
    assert len(await stored_events(pool)) == 3


async def test_documents_with_ids_are_recognised_in_other_requests(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    assert statuses(await post(running_ingest, bulk(range(3), ids=True))) == [201, 201, 201]
    assert statuses(await post(running_ingest, bulk(range(2, 5), ids=True))) == [200, 201, 201]
    assert statuses(await post(running_ingest, bulk(range(4, 1, -1), ids=True))) == [200, 200, 200]
    assert sorted(event["body"] for event in await stored_events(pool)) == [f"event {number}" for number in range(5)]


async def test_bad_documents_cost_no_neighbour_and_are_kept(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    deep = b'{"a":' * 100 + b"1" + b"}" * 100
    lines = [b'{"index":{"_index":"i"}}', document(0), b'{"index":{"_index":"i"}}', b"{broken", b'{"index":{"_index":"i"}}', deep]
    lines += [b'{"delete":{"_index":"i","_id":"9"}}', b'{"index":{"_index":"i"}}', document(1)]
    for _ in range(2):
        response = await post(running_ingest, b"\n".join(lines) + b"\n")
        assert b'"errors":true,"items":[' in response.content
        assert [status for status in statuses(response) if status == 400] == [400, 400]
    assert [event["body"] for event in await stored_events(pool)] == ["event 0", "event 1"]
    assert await rejected_details(pool) == [("invalid_document", "i"), ("invalid_document", "i")]


async def test_a_request_of_nothing_but_bad_documents_is_answered_item_by_item(running_ingest: RunningIngest) -> None:
    assert statuses(await post(running_ingest, b'{"index":{}}\n{\n{"delete":{}}\n', "/i/_bulk")) == [400, 400]


async def test_every_form_of_credentials_is_taken(running_ingest: RunningIngest) -> None:
    token = running_ingest.token
    pair = b64encode(f"elis:{token}".encode()).decode()
    for number, header in enumerate([f"ApiKey {token}", f"ApiKey {pair}", f"Basic {pair}", f"Bearer {token}"]):
        assert statuses(await post(running_ingest, bulk(range(number, number + 1)), authorization=header)) == [201]


async def test_callers_without_a_valid_token_learn_nothing(running_ingest: RunningIngest) -> None:
    for method, path in [("POST", "/_bulk"), ("GET", "/"), ("GET", "/_license"), ("GET", "/_unknown")]:
        for header, status in [("", 401), ("Digest x", 401), ("ApiKey 00000000-0000-0000-0000-000000000000", 403)]:
            response = await running_ingest.web.request(method, path, headers={"authorization": header} if header else {})
            assert (response.status_code, response.json()["error"]["type"]) == (status, "security_exception")
            assert ("www-authenticate" in response.headers) == (status == 401)


async def test_bad_requests_are_refused_as_a_whole(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    cases: list[tuple[bytes, dict[str, str], int]] = [
        (b"", {}, 400),
        (b"no bulk request\n", {}, 400),
        (b"\x1f\x8b\x08", {"content_encoding": "gzip"}, 400),
        (gzip.compress(bulk(range(50)))[:-9], {"content_encoding": "gzip"}, 400),
        (bulk(range(1)), {"content_encoding": "br"}, 406),
        (bulk(range(1)), {"content_type": "text/plain"}, 406),
        (b"x" * (33 * 1024 * 1024), {}, 413),
        (gzip.compress(bytes(64 * 1024 * 1024)), {"content_encoding": "gzip"}, 413),
    ]
    for body, headers, status in cases:
        response = await post(running_ingest, body, **headers)
        assert (response.status_code, response.json()["status"]) == (status, status)
    assert await stored_events(pool) == []


async def test_content_types_of_clients_are_taken(running_ingest: RunningIngest) -> None:
    types = ["application/json", "application/vnd.elasticsearch+x-ndjson; compatible-with=9", "application/json; charset=UTF-8"]
    for number, content_type in enumerate(types):
        assert statuses(await post(running_ingest, bulk(range(number, number + 1)), content_type=content_type)) == [201]


async def test_a_sender_that_hangs_up_leaves_nothing_behind(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    async with serve_web(running_ingest) as (host, port):
        head = f"POST /_bulk HTTP/1.1\r\nHost: {host}\r\nAuthorization: ApiKey {running_ingest.token}\r\nContent-Length: 100000\r\n\r\n".encode()
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(head + bulk(range(2)))
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
            response = await client.post("/_bulk", content=bulk(range(5, 6)), headers={"authorization": f"ApiKey {running_ingest.token}"})
        assert statuses(response) == [201]
    assert [event["body"] for event in await stored_events(pool)] == ["event 5"]


async def test_the_server_says_what_it_is(running_ingest: RunningIngest) -> None:
    headers = {"authorization": f"ApiKey {running_ingest.token}"}
    response = await running_ingest.web.get("/", headers=headers)
    assert response.json()["version"]["number"] == "9.99.0"
    assert response.json()["version"]["build_flavor"] == "default"
    assert response.json()["tagline"] == "You Know, for Search"
    assert (await running_ingest.web.get("/?filter_path=version.number", headers=headers)).json() == {"version": {"number": "9.99.0"}}
    assert (await running_ingest.web.head("/", headers=headers)).status_code == 200


async def test_what_agents_set_up_is_there(running_ingest: RunningIngest) -> None:
    cases: list[tuple[str, str, Any]] = [
        ("GET", "/_ilm/policy/filebeat", {}),
        ("PUT", "/_ilm/policy/filebeat", {"acknowledged": True}),
        ("GET", "/_index_template/filebeat-9.2.0", {}),
        ("PUT", "/_index_template/filebeat-9.2.0", {"acknowledged": True}),
        ("PUT", "/_data_stream/filebeat-9.2.0", {"acknowledged": True}),
        ("PUT", "/_data_stream/filebeat-9.2.0/_lifecycle", {"acknowledged": True}),
        ("GET", "/_ingest/pipeline/filebeat-9.2.0-nginx", {}),
        ("PUT", "/_ingest/pipeline/filebeat-9.2.0-nginx", {"acknowledged": True}),
        ("PUT", "/logstash", {"acknowledged": True, "shards_acknowledged": True, "index": "logstash"}),
    ]
    headers = {"authorization": f"ApiKey {running_ingest.token}"}
    for method, path, expected in cases:
        response = await running_ingest.web.request(method, path, headers=headers)
        assert (response.status_code, response.json(), response.headers["x-elastic-product"]) == (200, expected, "Elasticsearch")
    for path in ("/_index_template/filebeat", "/_template/logstash", "/logstash"):
        assert (await running_ingest.web.head(path, headers=headers)).status_code == 200


async def test_the_state_of_the_cluster_is_told(running_ingest: RunningIngest) -> None:
    headers = {"authorization": f"ApiKey {running_ingest.token}", "host": "ingest.example:8088"}
    web = running_ingest.web
    assert (await web.get("/_license", headers=headers)).json()["license"]["status"] == "active"
    assert (await web.get("/_xpack", headers=headers)).json()["license"]["type"] == "basic"
    assert (await web.get("/_cluster/health", headers=headers)).json()["status"] == "green"
    (node,) = (await web.get("/_nodes/http", headers=headers)).json()["nodes"].values()
    assert node["http"]["publish_address"] == "ingest.example:8088"
    assert (await web.get("/_nodes/http", headers={**headers, "host": "a b<script>"})).json()["nodes"] == {}


async def test_other_paths_have_an_error_of_elasticsearch(running_ingest: RunningIngest) -> None:
    for method, path in [("GET", "/_cat/indices"), ("POST", "/logs/_search"), ("DELETE", "/_ilm/policy/x"), ("GET", "/_bulk")]:
        response = await running_ingest.web.request(method, path, headers={"authorization": f"ApiKey {running_ingest.token}"})
        assert (response.status_code, response.json()["error"]["type"]) == (404, "resource_not_found_exception")
