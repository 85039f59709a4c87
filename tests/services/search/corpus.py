"""Events for tests of search: canonical lines, in blocks as ingest hands them out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import zstandard

from services.search.engine import DAY, LineBlock
from services.search.lines import Line, decode_line

NOON = 20_000 * DAY + DAY // 2
"""The middle of a day in 2024."""
_ORDER = (
    "event_id",
    "timestamp",
    "observed_at",
    "source",
    "system",
    "severity_number",
    "fingerprint",
    "body",
    "environment",
    "host",
    "service",
    "severity_text",
    "attributes",
    "trace_id",
    "span_id",
)


def make_line(event_id: int, **given: Any) -> bytes:
    """Returns a canonical line; what is not given gets a plain value or is left out."""
    event = {
        "timestamp": NOON,
        "observed_at": NOON,
        "source": "web",
        "system": "application",
        "severity_number": 9,
        "fingerprint": "00000000000000aa",
        "body": "",
        **given,
        "event_id": event_id,
    }
    present = {key: event[key] for key in _ORDER if event.get(key) not in (None, "", {}) or key in _ORDER[:8]}
    return json.dumps(present, ensure_ascii=False, separators=(",", ":")).encode()


def make_block(block_id: int, events: Sequence[dict[str, Any]]) -> LineBlock:
    """Returns a block of events of one day."""
    lines = [make_line((block_id << 20) + ordinal, **event) for ordinal, event in enumerate(events)]
    days = {decode_line(line).timestamp // DAY for line in lines}
    assert len(days) == 1, "a block has events of one day"
    return LineBlock(block_id, days.pop(), compress(lines))


def make_blocks(events: Iterable[dict[str, Any]], *, size: int = 50, first_id: int = 1) -> list[LineBlock]:
    """Returns events in blocks of at most `size`, each of one day."""
    blocks: list[LineBlock] = []
    by_day: dict[int, list[dict[str, Any]]] = {}
    for event in events:
        by_day.setdefault(event.get("timestamp", NOON) // DAY, []).append(event)
    for of_day in by_day.values():
        for start in range(0, len(of_day), size):
            blocks.append(make_block(first_id + len(blocks), of_day[start : start + size]))
    return blocks


def compress(lines: Sequence[bytes]) -> bytes:
    """Returns lines as a block keeps them."""
    return zstandard.ZstdCompressor().compress(b"".join(line + b"\n" for line in lines))


def lines_of(blocks: Iterable[LineBlock]) -> list[Line]:
    """Returns the events of blocks, decoded."""
    return [decode_line(line) for block in blocks for line in zstandard.ZstdDecompressor().decompress(block.lines).splitlines()]
