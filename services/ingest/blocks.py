"""Blocks in PostgreSQL: the truth that every later stage is made from."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BufferedReader
from itertools import islice
from typing import TYPE_CHECKING, Any

import asyncpg
import zstandard

from elis.ingest.v1 import ingest_pb2 as pb
from kit.errors import InvalidArgument
from services.ingest.lines import ORDINAL_BITS
from services.ingest.models import BLOCK_ID_RANGE
from services.ingest.partitions import Partition

if TYPE_CHECKING:
    from kit.db import SqlConnection

MAX_LINES_BYTES = 256 * 1024 * 1024
"""Largest decompressed content of a block that is accepted when reading one back."""
_PIECE_BYTES = 128 * 1024
"""Of the lines of a block, when only some of them are wanted."""
_COLUMNS = "id, day, events, first_timestamp, last_timestamp, created_at"
_STORE = """
    stored AS (
        INSERT INTO ingest.blocks (id, day, keep_days, events, first_timestamp, last_timestamp, summary, lines)
        SELECT * FROM unnest($1::bigint[], $2::int[], $3::int[], $4::int[], $5::bigint[], $6::bigint[], $7::bytea[], $8::bytea[]) {where}
    ),
    told AS (INSERT INTO ingest.feed (id, day) SELECT * FROM unnest($1::bigint[], $2::int[]) {where}),
    held AS (
        INSERT INTO ingest.held_sources (day, keep_days, source) SELECT * FROM unnest($9::int[], $10::int[], $11::text[]) {where} ON CONFLICT DO NOTHING
    )
"""
_INSERT = f"WITH {_STORE.format(where='')} SELECT"
# Nothing is written when a digest is held. When another transaction takes one meanwhile, the statement fails: it divides by zero.
_CLAIM_AND_INSERT = f"""
WITH claimed AS (
        INSERT INTO ingest.request_digests AS known (digest, expires_at) SELECT * FROM unnest($12::bytea[], $13::timestamptz[])
        WHERE NOT EXISTS (SELECT FROM ingest.request_digests WHERE digest = ANY ($12) AND expires_at > now())
        ON CONFLICT (digest) DO UPDATE SET expires_at = excluded.expires_at WHERE known.expires_at <= now()
        RETURNING 1
    ),
    won AS (SELECT count(*) > 0 AS won, 1 / (count(*) IN (0, cardinality($12)))::int AS whole FROM claimed),
    {_STORE.format(where="WHERE (SELECT won FROM won)")}
SELECT won AND whole = 1 FROM won
"""  # noqa: S608  made of constants


@dataclass(frozen=True, slots=True)
class NewBlock:
    """A block that is about to be inserted."""

    id: int
    day: int
    events: int
    first_timestamp: int
    last_timestamp: int
    summary: bytes
    lines: bytes
    keep_days: int = 0
    """Days that it is kept; 0: as many as the setting says."""
    sources: tuple[str, ...] = ()
    """Whose events it holds."""

    @property
    def partition(self) -> Partition:
        """The partition that it belongs to."""
        return Partition(self.day, self.keep_days)


class BlockIds:
    """Hands out block ids, a range of the sequence at a time."""

    def __init__(self) -> None:
        self._next = 0
        self._end = 0

    async def take(self, connection: SqlConnection | asyncpg.Pool[Any]) -> int:
        """Returns an id that no other block has."""
        if self._next == self._end:
            first: int = await connection.fetchval("SELECT nextval('ingest.block_ids')")
            self._next, self._end = first, first + BLOCK_ID_RANGE
        self._next += 1
        return self._next - 1


async def insert_blocks(connection: SqlConnection, blocks: Sequence[NewBlock], held: Sequence[tuple[int, int, str]]) -> None:
    """Inserts blocks, their feed entries and who their partitions hold (day, days kept, source), in the caller's transaction."""
    await connection.execute(_INSERT, *_columns_of(blocks, held))


