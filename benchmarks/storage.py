"""What the events of a run take on disk."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import zstandard

from benchmarks.session import Session

_BLOCKS = """
SELECT (SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'ingest.blocks'::regclass)::bigint AS blocks_total,
    count(*) AS blocks, sum(events)::bigint AS events, sum(octet_length(lines))::bigint AS lines, sum(octet_length(summary))::bigint AS summaries
FROM ingest.blocks
"""
_SCHEMAS = """
SELECT n.nspname AS name, sum(pg_total_relation_size(c.oid))::bigint AS bytes
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND n.nspname IN ('ingest', 'correlate', 'search', 'auth') GROUP BY 1
"""


@dataclass(frozen=True, slots=True)
class StorageResult:
    """Bytes per event, of all events that are stored."""

    events: int
    events_per_block: float
    canonical_line: float
    """Mean length of a line before compression."""
    compressed_lines: float
    summaries: float
    blocks_table: float
    """pg_total_relation_size of the blocks: rows, indexes, free space."""
    schemas: dict[str, float]
    index: float
    """The folder of the search index."""


def measure_storage(session: Session) -> StorageResult:
    """Measures tables and folders as they are now."""
    return asyncio.run(_measure(session))


async def _measure(session: Session) -> StorageResult:
    connection = await asyncpg.connect(session.stack.engines.database_url)
    try:
        row = await connection.fetchrow(_BLOCKS)
        schemas = await connection.fetch(_SCHEMAS)
        sample = await connection.fetch("SELECT events, lines FROM ingest.blocks ORDER BY id LIMIT 50")
    finally:
        await connection.close()
    assert row is not None
    events = int(row["events"])
    sampled = sum(len(zstandard.decompress(block["lines"])) for block in sample) / sum(block["events"] for block in sample)
    index = sum(path.stat().st_size for path in (Path(session.stack.data_dir) / "search").rglob("*") if path.is_file())
    return StorageResult(
        events=events,
        events_per_block=events / int(row["blocks"]),
        canonical_line=sampled,
        compressed_lines=int(row["lines"]) / events,
        summaries=int(row["summaries"]) / events,
        blocks_table=int(row["blocks_total"]) / events,
        schemas={schema["name"]: int(schema["bytes"]) / events for schema in schemas},
        index=index / events,
    )


def fetch_lines(session: Session, count: int) -> list[bytes]:
    """Returns up to `count` canonical lines of one day, as they are stored."""
    return asyncio.run(_fetch_lines(session.stack.engines.database_url, count))


async def _fetch_lines(database_url: str, count: int) -> list[bytes]:
    connection = await asyncpg.connect(database_url)
    lines: list[bytes] = []
    try:
        async with connection.transaction():
            query = "SELECT lines FROM ingest.blocks WHERE day = (SELECT day FROM ingest.blocks GROUP BY day ORDER BY sum(events) DESC LIMIT 1) ORDER BY id"
            async for row in connection.cursor(query, prefetch=8):
                lines += zstandard.decompress(row["lines"]).splitlines()
                if len(lines) >= count:
                    break
    finally:
        await connection.close()
    return lines[:count]
