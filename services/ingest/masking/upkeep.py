"""Work beside the masking: rules are read again, hits written, sealed values of events that are gone deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg
import structlog

from kit.db import is_unavailable
from services.ingest.masking.book import RuleBook
from services.ingest.masking.hits import MaskingHits, forget_hits
from services.ingest.masking.vault import MaskingVault

log = structlog.get_logger()

RELOAD_SECONDS: Final = 3.0
"""A change reaches every process within this and the time of a query."""
FLUSH_SECONDS: Final = 5.0
SWEEP_SECONDS: Final = 600.0


class MaskingUpkeep:
    """Runs beside the receivers; what fails because PostgreSQL is away is done at the next turn."""

    def __init__(self, pool: asyncpg.Pool[Any], book: RuleBook, hits: MaskingHits, vault: MaskingVault) -> None:
        self._pool = pool
        self._book = book
        self._hits = hits
        self._vault = vault

    async def run(self) -> None:
        """Works for ever; the last flush happens when it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_repeat(self._book.reload, RELOAD_SECONDS))
                group.create_task(_repeat(self.flush, FLUSH_SECONDS))
                group.create_task(_repeat(self.sweep, SWEEP_SECONDS))
        finally:
            await _attempt(self.flush)

    async def flush(self) -> None:
        """Writes the hits."""
        await self._hits.flush(self._pool)

    async def sweep(self) -> None:
        """Deletes what nobody may read any more."""
        await self._vault.sweep()
        await forget_hits(self._pool)


async def _repeat(work: Callable[[], Awaitable[None]], seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        await _attempt(work)


async def _attempt(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except Exception as error:
        if not is_unavailable(error):
            raise
        log.warning("masking upkeep put off", work=getattr(work, "__name__", ""), reason=repr(error))
