"""What a receiver has stored, read from the blocks."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import orjson

from services.ingest.blocks import decompress_lines

SECONDS = 30.0


async def read_events(pool: asyncpg.Pool[Any]) -> list[dict[str, Any]]:
    """Returns every stored event, in the order of their ids."""
    rows = await pool.fetch("SELECT lines FROM ingest.blocks")
    events = [orjson.loads(line) for row in rows for line in decompress_lines(row["lines"]).splitlines()]
    return sorted(events, key=lambda event: event["event_id"])


async def wait_for_events(pool: asyncpg.Pool[Any], count: int) -> list[dict[str, Any]]:
    """Returns the stored events once there are `count`, for senders that get no reply; fails when they do not come."""
    async with asyncio.timeout(SECONDS):
        events = await read_events(pool)
        while len(events) < count:
            await asyncio.sleep(0.02)
            events = await read_events(pool)
    return events
