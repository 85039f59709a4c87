"""Rejected records: kept whole and sealed, grouped, bounded, opened with a trace, and replayed, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest

from elis.ingest.v1 import rejections_pb2 as pb
from elis.ingest.v1 import rejections_pb2_grpc as rpc
from kit.db import open_engine
from kit.errors import InvalidArgument, NotFound
from kit.rows import uuid7
from kit.server import Application, Servicer
from services.ingest import rejection_store, replay
from services.ingest.batch import Batch
from services.ingest.blocks import decompress_lines, list_blocks
from services.ingest.endpoints import Arrival
from services.ingest.intake import Intake
from services.ingest.masking import BUILT_IN_RULES, Masker
from services.ingest.rejection_store import RejectionStore
from services.ingest.rejections import Rejection, RejectReason, Sealer
from services.ingest.rejections_rpc import RejectionServicer
from services.ingest.replay import Replayer
from services.ingest.settings import IngestSettings
from services.ingest.tokens import Agent
from tests.fixtures.callers import Issuer
from tests.fixtures.servers import run_service
from tests.services.ingest.conftest import ARRIVAL

DAY = 86_400 * 10**9
STAMP = 1_760_000_000 * 10**9


@pytest.fixture
def settings(settings: IngestSettings) -> IngestSettings:
    """Settings with small records, so that tests are quick."""
    return settings.model_copy(update={"max_record_bytes": 1024})


@pytest.fixture
def replayer(settings: IngestSettings, pool: asyncpg.Pool[Any], intake: Intake) -> Replayer:
    """Replays through this test's intake."""
    return Replayer(settings, pool, intake._sources, intake, Sealer([bytes(32)]))


@pytest.fixture
async def service(settings: IngestSettings, pool: asyncpg.Pool[Any], replayer: Replayer, issuer: Issuer) -> AsyncIterator[rpc.RejectionServiceAsyncStub]:
    """A stub of the running service, called as somebody with every scope of it."""
    masker = Masker(b"m" * 64, BUILT_IN_RULES)
    async with open_engine(settings, "tests") as engine:
        servicer = Servicer(
            pb.DESCRIPTOR.services_by_name["RejectionService"],
            rpc.add_RejectionServiceServicer_to_server,
            RejectionServicer(pool, engine, Sealer([bytes(32)]), masker.mask_text, replayer),
        )
        async with (
            run_service(Application(servicers=[servicer], verifier=issuer.verifier())) as address,
            issuer.connect(address, "rejected:read", "rejected:replay", "events:reveal") as channel,
        ):
            yield rpc.RejectionServiceStub(channel)


def refused(raw: bytes, detail: str = "document 7 is no object", source: str = "shop", **fields: Any) -> Rejection:
    return Rejection(source, RejectReason.INVALID_DOCUMENT, detail, raw, fields)


async def reject(intake: Intake, *rejections: Rejection, arrival: Arrival = ARRIVAL) -> None:
    """Has records rejected, as a receiver does."""
    outcome = await intake.take(Batch(), arrival, default_system="application", rejections=rejections)
    assert outcome.rejected == len(rejections)


async def ids_of(pool: asyncpg.Pool[Any]) -> list[UUID]:
    return [row["id"] for row in await pool.fetch("SELECT id FROM ingest.rejected_events ORDER BY number")]


async def events_of(pool: asyncpg.Pool[Any]) -> list[dict[str, Any]]:
    blocks, _ = await list_blocks(pool, "", limit=1000, with_lines=True, with_summary=False, max_bytes=1 << 30)
    return [orjson.loads(line) for block in blocks for line in decompress_lines(block.lines).splitlines()]


