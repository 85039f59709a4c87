"""Roll-ups: counts per minute and series, merged from the summaries of blocks, each block once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg
import numpy as np
import structlog
from numpy.typing import NDArray

from elis.ingest.v1 import ingest_pb2 as ingest
from services.correlate.dimensions import Dimensions, SeriesKey, to_signed

log = structlog.get_logger()

ORDINAL_BITS = 20
"""An event id is the block id shifted by so many bits, plus the ordinal in the block."""

if TYPE_CHECKING:
    Connection = asyncpg.pool.PoolConnectionProxy[Any]

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Counted rows of one or more blocks, as columns of equal length."""

    minute: Integers
    series: Integers
    events: Integers
    first_event: Integers
    fingerprint: Integers
    """Row ids of the fingerprints."""
    source: Integers


class MovedOn(Exception):
    """What was about to be counted may have been counted and forgotten: the feed has moved on meanwhile."""


@dataclass(frozen=True, slots=True)
class AtCursor:
    """Proof that blocks are still unpassed: the feed's cursor is the one after which they were listed."""

    cursor: str

    async def check(self, connection: Connection) -> None:
        """Raises MovedOn unless the cursor still stands; keeps it where it is until the transaction ends."""
        cursor = await connection.fetchval("SELECT cursor FROM correlate.feed_position WHERE id = 1 FOR SHARE")
        if cursor != self.cursor:
            raise MovedOn


@dataclass(frozen=True, slots=True)
class AnnouncedAt:
    """Proof that blocks are young: when the stream announced the oldest, and the age up to which that is believed."""

    milliseconds: int
    """Since 1970."""
    limit_seconds: float

    async def check(self, connection: Connection) -> None:
        """Raises MovedOn when the announcement is too old."""
        age = await connection.fetchval("SELECT extract(epoch FROM now()) * 1000 - $1::bigint", self.milliseconds)
        if float(age) > self.limit_seconds * 1000:
            raise MovedOn


class Rollups:
    """Counts blocks. Safe for any number of replicas: the block's id and its counts are one transaction."""

    def __init__(self, pool: asyncpg.Pool, dimensions: Dimensions) -> None:
        self._pool = pool
        self._dimensions = dimensions

    async def count(self, blocks: Sequence[ingest.Block], proof: AtCursor | AnnouncedAt) -> int:
        """Adds the summaries of the blocks that are not counted yet; returns how many those were.

        Raises MovedOn when `proof` no longer holds, and asyncpg's errors when the database does not take it: then
        nothing was counted.
        """
        readable = await self._read(blocks)
        async with self._pool.acquire() as connection, connection.transaction():
            await proof.check(connection)
            ids = sorted({block.id for block in blocks})
            claimed = await connection.fetch(
                "INSERT INTO correlate.done_block (block_id) SELECT * FROM unnest($1::bigint[]) ON CONFLICT DO NOTHING RETURNING block_id", ids
            )
            new = {row["block_id"] for row in claimed}
            fresh = [rows for block_id, rows in readable.items() if block_id in new]
            if fresh:
                await _add(connection, _concatenate(fresh))
        return len(new)

    async def _read(self, blocks: Sequence[ingest.Block]) -> dict[int, Rows]:
        """Returns the rows of the summaries in terms of ids, by block; one that makes no sense is left out, with an error in the log.

        What is new in any of the blocks is created at once: most blocks of a busy time hold something new.
        """
        columns: list[dict[str, Integers]] = []
        sound: list[ingest.Block] = []
        for block in blocks:
            rows = {name: np.asarray(getattr(block.summary, name), dtype=np.int64) for name in _ROW_COLUMNS}
            problem = _find_problem(block.summary, rows)
            if problem:
                # Stopping here would stop the feed for good. The events themselves are safe in the block.
                log.error("block summary cannot be counted", block_id=block.id, problem=problem)
            else:
                columns.append(rows)
                sound.append(block)
        summaries = [block.summary for block in sound]
        prints = [to_signed(value) for summary in summaries for value in summary.fingerprints]
        ids = {
            "source": await self._dimensions.sources([source for summary in summaries for source in _sources_of(summary)]),
            "service": await self._dimensions.services([name for summary in summaries for name in summary.services]),
            "host": await self._dimensions.hosts([name for summary in summaries for name in summary.hosts]),
            "fingerprint": await self._dimensions.fingerprints(prints, [text for summary in summaries for text in summary.templates]),
        }
        arrays = {name: np.array(values, dtype=np.int64) for name, values in ids.items()}
        offsets = dict.fromkeys(ids, 0)
        series_of: list[tuple[list[SeriesKey], Integers]] = []
        for summary, rows in zip(summaries, columns, strict=True):
            first, position = _distinct(rows)
            for name, names in (("source", summary.sources), ("service", summary.services), ("host", summary.hosts), ("fingerprint", summary.fingerprints)):
                rows[name] = arrays[name][rows[name] + offsets[name]]
                offsets[name] += len(names)
            series_of.append((list(zip(*(rows[name][first].tolist() for name in _SERIES_COLUMNS), strict=True)), position))
        series = await self._dimensions.series(key for keys, _ in series_of for key in keys)
        return {
            block.id: Rows(
                minute=rows["minute"],
                series=np.array([series[key] for key in keys], dtype=np.int64)[position],
                events=rows["count"],
                first_event=(block.id << ORDINAL_BITS) + rows["first_ordinal"],
                fingerprint=rows["fingerprint"],
                source=rows["source"],
            )
            for block, rows, (keys, position) in zip(sound, columns, series_of, strict=True)
        }