async def store_blocks(connection: SqlConnection, blocks: Sequence[NewBlock], held: Sequence[tuple[int, int, str]], claims: Mapping[bytes, timedelta]) -> bool:
    """Claims digests, each for its lifetime, and inserts what `insert_blocks` does, in a transaction of its own.

    Returns False, and has stored nothing, when one of the digests is not free.
    """
    digests = sorted(claims)  # so that two replicas cannot deadlock
    now = datetime.now(UTC)
    try:
        stored: bool = await connection.fetchval(_CLAIM_AND_INSERT, *_columns_of(blocks, held), digests, [now + claims[digest] for digest in digests])
    except asyncpg.DivisionByZeroError:
        return False
    return stored


def _columns_of(blocks: Sequence[NewBlock], held: Sequence[tuple[int, int, str]]) -> list[list[Any]]:
    """Returns the parameters of _STORE."""
    rows = [(b.id, b.day, b.keep_days, b.events, b.first_timestamp, b.last_timestamp, b.summary, b.lines) for b in blocks]
    return [*map(list, zip(*rows, strict=True))] + ([*map(list, zip(*held, strict=True))] if held else [[], [], []])


async def read_horizon(pool: asyncpg.Pool[Any]) -> datetime:
    """Returns a moment before which every acknowledged block is shown by a `list_blocks` that follows.

    A block is held back while an older transaction is in flight. One that was committed before the oldest of those began
    has a lower transaction id than all of them, so it is not.
    """
    horizon: datetime = await pool.fetchval(
        """
        SELECT CASE WHEN pg_snapshot_xmin(s) = pg_snapshot_xmax(s) THEN statement_timestamp() ELSE least(statement_timestamp(),
            (SELECT min(xact_start) FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid())) END
        FROM pg_current_snapshot() AS s
        """
    )
    return horizon


async def list_blocks(pool: asyncpg.Pool[Any], after: str, *, limit: int, with_lines: bool, with_summary: bool, max_bytes: int) -> tuple[list[pb.Block], str]:
    """Returns the blocks after a cursor in feed order and the cursor after the last of them.

    Only blocks whose transaction is older than every one in flight are shown: nothing can appear before them
    any more, so a reader that follows the cursor misses none, although ids are handed out in ranges.
    """
    xid, block_id = parse_cursor(after)
    entries = await pool.fetch(
        """
        SELECT xid::text::bigint AS xid, id, day FROM ingest.feed
        WHERE (xid, id) > ($1::text::xid8, $2) AND xid < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY ingest.feed.xid, id LIMIT $3
        """,
        str(xid),
        block_id,
        limit,
    )
    blocks: list[pb.Block] = []
    size = 0
    for start in range(0, len(entries), 32):
        part = entries[start : start + 32]
        found = await _fetch(pool, [(entry["id"], entry["day"]) for entry in part], with_lines=with_lines, with_summary=with_summary)
        for entry in part:
            block = found.get(entry["id"])
            if block is None:  # dropped by retention between the two reads
                continue
            size += block.ByteSize()
            if blocks and size > max_bytes:
                return blocks, blocks[-1].cursor
            block.cursor = f"{entry['xid']}-{entry['id']}"
            blocks.append(block)
    if entries:
        return blocks, f"{entries[-1]['xid']}-{entries[-1]['id']}"
    return blocks, after


async def get_blocks(pool: asyncpg.Pool[Any], ids: Sequence[int], *, with_lines: bool, with_summary: bool) -> list[pb.Block]:
    """Returns blocks by id, in that order; an unknown id is left out."""
    rows = await pool.fetch("SELECT id, day, xid::text::bigint AS xid FROM ingest.feed WHERE id = ANY($1::bigint[])", list(ids))
    keys = {row["id"]: row for row in rows}
    found = await _fetch(pool, [(row["id"], row["day"]) for row in rows], with_lines=with_lines, with_summary=with_summary)
    blocks = [found[block_id] for block_id in ids if block_id in found]
    for block in blocks:
        block.cursor = f"{keys[block.id]['xid']}-{block.id}"
    return blocks