async def test_alike_records_are_one_group_with_their_sender(intake: Intake, service: rpc.RejectionServiceAsyncStub) -> None:
    await reject(intake, *(refused(b"%d" % number, f"document {number} is no object") for number in range(3)))
    await reject(intake, refused(b"later", "document 9 is no object"))
    await reject(intake, refused(b"x"), arrival=replace(ARRIVAL, address="192.0.2.9"))
    await reject(intake, Rejection("other", RejectReason.FRAME_BROKEN, "no frame", b"y"))
    response = await service.ListRejectedEvents(pb.ListRejectedEventsRequest())
    other, elsewhere, group = response.events
    assert (group.source, group.reason, group.detail, group.count, group.kept, group.replayed) == (
        "shop",
        "invalid_document",
        "document 9 is no object",
        4,
        4,
        0,
    )
    assert group.bytes == 3 + len(b"later")
    assert group.sender == pb.RejectedSender(token_id="token-1", token_name="tests", protocol="hec", address="192.0.2.1", user_agent="tests")
    assert group.first_seen_at.ToNanoseconds() < group.last_seen_at.ToNanoseconds()
    assert (elsewhere.sender.address, elsewhere.count, other.source) == ("192.0.2.9", 1, "other")

    only = await service.ListRejectedEvents(pb.ListRejectedEventsRequest(source="shop", reason="invalid_document", page_size=1))
    assert [event.id for event in only.events] == [elsewhere.id]
    following = await service.ListRejectedEvents(pb.ListRejectedEventsRequest(source="shop", page_size=1, page_token=only.next_page_token))
    assert ([event.id for event in following.events], following.next_page_token) == ([group.id], "")
    totals = (await service.GetRejectedTotals(pb.GetRejectedTotalsRequest())).totals
    assert [(total.reason, total.count, total.retryable) for total in totals] == [("frame_broken", 1, False), ("invalid_document", 5, False)]
    assert not (await service.ListRejectedEvents(pb.ListRejectedEventsRequest(source="a\x00b"))).events
    assert not (await service.GetRejectedTotals(pb.GetRejectedTotalsRequest(source="a\x00b"))).totals
    records = await service.ListRejectedRecords(pb.ListRejectedRecordsRequest(event_id=group.id, page_size=3))
    assert [record.size for record in records.records] == [5, 1, 1]
    assert records.next_page_token
    with pytest.raises(InvalidArgument, match="choose one of"):
        await service.ListRejectedEvents(pb.ListRejectedEventsRequest(reason="bad"))


async def test_bytes_are_kept_whole_and_sealed_and_opening_them_leaves_a_trace(
    intake: Intake, pool: asyncpg.Pool[Any], service: rpc.RejectionServiceAsyncStub
) -> None:
    raw = b"secret of jane.doe@example.com \xff\x00 " * 100_000
    await reject(intake, refused(raw, "document of jane.doe@example.com", host="h1"))
    (rejected_id,) = await ids_of(pool)
    stored = await pool.fetchrow("SELECT * FROM ingest.rejected_events")
    assert stored is not None
    assert b"jane" not in b"".join(orjson.dumps(str(value)) for value in stored.values())
    assert len(stored["raw"]) < len(raw) // 10
    opened = await service.RevealRejected(pb.RevealRejectedRequest(id=str(rejected_id), reason="the sender asked what is wrong"))
    assert (opened.raw, orjson.loads(opened.fields_json)) == (raw, {"host": "h1"})
    (entry,) = await pool.fetch("SELECT action, target, detail FROM ingest.masking_audit")
    assert (entry["action"], entry["target"]) == ("sensitive_read", f"rejected {rejected_id}")
    assert "the sender asked what is wrong" in entry["detail"]
    assert "jane" not in entry["detail"]
    with pytest.raises(InvalidArgument, match="reason"):
        await service.RevealRejected(pb.RevealRejectedRequest(id=str(rejected_id), reason="because"))
    with pytest.raises(NotFound):
        await service.RevealRejected(pb.RevealRejectedRequest(id=str(uuid7()), reason="the sender asked what is wrong"))
    assert await pool.fetchval("SELECT count(*) FROM ingest.masking_audit") == 1


async def test_beyond_the_bound_records_are_counted_only(pool: asyncpg.Pool[Any]) -> None:
    store = RejectionStore(Sealer([bytes(32)]), str, bytes_per_day=200)
    async with pool.acquire() as connection:
        for _ in range(3):
            await store.insert(connection, [(ARRIVAL, [refused(os.urandom(80)), refused(os.urandom(80), source="calm")])])
    rows = await pool.fetch("SELECT source, count, kept FROM ingest.rejection_groups ORDER BY source")
    assert [tuple(row) for row in rows] == [("calm", 3, 2), ("shop", 3, 2)]
    assert await pool.fetchval("SELECT count(*) FROM ingest.rejected_events") == 4


