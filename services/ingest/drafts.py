"""Drafts of blocks: which rows become which block, and the building of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import zstandard

from services.ingest.blocks import NewBlock
from services.ingest.lines import encode_lines
from services.ingest.partitions import Partition
from services.ingest.pipeline import Prepared
from services.ingest.stages import StageClock
from services.ingest.summary import summarise

COMPRESSION_LEVEL = 3
NANOSECONDS_PER_DAY = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class Draft:
    """Rows of one day, kept for the same time, that become one block."""

    partition: Partition
    rows: Sequence[int]


def draft_blocks(prepared: Prepared, rows: Sequence[int], max_events: int) -> Iterator[Draft]:
    """Cuts rows into drafts of one partition and at most `max_events` each."""
    days: defaultdict[int, list[int]] = defaultdict(list)
    timestamps = prepared.timestamps
    for row in rows:
        days[timestamps[row] // NANOSECONDS_PER_DAY].append(row)
    for day, members in days.items():
        for keep_days, kept in _by_retention(prepared, members):
            for start in range(0, len(kept), max_events):
                yield Draft(Partition(day, keep_days), kept[start : start + max_events])


def _by_retention(prepared: Prepared, rows: list[int]) -> Iterable[tuple[int, list[int]]]:
    """Returns rows by the days that they are kept."""
    if not prepared.keep_days:
        return [(0, rows)]
    classes: defaultdict[int, list[int]] = defaultdict(list)
    for row in rows:
        classes[prepared.keep_days.get(prepared.batch.source[row], 0)].append(row)
    return classes.items()


def build_block(prepared: Prepared, draft: Draft, block_id: int, clock: StageClock | None = None) -> NewBlock:
    """Encodes, counts and compresses the rows of a draft."""
    stage = (clock or StageClock()).stage
    stamps = [prepared.timestamps[row] for row in draft.rows]
    with stage("count"):
        summary = summarise(prepared, draft.rows)
        counted = summary.SerializeToString()
    with stage("encode"):
        lines = encode_lines(prepared, draft.rows, block_id)
    with stage("compress"):
        compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL)
        compressed, compressed_lines = compressor.compress(counted), compressor.compress(lines)
    return NewBlock(
        id=block_id,
        day=draft.partition.day,
        events=len(draft.rows),
        first_timestamp=min(stamps),
        last_timestamp=max(stamps),
        summary=compressed,
        lines=compressed_lines,
        keep_days=draft.partition.keep_days,
        sources=tuple(summary.sources),
    )
