"""Playing a story: everything arrives by its own channel, in order, once, whatever ELIS answers meanwhile."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from kit.errors import InvalidArgument, PermissionDenied, Unavailable
from services.ingest.credentials_file import SenderCredentials
from services.ingest.simulator.generator import generate
from services.ingest.simulator.labels import describe_plan
from services.ingest.simulator.playback import Progress, play
from services.ingest.simulator.stamps import SECOND
from services.ingest.simulator.story import Plan
from tests.services.ingest.simulator.receivers import TOKEN, Recording, run_receiver

PLAN = Plan("hana-volume-full", seed=3, duration=120, fault_at=0.5, start_ns=1_790_000_000 * SECOND)


@pytest.fixture
def receiver() -> Iterator[Recording]:
    with run_receiver() as recording:
        yield recording


def credentials(receiver: Recording, token: str = TOKEN) -> SenderCredentials:
    return SenderCredentials(hec_url=receiver.url, otlp_http_url=receiver.url, ingest_token=token)


async def test_every_event_arrives_by_its_channel(receiver: Recording, tmp_path: Path) -> None:
    progress = await play(PLAN, credentials(receiver), speed=0.0, sap_dir=tmp_path / "sap")
    events = list(generate(PLAN))
    channels = Counter(event.channel for event in events)
    assert len(receiver.records) == channels["otlp"]
    assert len(receiver.events) == channels["hec"] + channels["file"]
    assert progress.events == len(events)
    assert progress.accepted == progress.systems == Counter(event.system for event in events)
    assert progress.failed.total() == 0
    assert progress.header.root is not None
    assert set(receiver.services) == {"shop-frontend", "order-service", "payment-service", "inventory-service"}
    timed = [envelope for envelope in receiver.events if "time" in envelope]
    assert len(timed) == channels["hec"]
    shipped = [envelope for envelope in receiver.events if "time" not in envelope]
    assert {envelope["fields"]["system"] for envelope in shipped} == {"sap"}
    assert {envelope["sourcetype"] for envelope in shipped} >= {"hana_trace", "sap_dev_trace", "sap_audit_log", "sap_idoc"}
    assert list((tmp_path / "sap").rglob("dev_w*"))


async def test_each_channel_keeps_the_order_of_time(receiver: Recording) -> None:
    await play(PLAN, credentials(receiver), speed=0.0)
    expected = [f"{event.time_ns // SECOND}.{event.time_ns % SECOND:09d}" for event in generate(PLAN) if event.channel == "hec"]
    assert [envelope["time"] for envelope in receiver.events if "time" in envelope] == expected


async def test_what_is_sent_does_not_depend_on_the_speed(receiver: Recording) -> None:
    plan = Plan("quiet", seed=3, duration=20, start_ns=PLAN.start_ns)
    await play(plan, credentials(receiver), speed=0.0)
    at_once = sorted(str(envelope) for envelope in receiver.events)
    receiver.events.clear()
    await play(plan, credentials(receiver), speed=100.0)
    assert sorted(str(envelope) for envelope in receiver.events) == at_once


async def test_the_event_clock_sets_the_pace(receiver: Recording) -> None:
    started = time.monotonic()
    await play(Plan("quiet", duration=30, start_ns=PLAN.start_ns), credentials(receiver), speed=60.0)
    assert 0.4 < time.monotonic() - started < 3.0


async def test_a_busy_receiver_is_asked_again_and_nothing_is_lost(receiver: Recording) -> None:
    receiver.hec_answers += [(503, {}, b'{"text":"Server is busy","code":9}')]
    receiver.otlp_answers += [(429, {"Retry-After": "0"}, b"")]
    progress = await play(PLAN, credentials(receiver), speed=0.0)
    assert progress.accepted == progress.systems
    assert len(receiver.events) + len(receiver.records) == progress.events


async def test_what_is_refused_for_good_is_counted(receiver: Recording) -> None:
    receiver.hec_answers += [(400, {}, b'{"text":"Invalid data format","code":6,"invalid-event-number":2}')]
    partial = ExportLogsServiceResponse()
    partial.partial_success.rejected_log_records = 3
    receiver.otlp_answers += [(200, {}, partial.SerializeToString())]
    progress = await play(PLAN, credentials(receiver), speed=0.0)
    assert progress.failed.total() == 4
    assert progress.failed["application"] == 3
    assert progress.accepted.total() + 4 == progress.events
    # What stands behind the invalid event was sent again.
    assert len(receiver.events) == progress.accepted["splunk"] + progress.accepted["sap"]


async def test_what_is_rejected_within_an_accepted_request_is_counted(receiver: Recording) -> None:
    receiver.hec_answers += [(200, {"Elis-Rejected": "2"}, b'{"text":"Success","code":0}')]
    progress = await play(PLAN, credentials(receiver), speed=0.0)
    assert progress.failed.total() == 2


async def test_a_wrong_token_is_told_before_anything_is_sent(receiver: Recording) -> None:
    with pytest.raises(PermissionDenied, match="refuses the ingest token"):
        await play(PLAN, credentials(receiver, "wrong"), speed=0.0)
    assert not receiver.events


async def test_nobody_at_the_address_is_told_at_once() -> None:
    nowhere = SenderCredentials(hec_url="http://127.0.0.1:9", otlp_http_url="http://127.0.0.1:9", ingest_token=TOKEN)
    with pytest.raises(Unavailable, match=re.escape("nobody answers at http://127.0.0.1:9/services/collector/event")):
        await play(PLAN, nowhere)


async def test_a_negative_speed_is_refused(receiver: Recording) -> None:
    with pytest.raises(InvalidArgument, match="speed"):
        await play(PLAN, credentials(receiver), speed=-1.0)


async def test_a_playback_that_is_cancelled_leaves_labels_of_what_was_sent(receiver: Recording, tmp_path: Path) -> None:
    progress = Progress(describe_plan(PLAN))
    labels = tmp_path / "labels.jsonl"
    begun = asyncio.Event()
    playing = asyncio.create_task(play(PLAN, credentials(receiver), speed=20.0, labels=labels, progress=progress, report=lambda _: begun.set()))
    await begun.wait()
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert len(labels.read_bytes().splitlines()) == 1 + progress.events
