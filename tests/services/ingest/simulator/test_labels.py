"""The labels file: a header that names what was planted, and one line for each event."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kit.errors import InvalidArgument
from services.ingest.simulator.generator import generate
from services.ingest.simulator.labels import Header, LabelFile, Line, describe_plan
from services.ingest.simulator.stamps import SECOND
from services.ingest.simulator.story import Plan

PLAN = Plan("lock-storm", seed=5, duration=200, fault_at=0.5, start_ns=1_790_000_000 * SECOND)


def test_labels_say_what_was_planted_and_agree_with_the_events(tmp_path: Path) -> None:
    events = list(generate(PLAN))
    path = tmp_path / "labels.jsonl"
    with LabelFile(path, describe_plan(PLAN)) as labels:
        labels.add(events[:100])
        labels.add(events[100:])
    head, *lines = path.read_bytes().splitlines()
    header = msgspec.json.decode(head, type=Header)
    assert header.root is not None
    assert (header.root.system, header.root.service, header.fault) == ("sap", "abap", "lock-storm")
    assert header.fault_start_ns == PLAN.start_ns + 100 * SECOND
    assert header.fault_start == "2026-09-21T14:15:00.000Z"
    decoded = [msgspec.json.decode(line, type=Line) for line in lines]
    assert [line.event for line in decoded] == [event.label.event for event in events]
    assert [line.time_ns for line in decoded] == [event.time_ns for event in events]
    first = next(line for line in decoded if line.role == "root")
    assert first.time_ns == header.fault_start_ns
    assert first.fault == header.fault


def test_a_quiet_story_has_no_fault_in_its_header() -> None:
    header = describe_plan(Plan("quiet"))
    assert (header.fault, header.root, header.fault_start, header.fault_start_ns) == (None, None, None, None)


def test_an_unwritable_labels_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"no/labels\.jsonl cannot be written"):
        LabelFile(tmp_path / "no" / "labels.jsonl", describe_plan(PLAN))