async def get_events(pool: asyncpg.Pool[Any], event_ids: Sequence[int]) -> list[bytes]:
    """Returns the canonical lines of events, in the order of the ids; an unknown id is left out."""
    wanted: defaultdict[int, set[int]] = defaultdict(set)
    for event_id in event_ids:
        wanted[event_id >> ORDINAL_BITS].add(event_id & ((1 << ORDINAL_BITS) - 1))
    ids = sorted(wanted)
    found: dict[int, bytes] = {}
    for start in range(0, len(ids), 16):
        blocks = await get_blocks(pool, ids[start : start + 16], with_lines=True, with_summary=False)
        # Beside the event loop: the lines of a large block are many megabytes.
        found |= await asyncio.to_thread(_pick_lines, [(block.id, block.lines, wanted[block.id]) for block in blocks])
    return [found[event_id] for event_id in event_ids if event_id in found]


def _pick_lines(blocks: Sequence[tuple[int, bytes, set[int]]]) -> dict[int, bytes]:
    """Returns lines by event id, given the id of each block, its compressed lines and the ordinals that are wanted of it."""
    found: dict[int, bytes] = {}
    for block_id, lines, ordinals in blocks:
        with BufferedReader(zstandard.ZstdDecompressor().stream_reader(lines), _PIECE_BYTES) as reader:
            for ordinal, line in enumerate(islice(reader, max(ordinals) + 1)):
                if ordinal in ordinals:
                    found[(block_id << ORDINAL_BITS) + ordinal] = line.removesuffix(b"\n")
    return found


async def newest_block_ids(pool: asyncpg.Pool[Any], limit: int) -> list[int]:
    """Returns the ids of the newest blocks, newest first."""
    rows = await pool.fetch("SELECT id FROM ingest.feed ORDER BY xid DESC, id DESC LIMIT $1", limit)
    return [row["id"] for row in rows]


async def _fetch(pool: asyncpg.Pool[Any], keys: Sequence[tuple[int, int]], *, with_lines: bool, with_summary: bool) -> dict[int, pb.Block]:
    days: defaultdict[int, list[int]] = defaultdict(list)
    for block_id, day in keys:
        days[day].append(block_id)
    content = ("lines" if with_lines else "''::bytea AS lines") + ", " + ("summary" if with_summary else "''::bytea AS summary")
    found: dict[int, pb.Block] = {}
    for day, ids in days.items():
        # One day at a time: the planner then touches only the partitions of that day.
        rows = await pool.fetch(f"SELECT {_COLUMNS}, {content} FROM ingest.blocks WHERE day = {day} AND id = ANY($1::bigint[])", ids)  # noqa: S608
        for row in rows:
            block = pb.Block(**{name: row[name] for name in _COLUMNS.split(", ")}, lines=row["lines"])
            if with_summary:
                block.summary.ParseFromString(zstandard.ZstdDecompressor().decompress(row["summary"], max_output_size=MAX_LINES_BYTES))
            found[row["id"]] = block
    return found


def decompress_lines(lines: bytes) -> bytes:
    """Returns the canonical lines of a block, LF after each."""
    return zstandard.ZstdDecompressor().decompress(lines, max_output_size=MAX_LINES_BYTES)


def parse_cursor(cursor: str) -> tuple[int, int]:
    """Returns the (transaction id, block id) of a feed cursor; (0, 0) for the empty one."""
    if not cursor:
        return 0, 0
    xid, dash, block_id = cursor.partition("-")
    if not (dash and xid.isascii() and xid.isdigit() and block_id.isascii() and block_id.isdigit() and len(cursor) <= 40):
        raise InvalidArgument(f"{cursor[:40]!r} is not a cursor of the feed of blocks")
    return int(xid), int(block_id)
