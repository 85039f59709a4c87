"""Plays a story: paces its events by the event clock, hands them to ELIS or to a folder, and keeps the truth."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from kit.errors import InvalidArgument
from services.ingest.credentials_file import SenderCredentials
from services.ingest.simulator import otlp
from services.ingest.simulator.delivery import encode_event, open_delivery
from services.ingest.simulator.events import HecPayload, OtlpPayload, SimulatedEvent
from services.ingest.simulator.generator import generate
from services.ingest.simulator.labels import Header, LabelFile, describe_plan
from services.ingest.simulator.sap_folder import SapFolder
from services.ingest.simulator.stamps import SECOND
from services.ingest.simulator.story import Plan

MAX_BATCH = 2000
"""Events handed on at once."""
TICK_SECONDS = 0.1
"""How often events that have become due are handed on."""


def check_speed(speed: float) -> None:
    """Raises InvalidArgument when a story cannot be played at a speed."""
    if not 0.0 <= speed < float("inf"):
        raise InvalidArgument(f"the speed must be 0 (as fast as possible) or more, not {speed:g}")


@dataclass(slots=True)
class Progress:
    """How far a story has been played. Grows while it plays; what it holds when a playback ends is the summary."""

    header: Header
    events: int = 0
    """Events handed on."""
    clock_ns: int = 0
    """Time of the last of them, nanoseconds since 1970."""
    systems: Counter[str] = field(default_factory=Counter)
    """Events handed on, by system."""
    services: Counter[tuple[str, str]] = field(default_factory=Counter)
    """The same by system and service."""
    accepted: Counter[str] = field(default_factory=Counter)
    """Events that ELIS has acknowledged, by system."""
    failed: Counter[str] = field(default_factory=Counter)
    """Events that ELIS has refused for good, by system."""
    seconds: float = 0.0
    """How long it took by the wall clock."""


Report = Callable[[Progress], None]


def _ignore(_: Progress) -> None:
    pass


class Pacer:
    """Cuts a story into batches: by number at speed 0, else by what has become due."""

    def __init__(self, plan: Plan, speed: float) -> None:
        """`speed` is seconds of event time in a second of the wall clock."""
        self._events: Iterator[SimulatedEvent] = generate(plan)
        self._speed = speed
        self._start_ns = plan.start_ns - plan.start_ns % SECOND
        self._started = time.monotonic()
        self._next: SimulatedEvent | None = next(self._events, None)

    async def next_batch(self) -> list[SimulatedEvent]:
        """Waits until events are due and returns them; an empty list ends the story."""
        while self._next is not None:
            until_ns = self._due_ns()
            batch: list[SimulatedEvent] = []
            while self._next is not None and len(batch) < MAX_BATCH and (until_ns is None or self._next.time_ns <= until_ns):
                batch.append(self._next)
                self._next = next(self._events, None)
            if batch:
                return batch
            await asyncio.sleep(TICK_SECONDS)
        return []

    def _due_ns(self) -> int | None:
        if self._speed == 0.0:
            return None
        return self._start_ns + int((time.monotonic() - self._started) * self._speed * SECOND)


async def play(
    plan: Plan,
    credentials: SenderCredentials,
    *,
    speed: float = 60.0,
    labels: Path | None = None,
    sap_dir: Path | None = None,
    progress: Progress | None = None,
    report: Report = _ignore,
) -> Progress:
    """Sends a story to ELIS and returns what was sent, with the header that names the planted root.

    `sap_dir` keeps the files of the SAP hosts (by default they are temporary). `progress` may be passed in to be
    read meanwhile; `report` is called after each batch. Raises InvalidArgument or NotFound for a bad plan or path,
    Unavailable when ELIS does not answer, PermissionDenied when it refuses the token.
    """
    check_speed(speed)
    progress = progress or Progress(describe_plan(plan))
    started = time.monotonic()
    pacer = Pacer(plan, speed)
    with ExitStack() as resources:
        label_file = resources.enter_context(LabelFile(labels, progress.header)) if labels is not None else None
        folder = SapFolder(sap_dir or Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="elis-sap-"))))
        resources.callback(folder.close)
        async with open_delivery(credentials, folder) as delivery:
            await delivery.check()
            progress.accepted, progress.failed = delivery.counts.accepted, delivery.counts.failed
            while batch := await pacer.next_batch():
                await delivery.deliver(batch)
                _count(progress, batch, started, label_file)
                report(progress)
    return progress


async def write(plan: Plan, out: Path, *, labels: Path | None = None, progress: Progress | None = None, report: Report = _ignore) -> Progress:
    """Writes a story to a folder for looking at it: `hec.jsonl`, `otlp.jsonl` and the files of the SAP hosts in `sap/`.

    Raises InvalidArgument or NotFound for a bad plan, or for a path that cannot be written.
    """
    progress = progress or Progress(describe_plan(plan))
    started = time.monotonic()
    pacer = Pacer(plan, 0.0)
    with ExitStack() as resources:
        label_file = resources.enter_context(LabelFile(labels, progress.header)) if labels is not None else None
        folder = SapFolder(out / "sap")
        resources.callback(folder.close)
        hec = resources.enter_context((out / "hec.jsonl").open("wb"))
        records = resources.enter_context((out / "otlp.jsonl").open("wb"))
        while batch := await pacer.next_batch():
            folder.write(batch)
            for event in batch:
                if isinstance(event.payload, HecPayload):
                    hec.write(encode_event(event, event.payload) + b"\n")
                elif isinstance(event.payload, OtlpPayload):
                    records.write(_describe_record(event, event.payload) + b"\n")
            _count(progress, batch, started, label_file)
            report(progress)
            # Gives Ctrl-C and the progress bar their turn.
            await asyncio.sleep(0)
    return progress


def _describe_record(event: SimulatedEvent, payload: OtlpPayload) -> bytes:
    return orjson.dumps(
        {
            "time_unix_nano": event.time_ns,
            "severity_number": payload.severity_number,
            "severity_text": payload.severity_text,
            "body": payload.body,
            "attributes": payload.attributes,
            "trace_id": payload.trace_id,
            "span_id": payload.span_id,
            "resource": otlp.resource_of(event),
        }
    )


def _count(progress: Progress, batch: list[SimulatedEvent], started: float, label_file: LabelFile | None) -> None:
    progress.events += len(batch)
    progress.clock_ns = batch[-1].time_ns
    progress.systems.update(event.system for event in batch)
    progress.services.update((event.system, event.service) for event in batch)
    progress.seconds = time.monotonic() - started
    if label_file is not None:
        label_file.add(batch)
