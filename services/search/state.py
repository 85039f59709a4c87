"""The state of the index as rows, so that an operator sees with SQL what each day holds. The index never reads them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from kit.db import unit_of_work
from kit.errors import Unavailable
from services.search.engine import Engine
from services.search.models import IndexDay

log = structlog.get_logger()

INTERVAL_SECONDS = 10.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).date()


class IndexStates:
    """Writes the days of an engine whenever they changed."""

    def __init__(self, database: AsyncEngine, engine: Engine) -> None:
        self._database = database
        self._engine = engine
        self._written: dict[int, int] = {}

    async def run(self) -> None:
        """Writes every now and then, for ever; an outage of PostgreSQL is logged once."""
        away = False
        while True:
            try:
                await self.write()
                away = False
            except (SQLAlchemyError, Unavailable, OSError) as error:
                if not away:
                    log.warning("state of the index not written", reason=type(error).__name__)
                away = True
            await asyncio.sleep(INTERVAL_SECONDS)

    async def write(self) -> None:
        """Writes the days that changed since the last time, and removes those that are gone."""
        position, held = self._engine.position, {state.day: state.events for state in await self._engine.days()}
        if held == self._written:
            return
        rows = [
            {"engine": self._engine.name, "day": _EPOCH + timedelta(days=day), "events": events, "position": position, "updated_at": datetime.now(UTC)}
            for day, events in held.items()
            if self._written.get(day) != events
        ]
        async with unit_of_work(self._database) as session:
            if rows:
                upsert = insert(IndexDay)
                changed = {name: upsert.excluded[name] for name in ("events", "position", "updated_at")}
                await session.execute(upsert.on_conflict_do_update(index_elements=["engine", "day"], set_=changed), rows)
            kept = [_EPOCH + timedelta(days=day) for day in held]
            await session.execute(delete(IndexDay).where(IndexDay.engine == self._engine.name, IndexDay.day.not_in(kept)))
        self._written = held
