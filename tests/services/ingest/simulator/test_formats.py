"""Simulated logs look like the real thing: every record is understood by the format of its name, at its time."""

from __future__ import annotations

from collections import Counter
from datetime import UTC
from functools import cache
from pathlib import Path

import orjson
import pytest

from services.ingest.batch import Batch
from services.ingest.formats import FORMATS
from services.ingest.simulator.delivery import cut_records
from services.ingest.simulator.events import FilePayload, HecPayload, SimulatedEvent
from services.ingest.simulator.generator import generate
from services.ingest.simulator.sap_folder import SapFolder
from services.ingest.simulator.scenarios import SCENARIOS
from services.ingest.simulator.stamps import SECOND
from services.ingest.simulator.story import Plan

START_NS = 1_790_000_000 * SECOND
SOURCE_FORMATS = {
    "nginx-access": "access_log",
    "linux-syslog": "syslog",
    "switch-syslog": "syslog",
    "haproxy": "json_lines",
    "firewall": "json_lines",
}


@cache
def story(scenario: str) -> tuple[SimulatedEvent, ...]:
    return tuple(generate(Plan(scenario, seed=11, duration=900, fault_at=0.4, start_ns=START_NS)))


def parse(name: str, texts: list[str]) -> tuple[Batch, int]:
    batch = Batch()
    for text in texts:
        batch.append(text, source="test")
    return batch, FORMATS[name].parse(batch, range(len(batch)), UTC)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_record_of_an_sap_file_is_cut_and_parsed_at_its_time(scenario: str, tmp_path: Path) -> None:
    files = [event for event in story(scenario) if isinstance(event.payload, FilePayload)]
    folder = SapFolder(tmp_path)
    expected: Counter[tuple[str, int]] = Counter()
    found: Counter[tuple[str, int]] = Counter()
    for start in range(0, len(files), 97):
        part = files[start : start + 97]
        expected.update((event.payload.format, event.time_ns) for event in part if isinstance(event.payload, FilePayload))
        for addition in folder.write(part):
            records = cut_records(addition)
            assert len(records) == addition.events
            batch, matched = parse(addition.format, records)
            assert matched == len(records)
            found.update((addition.format, time_ns) for time_ns in batch.timestamp)
    folder.close()
    assert found == expected
    assert {name for name, _ in found} == {"sap_dev_trace", "sap_audit_log", "sap_dump", "sap_idoc", "hana_trace"} or scenario == "quiet"


def test_lines_of_the_infrastructure_are_understood() -> None:
    for source, name in SOURCE_FORMATS.items():
        texts = [
            event.payload.event if isinstance(event.payload.event, str) else orjson.dumps(event.payload.event).decode()
            for event in story("firewall-change")
            if isinstance(event.payload, HecPayload) and event.source == source
        ]
        batch, matched = parse(name, texts)
        assert matched == len(texts) > 20, source
        if name == "access_log":
            assert all("http.status" in (attributes or {}) for attributes in batch.attributes)


def test_audit_records_have_200_characters_and_no_line_ends(tmp_path: Path) -> None:
    folder = SapFolder(tmp_path)
    folder.write(story("quiet"))
    folder.close()
    for path in tmp_path.rglob("audit_*"):
        text = path.read_text()
        assert len(text) % 200 == 0
        assert "\n" not in text
        assert all(text[start] == "2" for start in range(0, len(text), 200))


def test_a_trace_file_has_its_head_once_and_a_stamp_for_each_second(tmp_path: Path) -> None:
    folder = SapFolder(tmp_path)
    for event in story("hana-volume-full"):
        folder.write([event])
    folder.close()
    lines = (tmp_path / "sapapp1/usr/sap/PRD/D01/work/dev_w3").read_text().splitlines()
    assert lines[0] == 'trc file: "dev_w3", trc level: 1, release: "754"'
    assert sum(line.startswith("trc file") for line in lines) == 1
    stamps = [line for line in lines if line.startswith("M  ") and line.endswith(" 2026")]
    assert len(stamps) == len(set(stamps)) > 10
