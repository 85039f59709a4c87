"""RPCs of the ingest service."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import grpc
import orjson
import pytest

from elis.ingest.v1 import ingest_pb2 as pb
from elis.ingest.v1 import ingest_pb2_grpc as rpc
from elis.ingest.v1 import rejections_pb2
from elis.ingest.v1 import rejections_pb2_grpc as rejections_rpc
from kit.errors import InvalidArgument, PermissionDenied
from kit.server import Application, create_grpc_server
from services.ingest.blocks import decompress_lines
from tests.fixtures.callers import Issuer
from tests.services.ingest.conftest import RunningIngest

ALL = ("events:write", "events:read", "blocks:read", "sources:read", "rejected:read")


@pytest.fixture
async def channel(running_ingest: RunningIngest, issuer: Issuer) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the running ingest as a caller with every scope that it knows."""
    server = create_grpc_server(Application(servicers=running_ingest.application.servicers, verifier=issuer.verifier()))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with issuer.connect(f"127.0.0.1:{port}", *ALL) as channel:
        yield channel
    await server.stop(1.0)


def request_of(*bodies: str, source: str = "shop") -> pb.IngestEventsRequest:
    """Returns a request with timed records."""
    now = time.time_ns()
    return pb.IngestEventsRequest(
        source=source,
        system="application",
        environment="test",
        records=[pb.Record(time_unix_nano=now + number, body=body, attributes_json=b'{"order":42}') for number, body in enumerate(bodies)],
    )


async def test_what_goes_in_comes_out(channel: grpc.aio.Channel) -> None:
    ingest = rpc.IngestServiceStub(channel)
    request = request_of("2026 order 42 failed", "ok")
    assert await ingest.IngestEvents(request) == pb.IngestEventsResponse(accepted=2)
    assert await ingest.IngestEvents(request) == pb.IngestEventsResponse(duplicates=2)

    feed = await ingest.ListBlocks(pb.ListBlocksRequest(with_lines=True, with_summary=True))
    (block,) = feed.blocks
    lines = [orjson.loads(line) for line in decompress_lines(block.lines).splitlines()]
    assert [line["attributes"] for line in lines] == [{"order": 42}] * 2
    assert sum(block.summary.count) == 2
    assert (await ingest.ListBlocks(pb.ListBlocksRequest(after=feed.next))).blocks == []
    assert (await ingest.GetBlocks(pb.GetBlocksRequest(ids=[block.id, 1, 2**64 - 1]))).blocks[0].cursor == feed.next

    ids = [line["event_id"] for line in lines]
    events = await ingest.GetEvents(pb.GetEventsRequest(ids=[ids[1], 7, ids[0]]))
    assert [orjson.loads(line)["event_id"] for line in events.lines] == [ids[1], ids[0]]
    recent = await ingest.RecentEvents(pb.RecentEventsRequest(limit=1))
    assert [orjson.loads(line)["body"] for line in recent.lines] == ["ok"]


async def test_sources_are_listed_in_order_of_name_in_pages(channel: grpc.aio.Channel) -> None:
    ingest = rpc.IngestServiceStub(channel)
    for name in ("b", "a", "c"):
        await ingest.IngestEvents(request_of("x", source=name))
    names: list[str] = []
    deadline = time.monotonic() + 10
    while names != ["a", "b", "c"] and time.monotonic() < deadline:
        names, token = [], ""
        while True:
            page = await ingest.ListSources(pb.ListSourcesRequest(page_size=2, page_token=token))
            names += [source.name for source in page.sources]
            token = page.next_page_token
            if not token:
                break
    assert names == ["a", "b", "c"]


async def test_an_oversize_record_is_listed_as_rejected(channel: grpc.aio.Channel) -> None:
    ingest = rpc.IngestServiceStub(channel)
    assert await ingest.IngestEvents(request_of("x" * 2_000_000, "ok")) == pb.IngestEventsResponse(accepted=1, rejected=1)
    (rejected,) = (await rejections_rpc.RejectionServiceStub(channel).ListRejectedEvents(rejections_pb2.ListRejectedEventsRequest())).events
    assert (rejected.source, rejected.reason, rejected.retryable, rejected.sender.protocol) == ("shop", "record_too_large", True, "graphql")
    assert "2000000 bytes" in rejected.detail


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (pb.IngestEventsRequest(source="s"), "records"),
        (pb.IngestEventsRequest(records=[pb.Record(body="x")]), "source"),
        (pb.IngestEventsRequest(source="s", system="mainframe", records=[pb.Record(body="x")]), "no such system"),
        (pb.IngestEventsRequest(source="s", format="xml", records=[pb.Record(body="x")]), "no such format"),
        (pb.IngestEventsRequest(source="s", records=[pb.Record(body="x", severity_number=25)]), "severity"),
        (pb.IngestEventsRequest(source="s", records=[pb.Record(body="x", attributes_json=b"[]")]), "attributes"),
        (pb.IngestEventsRequest(source="s", records=[pb.Record(body="x", trace_id="xyz")]), "trace"),
        (pb.IngestEventsRequest(source="s", records=[pb.Record(body="x", time_unix_nano=2**63)]), "time"),
    ],
)
async def test_bad_requests_are_named(channel: grpc.aio.Channel, request_: pb.IngestEventsRequest, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        await rpc.IngestServiceStub(channel).IngestEvents(request_)


async def test_a_reader_cannot_write(running_ingest: RunningIngest, issuer: Issuer) -> None:
    server = create_grpc_server(Application(servicers=running_ingest.application.servicers, verifier=issuer.verifier()))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with issuer.connect(f"127.0.0.1:{port}", "events:read") as channel:
        with pytest.raises(PermissionDenied, match="events:write"):
            await rpc.IngestServiceStub(channel).IngestEvents(request_of("x"))
    await server.stop(1.0)
