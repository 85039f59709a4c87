"""Elasticsearch's own client, unmodified, against a running ingest on a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
from elasticsearch import AsyncElasticsearch, NotFoundError
from elasticsearch.helpers import BulkIndexError, async_bulk, async_streaming_bulk

from tests.services.ingest.conftest import RunningIngest
from tests.services.ingest.receivers.web import serve_web, stored_events


@pytest.fixture
async def client(running_ingest: RunningIngest) -> AsyncIterator[AsyncElasticsearch]:
    """A client with the ingest token as API key."""
    async with serve_web(running_ingest) as (host, port), AsyncElasticsearch(f"http://{host}:{port}", api_key=running_ingest.token) as client:
        yield client


def actions(count: int, operation: str = "create", *, ids: bool = True) -> Iterator[dict[str, Any]]:
    for number in range(count):
        action = {
            "_op_type": operation,
            "_index": "logs-shop-default",
            "@timestamp": f"2026-11-24T09:00:00.{number:03d}Z",
            "message": f"order {number} placed",
            "host": {"name": "web-1"},
        }
        yield {**action, "_id": str(number)} if ids else action


async def test_the_client_takes_the_server_for_elasticsearch(client: AsyncElasticsearch) -> None:
    assert (await client.info())["version"]["number"] == "9.99.0"
    assert await client.ping()
    assert (await client.cluster.health())["status"] == "green"
    assert await client.indices.exists(index="logs-shop-default")
    with pytest.raises(NotFoundError):
        await client.search(index="logs-shop-default")


@pytest.mark.parametrize("ids", [True, False])
async def test_the_bulk_helper_stores_each_document_once(client: AsyncElasticsearch, pool: asyncpg.Pool[Any], ids: bool) -> None:
    for _ in range(2):
        assert await async_bulk(client, actions(250, ids=ids), chunk_size=100) == (250, [])
    events = await stored_events(pool)
    assert sorted(event["body"] for event in events) == sorted(f"order {number} placed" for number in range(250))
    assert {(event["source"], event["host"]) for event in events} == {("shop", "web-1")}


async def test_documents_are_recognised_in_other_chunks(client: AsyncElasticsearch, pool: asyncpg.Pool[Any]) -> None:
    await async_bulk(client, actions(50, "index"), chunk_size=7)
    results = [(ok, result["index"]["status"]) async for ok, result in async_streaming_bulk(client, actions(60, "index"), chunk_size=20)]
    assert results == [(True, 200)] * 50 + [(True, 201)] * 10
    assert len(await stored_events(pool)) == 60


async def test_a_failed_document_is_named_and_the_others_are_kept(client: AsyncElasticsearch, pool: asyncpg.Pool[Any]) -> None:
    mixed = [*actions(3), {"_op_type": "delete", "_index": "logs-shop-default", "_id": "1"}]
    with pytest.raises(BulkIndexError) as caught:
        await async_bulk(client, mixed)
    assert [error["delete"]["status"] for error in caught.value.errors] == [400]
    assert len(await stored_events(pool)) == 3


async def test_an_update_is_an_event_of_its_own(client: AsyncElasticsearch, pool: asyncpg.Pool[Any]) -> None:
    await async_bulk(client, actions(1))
    update = {"_op_type": "update", "_index": "logs-shop-default", "_id": "0", "doc": {"message": "order 0 shipped"}, "doc_as_upsert": True}
    for _ in range(2):
        assert await async_bulk(client, [update]) == (1, [])
    assert [event["body"] for event in await stored_events(pool)] == ["order 0 placed", "order 0 shipped"]


async def test_the_client_may_compress_and_sniff(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    async with serve_web(running_ingest) as (host, port):
        options: dict[str, Any] = {"basic_auth": ("elis", running_ingest.token), "http_compress": True, "sniff_before_requests": True}
        async with AsyncElasticsearch(f"http://{host}:{port}", **options) as client:
            assert await async_bulk(client, actions(30)) == (30, [])
    assert len(await stored_events(pool)) == 30
