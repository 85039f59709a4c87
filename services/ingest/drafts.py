"""Drafts of blocks: which rows become which block, and the building of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import zstandard

from services.ingest.blocks import NewBlock
from services.ingest.lines import encode_lines
from services.ingest.pipeline import Prepared
from services.ingest.summary import summarise

COMPRESSION_LEVEL = 3
NANOSECONDS_PER_DAY = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class Draft:
    """Rows of one day that become one block."""

    day: int
    """Days since 1970."""
    rows: Sequence[int]


def draft_blocks(prepared: Prepared, rows: Sequence[int], max_events: int) -> Iterator[Draft]:
    """Cuts rows into drafts of one day and at most `max_events` each."""
    days: defaultdict[int, list[int]] = defaultdict(list)
    timestamps = prepared.timestamps
    for row in rows:
        days[timestamps[row] // NANOSECONDS_PER_DAY].append(row)
    for day, members in days.items():
        for start in range(0, len(members), max_events):
            yield Draft(day, members[start : start + max_events])


def build_block(prepared: Prepared, draft: Draft, block_id: int) -> NewBlock:
    """Encodes, counts and compresses the rows of a draft."""
    stamps = [prepared.timestamps[row] for row in draft.rows]
    compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL)
    return NewBlock(
        id=block_id,
        day=draft.day,
        events=len(draft.rows),
        first_timestamp=min(stamps),
        last_timestamp=max(stamps),
        summary=compressor.compress(summarise(prepared, draft.rows).SerializeToString()),
        lines=compressor.compress(encode_lines(prepared, draft.rows, block_id)),
    )
