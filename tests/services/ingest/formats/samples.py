"""The samples of the formats: reads them, and rewrites what is expected of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from services.ingest.batch import Batch
from services.ingest.formats import FORMATS

FOLDER = Path(__file__).parent
ZONE = ZoneInfo("Europe/Berlin")
COLUMNS = ("severity_number", "severity_text", "host", "service", "trace_id", "span_id", "body", "attributes")
YEARLESS = ("Oct 11 22:14:15", "Jun 14 15:16:01", "Jul 27 14:41:58", "Jun 19 04:09:11", "Feb 29 10:00:00", "I0102 15:04:05.123456")


def sample_names() -> list[str]:
    """Returns the names of the folders with a sample."""
    return sorted(path.parent.name for path in FOLDER.glob("*/input.log"))


def read_lines(name: str) -> list[str]:
    """Returns the raw lines of a sample."""
    return (FOLDER / name / "input.log").read_text(encoding="utf-8").split("\n")


def read_expected(name: str) -> list[dict[str, Any]]:
    """Returns the events that a sample must give."""
    return [json.loads(line) for line in (FOLDER / name / "expected.jsonl").read_text(encoding="utf-8").splitlines()]


def parse_records(name: str, records: list[str]) -> Batch:
    """Returns a batch with the records parsed by the format."""
    batch = Batch()
    for record in records:
        batch.append(record, source="sample")
    FORMATS[name].parse(batch, range(len(batch)), ZONE)
    return batch


def spell_timestamp(nanos: int) -> str:
    """Returns nanoseconds as a time in UTC, or an empty text for 0."""
    if not nanos:
        return ""
    return f"{datetime.fromtimestamp(nanos // 10**9, UTC):%Y-%m-%dT%H:%M:%S}.{nanos % 10**9:09d}Z"


def describe_events(batch: Batch) -> Iterator[dict[str, Any]]:
    """Yields the rows of a batch as objects without their empty columns."""
    for row in range(len(batch)):
        event: dict[str, Any] = {"timestamp": spell_timestamp(batch.timestamp[row])}
        event |= {column: getattr(batch, column)[row] for column in COLUMNS}
        yield {key: value for key, value in event.items() if value}


def main(names: list[str]) -> None:
    """Rewrites the expected events of the samples."""
    for name in names or sample_names():
        records = FORMATS[name].split(read_lines(name))
        with (FOLDER / name / "expected.jsonl").open("w", encoding="utf-8") as file:
            for record, event in zip(records, describe_events(parse_records(name, records)), strict=True):
                if any(stamp in record for stamp in YEARLESS) and "timestamp" in event:
                    event["timestamp"] = "*" + event["timestamp"][4:]
                file.write(json.dumps(event, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
