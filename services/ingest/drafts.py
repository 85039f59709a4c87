"""Drafts of blocks: which rows become which block, and the building of it."""

from __future__ import annotations

import threading
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

_COMPRESSION = zstandard.ZstdCompressionParameters.from_level(1, window_log=22, hash_log=16, min_match=7)
"""What repeats in lines is long: looking for matches of seven bytes makes blocks smaller than level 3, in two thirds of its time."""
_KEPT_BYTES = 4 * 1024 * 1024
"""Of the lines of a block, what is kept as memory for those of the next."""
NANOSECONDS_PER_DAY = 86_400_000_000_000


class _OfThread(threading.local):
    """What each thread has of its own, as no two may use it at once: making it anew costs more than a small block."""

    def __init__(self) -> None:
        self.lines = bytearray()
        self.compressor = zstandard.ZstdCompressor(compression_params=_COMPRESSION)


_of_thread = _OfThread()


@dataclass(frozen=True, slots=True)
class Draft:
    """Rows of one day, kept for the same time, that become one block."""

    partition: Partition
    rows: Sequence[int]


def draft_blocks(prepared: Prepared, rows: Sequence[int], max_events: int) -> Iterator[Draft]:
    """Cuts rows into drafts of one partition and at most `max_events` each."""
    for day, members in _by_day(prepared, rows):
        for keep_days, kept in _by_retention(prepared, members):
            for start in range(0, len(kept), max_events):
                yield Draft(Partition(day, keep_days), kept[start : start + max_events])


def _by_day(prepared: Prepared, rows: Sequence[int]) -> Iterable[tuple[int, Sequence[int]]]:
    """Returns rows by their day."""
    stamps = _stamps_of(prepared, rows)
    if not stamps:
        return ()
    first = min(stamps) // NANOSECONDS_PER_DAY
    if first == max(stamps) // NANOSECONDS_PER_DAY:
        return ((first, rows),)
    days: defaultdict[int, list[int]] = defaultdict(list)
    for row, stamp in zip(rows, stamps, strict=True):
        days[stamp // NANOSECONDS_PER_DAY].append(row)
    return days.items()


def _stamps_of(prepared: Prepared, rows: Sequence[int]) -> Sequence[int]:
    return prepared.timestamps if len(rows) == len(prepared.timestamps) else [prepared.timestamps[row] for row in rows]


def _by_retention(prepared: Prepared, rows: Sequence[int]) -> Iterable[tuple[int, Sequence[int]]]:
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
    stamps = _stamps_of(prepared, draft.rows)
    with stage("count"):
        summary = summarise(prepared, draft.rows)
        counted = summary.SerializeToString()
    with stage("encode"):
        length = encode_lines(prepared, draft.rows, block_id, _of_thread.lines)
    with stage("compress"):
        compressed = _of_thread.compressor.compress(counted)
        with memoryview(_of_thread.lines) as buffer, buffer[:length] as lines:
            compressed_lines = _of_thread.compressor.compress(lines)
        del _of_thread.lines[_KEPT_BYTES:]
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
