"""The truth about a story as a file: a header line, then one line for each event, all JSON."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from kit.errors import InvalidArgument
from services.ingest.simulator import stamps
from services.ingest.simulator.events import Role, Root, SimulatedEvent
from services.ingest.simulator.generator import find_scenario
from services.ingest.simulator.story import Plan, Story


class Header(msgspec.Struct, frozen=True):
    """What was planted. `fault`, `root` and `fault_start*` are None in a story without a fault."""

    scenario: str
    seed: int
    rate: float
    duration_seconds: int
    start: str
    start_ns: int
    fault: str | None
    root: Root | None
    fault_start: str | None
    fault_start_ns: int | None


class Line(msgspec.Struct, frozen=True):
    """The truth about one event, with what it takes to find the event again."""

    event: int
    time_ns: int
    source: str
    host: str
    system: str
    service: str
    fault: str | None
    role: Role | None


def describe_plan(plan: Plan) -> Header:
    """Returns the header of a plan's labels; raises NotFound for an unknown scenario."""
    scenario = find_scenario(plan.scenario)
    story = Story(plan, scenario.name)
    fault_start_ns = story.start_ns + story.onset * stamps.SECOND if scenario.root is not None else None
    return Header(
        scenario=scenario.name,
        seed=plan.seed,
        rate=plan.rate,
        duration_seconds=plan.duration,
        start=stamps.iso(story.start_ns),
        start_ns=story.start_ns,
        fault=scenario.name if scenario.root is not None else None,
        root=scenario.root,
        fault_start=stamps.iso(fault_start_ns) if fault_start_ns is not None else None,
        fault_start_ns=fault_start_ns,
    )


class LabelFile:
    """Writes labels as events are delivered. The file is complete up to the last `add`."""

    def __init__(self, path: Path, header: Header) -> None:
        """Opens the file; raises InvalidArgument when it cannot be written."""
        self._encoder = msgspec.json.Encoder()
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise InvalidArgument(f"the labels file {path} cannot be written ({error.strerror}); choose another one with --labels") from None
        self._file.write(self._encoder.encode(header) + b"\n")

    def add(self, events: Iterable[SimulatedEvent]) -> None:
        """Appends a line for each event."""
        lines = [
            Line(event.label.event, event.time_ns, event.source, event.host, event.system, event.service, event.label.fault, event.label.role)
            for event in events
        ]
        self._file.write(self._encoder.encode_lines(lines))
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._file.close()
