"""Retention: the index forgets what ingest keeps no more."""

from __future__ import annotations

import asyncio
from time import time_ns
from typing import TYPE_CHECKING

import structlog

from elis.ingest.v1 import retention_pb2 as pb
from kit.errors import ElisError
from services.search.conditions import Everything
from services.search.engine import DAY, Engine
from services.search.selection import Selection

if TYPE_CHECKING:
    from elis.ingest.v1.retention_pb2_grpc import RetentionServiceAsyncStub

log = structlog.get_logger()

FIRST_SECONDS = 120.0
INTERVAL_SECONDS = 1_800.0
DAYS_PER_CALL = 50
MAX_SOURCES = 1_000
"""Sources of a day that one round looks at; the most frequent ones come first, the others when those are gone."""
GRACE = DAY // 2
"""Younger events are not forgotten: nothing is kept for less than a day, so they came in after what was dropped."""


class Retention:
    """Compares the sources of each day in the index with those that ingest still keeps of it.

    The index is read first: whatever is in it then was noted at ingest before, so a source that ingest does not name has lost
    its events to retention.
    """

    def __init__(self, ingest: RetentionServiceAsyncStub, engine: Engine) -> None:
        self._ingest = ingest
        self._engine = engine

    async def run(self) -> None:
        """Forgets every now and then, for ever; what fails is tried again at the next turn."""
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            try:
                await self.forget()
            except (ElisError, OSError, ValueError, RuntimeError) as error:
                log.warning("retention of the index put off", reason=str(error), kind=type(error).__name__)
            await asyncio.sleep(INTERVAL_SECONDS)

    async def forget(self) -> None:
        """Forgets what ingest keeps no more."""
        today = time_ns() // DAY
        days = [state.day for state in await self._engine.days() if state.day < today]
        for start in range(0, len(days), DAYS_PER_CALL):
            await self._forget_days(days[start : start + DAYS_PER_CALL])

    async def _forget_days(self, days: list[int]) -> None:
        found = {day: await self._sources_of(day) for day in days}
        response: pb.ListHeldSourcesResponse = await self._ingest.ListHeldSources(pb.ListHeldSourcesRequest(days=days))
        held = {day.day: set(day.sources) for day in response.days}
        unknown = {day.day for day in response.days if day.others}
        for day, sources in found.items():
            # PostgreSQL holds no NUL: ingest notes such names as it can.
            gone = [source for source in sources if source.replace("\x00", "\ufffd") not in held.get(day, ())]
            if gone and day not in unknown:
                await self._engine.forget(day, gone, time_ns() - GRACE)
                log.info("events forgotten", day=day, sources=len(gone))

    async def _sources_of(self, day: int) -> list[str]:
        facets = await self._engine.facets(Selection(day * DAY, (day + 1) * DAY, Everything()), ["source"], MAX_SOURCES)
        return [value for value, _ in facets["source"].values]