def _sources_of(summary: ingest.BlockSummary) -> list[tuple[str, str, str]]:
    """Returns the sources of a summary with their systems and environments, which an older block may lack."""
    systems = [*summary.systems, *[""] * (len(summary.sources) - len(summary.systems))]
    environments = [*summary.environments, *[""] * (len(summary.sources) - len(summary.environments))]
    return list(zip(summary.sources, systems, environments, strict=True))


_ROW_COLUMNS = ("minute", "source", "service", "host", "severity_number", "fingerprint", "count", "first_ordinal")
_SERIES_COLUMNS = ("source", "service", "host", "severity_number", "fingerprint")
_MAX_MINUTE = (1 << 31) - 1


def _find_problem(summary: ingest.BlockSummary, rows: dict[str, Integers]) -> str:
    """Says what is wrong with a summary; empty when it can be counted."""
    lengths = {len(column) for column in rows.values()}
    if len(lengths) != 1:
        return "columns of different length"
    if len(summary.templates) != len(summary.fingerprints):
        return "not one template for each fingerprint"
    if not lengths.pop():
        return ""
    for name, names in (("source", summary.sources), ("service", summary.services), ("host", summary.hosts), ("fingerprint", summary.fingerprints)):
        if int(rows[name].max()) >= len(names):
            return f"a {name} index out of range"
    if int(np.abs(rows["minute"]).max()) > _MAX_MINUTE or int(rows["severity_number"].max()) > 24:
        return "a minute or severity out of range"
    return ""


def _distinct(rows: dict[str, Integers]) -> tuple[Integers, Integers]:
    """Returns the first row of each series in a summary, and for each row which of them is its series.

    A block has at most 2^14 of each name and 25 severities: five indices are one number of 61 bits, which sorts far faster than rows.
    """
    packed = np.zeros(len(rows["minute"]), dtype=np.int64)
    for name in _SERIES_COLUMNS:
        column = rows[name]
        packed = packed * (int(column.max(initial=0)) + 1) + column
    _, first, position = np.unique(packed, return_index=True, return_inverse=True)
    return first, position


def _concatenate(parts: list[Rows]) -> Rows:
    return Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in Rows.__slots__))


def _array(column: Integers) -> str:
    """Returns a column as PostgreSQL writes an array: a parameter of thousands of numbers costs the driver far more."""
    return f"{{{','.join(map(str, column.tolist()))}}}"


async def _add(connection: Connection, rows: Rows) -> None:
    """Upserts the rows, always in the order of their keys, so that replicas never wait for each other in a circle."""
    if not len(rows.minute):
        return
    order = np.lexsort((rows.series, rows.minute))
    minute, series = rows.minute[order], rows.series[order]
    starts = np.flatnonzero(np.r_[True, (minute[1:] != minute[:-1]) | (series[1:] != series[:-1])])
    await connection.execute(
        """INSERT INTO correlate.roll_up AS r (minute, series_id, events, first_event_id)
           SELECT * FROM unnest($1::text::int[], $2::text::int[], $3::text::int[], $4::text::bigint[])
           ON CONFLICT (minute, series_id) DO UPDATE
           SET events = r.events + excluded.events, first_event_id = least(r.first_event_id, excluded.first_event_id)""",
        _array(minute[starts]),
        _array(series[starts]),
        _array(np.add.reduceat(rows.events[order], starts)),
        _array(np.minimum.reduceat(rows.first_event[order], starts)),
    )
    order = np.argsort(rows.fingerprint, kind="stable")
    fingerprint, minute = rows.fingerprint[order], rows.minute[order]
    starts = np.flatnonzero(np.r_[True, fingerprint[1:] != fingerprint[:-1]])
    await connection.execute(
        """INSERT INTO correlate.fingerprint_total AS t (fingerprint_id, events, first_minute, last_minute)
           SELECT * FROM unnest($1::text::int[], $2::text::bigint[], $3::text::int[], $4::text::int[])
           ON CONFLICT (fingerprint_id) DO UPDATE
           SET events = t.events + excluded.events, first_minute = least(t.first_minute, excluded.first_minute),
               last_minute = greatest(t.last_minute, excluded.last_minute)""",
        _array(fingerprint[starts]),
        _array(np.add.reduceat(rows.events[order], starts)),
        _array(np.minimum.reduceat(minute, starts)),
        _array(np.maximum.reduceat(minute, starts)),
    )
    order = np.argsort(rows.source, kind="stable")
    source, minute = rows.source[order], rows.minute[order]
    starts = np.flatnonzero(np.r_[True, source[1:] != source[:-1]])
    await connection.execute(
        """INSERT INTO correlate.source_clock AS c (source_id, newest_minute, heard_at)
           SELECT source_id, minute, clock_timestamp() FROM unnest($1::text::int[], $2::text::int[]) AS new (source_id, minute)
           ON CONFLICT (source_id) DO UPDATE
           SET newest_minute = greatest(c.newest_minute, excluded.newest_minute), heard_at = excluded.heard_at""",
        _array(source[starts]),
        _array(np.maximum.reduceat(minute, starts)),
    )
    await connection.execute(
        """INSERT INTO correlate.minute_change (minute, changed_in)
           SELECT minute, pg_current_xact_id()::text::bigint FROM unnest($1::text::int[]) AS new (minute)
           ON CONFLICT (minute) DO UPDATE SET changed_in = excluded.changed_in""",
        _array(np.unique(rows.minute)),
    )