async def test_beyond_the_bound_groups_are_one(pool: asyncpg.Pool[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejection_store, "MAX_GROUPS", 3)
    store = RejectionStore(Sealer([bytes(32)]), str, bytes_per_day=1 << 20)
    async with pool.acquire() as connection:
        for number in range(10):
            await store.insert(connection, [(Arrival("hec", Agent("t", "t", ""), f"192.0.2.{number}"), [refused(b"x")])])
    rows = await pool.fetch("SELECT address, count FROM ingest.rejection_groups ORDER BY number")
    assert [tuple(row) for row in rows] == [("192.0.2.0", 1), ("192.0.2.1", 1), ("192.0.2.2", 1), ("", 7)]


async def test_many_records_are_sealed_beside_the_event_loop_however_small_they_are(pool: asyncpg.Pool[Any]) -> None:
    threads: list[int] = []

    class Watched(Sealer):
        def seal(self, rejection: Rejection, owner: UUID) -> bytes:
            threads.append(threading.get_ident())
            return super().seal(rejection, owner)

    store = RejectionStore(Watched([bytes(32)]), str, bytes_per_day=1_000_000)
    for count in (rejection_store.INLINE_RECORDS, rejection_store.INLINE_RECORDS + 1):
        threads.clear()
        async with pool.acquire() as connection:
            await store.insert(connection, [(ARRIVAL, [refused(b"x")] * count)])
        assert (len(threads), set(threads) == {threading.get_ident()}) == (count, count == rejection_store.INLINE_RECORDS)


def test_older_keys_open_what_they_sealed() -> None:
    old, new, owner = Sealer([b"o" * 32]), Sealer([b"n" * 32, b"o" * 32]), uuid7()
    sealed = old.seal(refused(b"raw"), owner)
    assert new.key_id != old.key_id
    assert new.open(sealed, old.key_id, owner).raw == b"raw"
    assert old.key_id not in new.seal(refused(b"raw"), owner).hex()
    with pytest.raises(NotFound, match="ELIS_SEAL_OLD_KEYS"):
        Sealer([b"n" * 32]).open(sealed, old.key_id, owner)
    with pytest.raises(NotFound, match="changed"):
        new.open(sealed, old.key_id, uuid7())


async def test_a_replayed_record_becomes_an_event_once(intake: Intake, pool: asyncpg.Pool[Any], replayer: Replayer) -> None:
    await reject(intake, refused(b"payment of jane.doe@example.com failed", timestamp=STAMP, host="h1", attributes={"order": 42}, severity_number=17))
    (rejected_id,) = await ids_of(pool)
    first = await replayer.replay([rejected_id])
    assert (first.accepted, first.duplicates, first.rejected, first.remaining) == (1, 0, 0, 0)
    again = await replayer.replay([rejected_id])
    assert (again.accepted, again.duplicates, again.rejected, again.remaining) == (0, 0, 0, 0)
    (event,) = await events_of(pool)
    assert (event["timestamp"], event["host"], event["attributes"], event["severity_number"]) == (STAMP, "h1", {"order": 42}, 17)
    assert "jane" not in event["body"]
    group = await pool.fetchrow("SELECT count, replayed FROM ingest.rejection_groups")
    assert group is not None
    assert tuple(group) == (1, 1)


async def test_racing_replays_store_an_event_once(intake: Intake, pool: asyncpg.Pool[Any], replayer: Replayer) -> None:
    await reject(intake, *(refused(b"event %d" % number) for number in range(20)))
    ids = await ids_of(pool)
    results = await asyncio.gather(*(replayer.replay(ids) for _ in range(4)))
    assert sum(result.accepted for result in results) == 20
    assert sorted(event["body"] for event in await events_of(pool)) == sorted(f"event {number}" for number in range(20))
    assert await pool.fetchval("SELECT replayed FROM ingest.rejection_groups") == 20


async def test_an_event_without_a_time_counts_as_of_its_arrival(intake: Intake, pool: asyncpg.Pool[Any], replayer: Replayer) -> None:
    await reject(intake, refused(b"no time in here"))
    await pool.execute("UPDATE ingest.rejected_events SET rejected_at = rejected_at - interval '3 days'")
    await replayer.replay(await ids_of(pool))
    (event,) = await events_of(pool)
    assert abs(time.time_ns() - 3 * DAY - event["timestamp"]) < 60 * 10**9


async def test_a_large_record_is_replayed_with_a_format_that_cuts_it(intake: Intake, pool: asyncpg.Pool[Any], replayer: Replayer) -> None:
    lines = [f"2026-11-01T00:00:{number:02} host{number} line {'y' * 30}" for number in range(60)]
    batch = Batch()
    batch.append("\n".join(lines), source="shop", timestamp=STAMP, host="h1")
    batch.append("good", source="shop", timestamp=STAMP)
    outcome = await intake.take(batch, ARRIVAL, default_system="application")
    assert (outcome.accepted, outcome.rejected) == (1, 1)
    (rejected_id,) = await ids_of(pool)

    whole = await replayer.replay([rejected_id])
    assert (whole.accepted, whole.rejected) == (0, 1)
    assert whole.problems[0][0] == rejected_id
    assert "name a format" in whole.problems[0][1]
    state = intake._sources.state("shop")
    format_before = (state.format, state.detected_by)
    cut = await replayer.replay([rejected_id], format_name="plain")
    assert (cut.accepted, cut.rejected, cut.remaining) == (60, 0, 0)
    assert (state.format, state.detected_by) == format_before
    events = [event for event in await events_of(pool) if event["body"] != "good"]
    assert {event["host"] for event in events} == {"h1"}
    assert len(events) == 60


async def test_a_group_is_replayed_whole_to_another_source(intake: Intake, pool: asyncpg.Pool[Any], service: rpc.RejectionServiceAsyncStub) -> None:
    await reject(intake, *(refused(b'{"msg":"event %d"}' % number) for number in range(3)), refused(b"  "))
    (group,) = (await service.ListRejectedEvents(pb.ListRejectedEventsRequest())).events
    response = await service.ReplayRejected(pb.ReplayRejectedRequest(ids=[group.id], format="json_lines", source="repaired"))
    assert (response.accepted, response.rejected, response.remaining) == (3, 1, 0)
    assert [problem.problem for problem in response.problems] == ["there is no text in it"]
    assert {event["source"] for event in await events_of(pool)} == {"repaired"}
    records = (await service.ListRejectedRecords(pb.ListRejectedRecordsRequest(event_id=group.id))).records
    assert [record.HasField("replayed_at") for record in records] == [False, True, True, True]


async def test_a_record_whose_key_is_gone_holds_up_no_other(intake: Intake, pool: asyncpg.Pool[Any], service: rpc.RejectionServiceAsyncStub) -> None:
    await reject(intake, *(refused(b"event %d" % number) for number in range(3)))
    first, *_ = await ids_of(pool)
    await pool.execute("UPDATE ingest.rejected_events SET key_id = 'lost' WHERE id = $1", first)
    (group,) = (await service.ListRejectedEvents(pb.ListRejectedEventsRequest())).events
    response = await service.ReplayRejected(pb.ReplayRejectedRequest(ids=[group.id]))
    assert (response.accepted, response.rejected, response.remaining) == (2, 1, 0)
    assert [(problem.id, "ELIS_SEAL_OLD_KEYS" in problem.problem) for problem in response.problems] == [(str(first), True)]


async def test_records_that_stay_rejected_are_in_nobodys_way(intake: Intake, service: rpc.RejectionServiceAsyncStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MAX_RECORDS", 2)
    await reject(intake, *(refused(b"  ") for _ in range(5)), refused(b"good"))
    (group,) = (await service.ListRejectedEvents(pb.ListRejectedEventsRequest())).events
    tried, token = [], ""
    while True:
        response = await service.ReplayRejected(pb.ReplayRejectedRequest(ids=[group.id], page_token=token))
        tried.append((response.accepted, response.rejected, response.remaining))
        token = response.next_page_token
        if not response.remaining:
            break
    assert tried == [(0, 2, 4), (0, 2, 2), (1, 1, 0)]
    assert token == ""


async def test_wrong_replays_are_refused(service: rpc.RejectionServiceAsyncStub) -> None:
    for request, error in (
        (pb.ReplayRejectedRequest(), InvalidArgument),
        (pb.ReplayRejectedRequest(ids=["x"] * 501), InvalidArgument),
        (pb.ReplayRejectedRequest(ids=["x"]), InvalidArgument),
        (pb.ReplayRejectedRequest(ids=[str(uuid7())], format="xml"), InvalidArgument),
        (pb.ReplayRejectedRequest(ids=[str(uuid7())]), NotFound),
    ):
        with pytest.raises(error):
            await service.ReplayRejected(request)


async def test_a_replay_that_is_cut_off_leaves_its_record_to_be_replayed(intake: Intake, pool: asyncpg.Pool[Any], replayer: Replayer) -> None:
    await reject(intake, refused(b"event"))
    await pool.execute("ALTER TABLE ingest.feed RENAME TO feed_away")
    ids = await ids_of(pool)
    with pytest.raises(Exception, match="database"):
        await replayer.replay(ids)
    await pool.execute("ALTER TABLE ingest.feed_away RENAME TO feed")
    assert (await replayer.replay(ids)).accepted == 1
