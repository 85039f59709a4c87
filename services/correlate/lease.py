"""The lease: one replica at a time writes findings and incidents, and one that only believes it holds the lease cannot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from services.correlate import models

log = structlog.get_logger()

_NAMESPACE = 0x636F7272
"""First key of the advisory locks of correlate ("corr"); the second is the lease's own."""


class LeaseLost(Exception):
    """Another replica holds the lease now, or the connection that held it is gone."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A lease while it is held. `token` is higher than that of every holder before."""

    name: str
    token: int
    connection: asyncpg.Connection[Any]

    def check(self) -> None:
        """Raises LeaseLost when the connection is gone: PostgreSQL has then given the lock away."""
        if self.connection.is_closed():
            raise LeaseLost(f"the connection that held the lease {self.name} is closed")

    async def fence(self, session: AsyncSession) -> None:
        """Raises LeaseLost unless this is still the newest token; keeps it so until the transaction ends."""
        self.check()
        newest = await session.scalar(select(models.Lease.token).where(models.Lease.name == self.name).with_for_update(read=True))
        if newest != self.token:
            raise LeaseLost(f"the lease {self.name} has token {newest}, not {self.token}")


class Lease:
    """A PostgreSQL advisory lock on a connection of its own, with a fencing token in a table.

    The lock makes one holder; the token makes writes safe where the lock cannot: after a pause or a broken
    connection the old holder still runs. Taking the lease raises the token, which waits for a write under way
    (the row is locked), and every write checks it.
    """

    def __init__(self, dsn: str, name: str, key: int, holder: str, patience: float = 1.0) -> None:
        self._dsn = dsn
        self._name = name
        self._key = key
        self._holder = holder
        self._patience = patience

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[Hold]:
        """Waits until the lease is free and holds it."""
        connection = await asyncpg.connect(
            self._dsn,
            timeout=5.0,
            command_timeout=10.0,
            server_settings={
                "application_name": f"elis-correlate-lease-{self._name}",
                # A holder that vanished without a word must not keep the lock for hours.
                "tcp_keepalives_idle": "10",
                "tcp_keepalives_interval": "5",
                "tcp_keepalives_count": "3",
            },
        )
        try:
            while True:
                if await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", _NAMESPACE, self._key):
                    break
                await asyncio.sleep(self._patience)
            token = await connection.fetchval(
                """INSERT INTO correlate.lease AS l (name, token, holder, taken_at) VALUES ($1, 1, $2, clock_timestamp())
                   ON CONFLICT (name) DO UPDATE SET token = l.token + 1, holder = excluded.holder, taken_at = excluded.taken_at
                   RETURNING token""",
                self._name,
                self._holder,
            )
            log.info("lease taken", lease=self._name, token=token)
            yield Hold(self._name, token, connection)
        finally:
            connection.terminate()
