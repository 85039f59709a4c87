"""Sources: detection, what a team sets, and how replicas keep in step."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import orjson
import pytest

from elis.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from elis.ingest.v1 import sources_pb2 as pb
from elis.ingest.v1 import sources_pb2_grpc as rpc
from kit.errors import InvalidArgument, NotFound
from kit.server import Application, Servicer, create_grpc_server
from services.ingest.blocks import decompress_lines
from services.ingest.sources import SourceBook
from services.ingest.sources_rpc import SourceServicer
from tests.fixtures.callers import Issuer
from tests.services.ingest.conftest import RunningIngest

SCOPES = ("events:write", "blocks:read", "sources:read", "sources:write")
PLAIN = ["nothing that has a form"]
LOGFMT = ['level=info msg="a" order=1'] * 60
JSON = ['{"level":"info","msg":"a"}'] * 60


@pytest.fixture
async def sources(pool: asyncpg.Pool[Any], issuer: Issuer) -> AsyncIterator[tuple[SourceBook, rpc.SourceServiceAsyncStub]]:
    """The sources of one process and the service that changes them."""
    book = SourceBook(pool)
    servicer = Servicer(pb.DESCRIPTOR.services_by_name["SourceService"], rpc.add_SourceServiceServicer_to_server, SourceServicer(pool, book))
    server = create_grpc_server(Application(servicers=[servicer], verifier=issuer.verifier()))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with issuer.connect(f"127.0.0.1:{port}", *SCOPES) as channel:
        yield book, rpc.SourceServiceStub(channel)
    await server.stop(1.0)


def see(book: SourceBook, bodies: list[str], *, declared: str = "", name: str = "prd") -> str:
    """Lets a source send and returns the format that it then has."""
    book.register(name, system="", default_system="application")
    state = book.choose_format(name, declared, bodies)
    state.events += len(bodies)
    return state.format


async def test_a_change_is_partial_and_followed_at_once(sources: tuple[SourceBook, rpc.SourceServiceAsyncStub]) -> None:
    book, service = sources
    assert see(book, JSON) == "json_lines"
    await book.flush()
    source = (await service.UpdateSource(pb.UpdateSourceRequest(name="prd", time_zone="Europe/Berlin"))).source
    assert (source.time_zone, source.format, source.detected_by, source.system) == ("Europe/Berlin", "json_lines", "detected", "application")
    assert source.HasField("first_seen_at")
    assert book.state("prd").zone == ZoneInfo("Europe/Berlin")
    source = (await service.UpdateSource(pb.UpdateSourceRequest(name="prd", environment="test"))).source
    assert (source.time_zone, source.environment) == ("Europe/Berlin", "test")
    assert (await service.UpdateSource(pb.UpdateSourceRequest(name="prd", time_zone=""))).source.time_zone == "UTC"
    assert book.state("prd").zone is UTC


async def test_what_a_team_sets_beats_senders_and_detection(sources: tuple[SourceBook, rpc.SourceServiceAsyncStub]) -> None:
    book, service = sources
    see(book, PLAIN)
    await book.flush()
    await service.UpdateSource(pb.UpdateSourceRequest(name="prd", system="sap", environment="test", format="sap_dump"))
    assert see(book, JSON) == "sap_dump"
    assert see(book, JSON, declared="logfmt") == "sap_dump"
    assert book.state("prd").format_of("logfmt") == "sap_dump"
    assert book.set_format("prd") == "sap_dump"
    assert book.set_format("other") == ""
    assert book.register("other", system="", default_system="splunk").format_of("logfmt") == "logfmt"
    state = book.register("prd", system="splunk", default_system="application", environment="elsewhere")
    assert (state.system, state.environment) == ("sap", "test")
    await book.flush()
    source = (await service.UpdateSource(pb.UpdateSourceRequest(name="prd"))).source
    assert (source.system, source.environment, source.format, source.detected_by, source.confidence) == ("sap", "test", "sap_dump", "declared", 1)
    assert source.events == 121
    assert (await service.GetSource(pb.GetSourceRequest(name="prd"))).source == source
    with pytest.raises(NotFound):
        await service.GetSource(pb.GetSourceRequest(name="x\0"))


async def test_an_empty_text_lets_senders_and_detection_decide_again(sources: tuple[SourceBook, rpc.SourceServiceAsyncStub], pool: asyncpg.Pool[Any]) -> None:
    book, service = sources
    see(book, PLAIN)
    await book.flush()
    await service.UpdateSource(pb.UpdateSourceRequest(name="prd", format="sap_dump", system="sap"))
    source = (await service.UpdateSource(pb.UpdateSourceRequest(name="prd", format="", system=""))).source
    assert (source.format, source.detected_by, source.system) == ("", "", "sap")
    book.state("prd").events += 1
    await book.flush()
    again = SourceBook(pool)
    await again.load()
    assert see(again, JSON) == see(book, JSON) == "json_lines"
    assert book.register("prd", system="splunk", default_system="application").system == "splunk"


async def test_a_declared_format_survives_a_restart(sources: tuple[SourceBook, rpc.SourceServiceAsyncStub], pool: asyncpg.Pool[Any]) -> None:
    book, service = sources
    see(book, PLAIN)
    see(book, PLAIN, declared="logfmt", name="sent")
    await book.flush()
    await service.UpdateSource(pb.UpdateSourceRequest(name="prd", format="sap_dump", time_zone="Asia/Tokyo"))
    again = SourceBook(pool)
    await again.load()
    assert see(again, JSON) == "sap_dump"
    assert see(again, JSON, name="sent") == "logfmt"
    assert again.state("prd").zone == ZoneInfo("Asia/Tokyo")


async def test_another_replica_takes_over_what_was_set(sources: tuple[SourceBook, rpc.SourceServiceAsyncStub], pool: asyncpg.Pool[Any]) -> None:
    book, service = sources
    see(book, PLAIN)
    await book.flush()
    other = SourceBook(pool)
    await other.load()
    assert see(other, PLAIN) == "plain"
    await service.UpdateSource(pb.UpdateSourceRequest(name="prd", format="sap_dump", time_zone="Europe/Berlin"))
    # It has not looked yet and writes what it knows: what was set stays.
    other.state("prd").changed = True
    await other.flush()
    await other.refresh()
    assert other.state("prd").zone == ZoneInfo("Europe/Berlin")
    assert see(other, JSON) == "sap_dump"
    await service.UpdateSource(pb.UpdateSourceRequest(name="prd", format=""))
    await other.refresh()
    assert see(other, JSON) == "json_lines"
    other.state("prd").format = "logfmt"
    await other.refresh()
    assert other.state("prd").format == "logfmt", "a change is taken over once"


async def test_a_source_can_be_described_before_it_sends(sources: tuple[SourceBook, rpc.SourceServiceAsyncStub]) -> None:
    book, service = sources
    with pytest.raises(NotFound, match="there is no source 'new'; give create: true"):
        await service.UpdateSource(pb.UpdateSourceRequest(name="new", time_zone="Europe/Berlin"))
    source = (await service.UpdateSource(pb.UpdateSourceRequest(name="new", time_zone="Europe/Berlin", create=True))).source
    assert (source.system, source.environment, source.time_zone) == ("application", "production", "Europe/Berlin")
    assert see(book, JSON, name="new") == "json_lines"
    assert book.state("new").zone == ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("field", "value"), [("name", ""), ("name", "a\0"), ("system", "vax"), ("format", "nothing"), ("time_zone", "Mars/Base"), ("environment", "e" * 65)]
)
async def test_what_is_wrong_is_refused(sources: tuple[SourceBook, rpc.SourceServiceAsyncStub], field: str, value: str) -> None:
    fields: dict[str, Any] = {"name": "prd", field: value}
    with pytest.raises(InvalidArgument):
        await sources[1].UpdateSource(pb.UpdateSourceRequest(**fields))


async def test_events_get_the_zone_of_their_source(running_ingest: RunningIngest, issuer: Issuer) -> None:
    server = create_grpc_server(Application(servicers=running_ingest.application.servicers, verifier=issuer.verifier()))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with issuer.connect(f"127.0.0.1:{port}", *SCOPES) as channel:
        await rpc.SourceServiceStub(channel).UpdateSource(pb.UpdateSourceRequest(name="prd", time_zone="Europe/Berlin", create=True))
        ingest = ingest_pb2_grpc.IngestServiceStub(channel)
        records = [ingest_pb2.Record(body="2026-07-01 12:00:00 INFO worker 1 is alive")]
        await ingest.IngestEvents(ingest_pb2.IngestEventsRequest(source="prd", records=records))
        feed = await ingest.ListBlocks(ingest_pb2.ListBlocksRequest(with_lines=True))
        [line] = [orjson.loads(line) for block in feed.blocks for line in decompress_lines(block.lines).splitlines()]
        [source] = (await ingest.ListSources(ingest_pb2.ListSourcesRequest())).sources
    await server.stop(1.0)
    assert line["timestamp"] == 1_782_900_000_000_000_000
    assert source.time_zone == "Europe/Berlin"


async def test_a_first_line_of_another_kind_does_not_settle_the_format(pool: asyncpg.Pool[Any]) -> None:
    book = SourceBook(pool)
    assert see(book, JSON[:1]) == "json_lines"
    assert see(book, [f"2024-01-02 10:00:{second:02d} INFO [main] alive" for second in range(10)]) == "plain"


async def test_a_format_that_does_not_understand_most_records_is_looked_for_again(pool: asyncpg.Pool[Any]) -> None:
    book = SourceBook(pool)
    see(book, JSON)
    state = book.state("prd")
    for _ in range(4):
        assert see(book, LOGFMT) == "json_lines", "sticky until enough records were not understood"
        book.judge_format(state, 120, 0)
    book.judge_format(state, 20, 0)
    assert see(book, LOGFMT[:10]) == "json_lines", "one small request is not enough to go by"
    assert see(book, LOGFMT) == "logfmt"
    assert state.detected_by == "detected"
    assert state.confidence == pytest.approx(0.9)


async def test_plain_text_is_looked_at_again_for_it_may_have_begun_with_a_banner(pool: asyncpg.Pool[Any]) -> None:
    book = SourceBook(pool)
    see(book, PLAIN * 50)
    state = book.state("prd")
    for patience in (500, 1_000, 2_000):
        assert see(book, PLAIN * 50) == "plain"
        assert not state.doubted
        book.judge_format(state, patience - 1, patience - 1)
        assert not state.doubted
        book.judge_format(state, 1, 1)
        assert state.doubted
    assert see(book, JSON) == "json_lines"


@pytest.mark.parametrize("declared", ["json_lines", ""])
async def test_a_format_that_is_understood_or_declared_is_not_doubted(pool: asyncpg.Pool[Any], declared: str) -> None:
    book = SourceBook(pool)
    see(book, JSON, declared=declared)
    book.judge_format(book.state("prd"), 10_000, 0 if declared else 6_000)
    assert see(book, LOGFMT) == "json_lines"


async def test_names_that_the_database_cannot_hold_do_not_hold_up_events(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    long = "".join(f"{number:x}" for number in range(4_000))  # not even compressed it fits an index
    names = [long, "a\x00b", "a\ufffdb", f"{'x' * 190} eve@example.com"]
    lines = b"\n".join(
        orjson.dumps({"event": "ok", "time": 1_790_000_000, "fields": {"environment": "e\x00f"}, place: name}) for name in names for place in ("source", "host")
    )
    headers = {"authorization": f"Splunk {running_ingest.token}"}
    response = await running_ingest.web.post("/services/collector/event", content=lines, headers=headers)
    assert (response.status_code, response.json()["code"]) == (200, 0)

    async def known() -> set[tuple[str, str]]:
        return {(row["name"], row["environment"]) for row in await pool.fetch("SELECT name, environment FROM ingest.sources")}

    while len(found := await known()) < 4:
        await pool.execute("SELECT pg_sleep(0.1)")
    stored = await pool.fetchval("SELECT lines FROM ingest.blocks")
    events = [orjson.loads(line) for line in decompress_lines(stored).splitlines()]
    assert {(event["source"], event["environment"]) for event in events} == found
    assert {long[:200], "a\ufffdb"} < {name for name, _ in found}
    assert {environment for _, environment in found} == {"e\ufffdf"}
    assert not any("eve@" in name for name, _ in found)
