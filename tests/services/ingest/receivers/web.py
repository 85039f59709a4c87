"""The web receivers on a socket, as unmodified clients need them, and what they stored."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import orjson
import uvicorn

from kit.web import WebProtocol
from services.ingest.blocks import decompress_lines
from tests.services.ingest.conftest import RunningIngest


@asynccontextmanager
async def serve_web(ingest: RunningIngest) -> AsyncIterator[tuple[str, int]]:
    """Serves the web receivers as production does; yields host and port."""
    listener = ingest.application.http[0]
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        config = uvicorn.Config(listener.application, http=WebProtocol, log_config=None, access_log=False, lifespan="off", **listener.options)
        server = uvicorn.Server(config)
        server.capture_signals = suppress  # type: ignore[method-assign,assignment]
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        while not server.started:  # noqa: ASYNC110  uvicorn has no event for it
            await asyncio.sleep(0.005)
        host, port = bound.getsockname()
        yield host, port
        server.should_exit = True
        await serving


async def stored_events(pool: asyncpg.Pool[Any]) -> list[dict[str, Any]]:
    """Returns every stored event, in the order of blocks and ordinals."""
    rows = await pool.fetch("SELECT lines FROM ingest.blocks ORDER BY id")
    return [orjson.loads(line) for row in rows for line in decompress_lines(row["lines"]).splitlines()]


async def rejected_details(pool: asyncpg.Pool[Any]) -> list[tuple[str, str]]:
    """Returns reason and source of every rejected record, oldest first."""
    rows = await pool.fetch(
        """
        SELECT owner.reason, owner.source FROM ingest.rejected_events AS event
        JOIN ingest.rejection_groups AS owner ON owner.id = event.group_id ORDER BY event.number
        """
    )
    return [(row["reason"], row["source"]) for row in rows]
