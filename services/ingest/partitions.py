"""Partitions of the blocks: one per day of the events and per number of days that they are kept."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from services.ingest.rejections import storable

if TYPE_CHECKING:
    from kit.db import SqlConnection
    from services.ingest.blocks import NewBlock

DAYS_LOCK = 0x656C6973_0001
"""Advisory lock under which partitions are made."""
DAYS_AHEAD = 2
"""Days after today whose partitions are made before an event needs them."""
MAX_REMEMBERED = 200_000
"""Sources of partitions that a process remembers to have noted."""
SECONDS_PER_DAY = 86_400
FILLED_SECONDS = 3_600.0
"""For so long a partition is not looked at again after something was stored in it; it is kept for a day at least."""
_PREFIX = "blocks_"


class Partition(NamedTuple):
    """Which partition a block belongs to."""

    day: int
    """Days since 1970 of the events."""
    keep_days: int
    """Days that the events are kept; 0: as many as the setting says at the time."""

    @property
    def table(self) -> str:
        """Name of the table, in the schema of ingest."""
        return f"{_PREFIX}{self.day}_{self.keep_days}"


def current_day() -> int:
    """Returns today, UTC, in days since 1970."""
    return int(time.time()) // SECONDS_PER_DAY


class Partitions:
    """Makes sure that blocks find their partition, and notes which sources a partition holds.

    What is known is not asked for again, except about days that retention may drop at any moment.
    """

    def __init__(self, retention_days: int) -> None:
        self._retention_days = retention_days
        self._known: set[Partition] = set()
        self._noted: set[tuple[int, int, str]] = set()
        self._filled_at: dict[Partition, float] = {}
        """When this process stored something in a partition last, in seconds since 1970."""

    async def ensure(self, connection: SqlConnection, wanted: Iterable[Partition]) -> None:
        """Creates the missing partitions, in a transaction of their own."""
        unknown = sorted(partition for partition in set(wanted) if partition not in self._known or self._may_go(partition))
        if not unknown:
            return
        missing = await _missing(connection, unknown)
        if missing:
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", DAYS_LOCK)
                for day, keep_days in await _missing(connection, missing):
                    name = f"ingest.{Partition(day, keep_days).table}"
                    # Attaching takes a weaker lock on the parent than creating as a partition: readers go on.
                    await connection.execute(
                        f"CREATE TABLE {name} (LIKE ingest.blocks INCLUDING ALL); "
                        f"ALTER TABLE ingest.blocks ATTACH PARTITION {name} FOR VALUES FROM ({day}, {keep_days}) TO ({day}, {keep_days + 1})"
                    )
        self._known.update(unknown)

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Asks for these again the next time: one of them was dropped meanwhile."""
        for partition in partitions:
            self._known.discard(partition)
            self._filled_at.pop(partition, None)

    def fresh_sources(self, blocks: Sequence[NewBlock]) -> list[tuple[int, int, str]]:
        """Returns what is to be noted when blocks are inserted: (day, days kept, source), without what is noted already.

        The insert keeps retention from dropping the partitions until its transaction ends.
        """
        held = {(*block.partition, source) for block in blocks for source in block.sources}
        fresh = sorted(key for key in held if key not in self._noted or self._may_go(Partition(key[0], key[1])))
        return [(day, keep_days, storable(source)) for day, keep_days, source in fresh]

    def remember(self, blocks: Sequence[NewBlock]) -> None:
        """Does not note the sources of these blocks again; their transaction is committed."""
        if len(self._noted) > MAX_REMEMBERED:
            self._noted.clear()
        now = time.time()
        for block in blocks:
            self._noted.update((*block.partition, source) for source in block.sources)
            self._filled_at[block.partition] = now

    def _may_go(self, partition: Partition) -> bool:
        """Says whether retention may drop a partition about now, by this clock or another: nothing came into it for a day at least."""
        if partition.day + (partition.keep_days or self._retention_days) > current_day() + 1:
            return False
        return not 0.0 <= time.time() - self._filled_at.get(partition, 0.0) < FILLED_SECONDS


async def held_partitions(connection: SqlConnection) -> list[Partition]:
    """Returns the partitions that there are, oldest day first."""
    rows = await connection.fetch(
        "SELECT relname::text AS name FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'ingest.blocks'::regclass"
    )
    return sorted(Partition(*map(int, row["name"].removeprefix(_PREFIX).split("_"))) for row in rows)


async def _missing(connection: SqlConnection, partitions: Sequence[Partition]) -> list[Partition]:
    tables = {partition.table: partition for partition in partitions}
    # Reads the catalog as a table: what another replica made under the lock is seen for certain.
    rows = await connection.fetch(
        """
        SELECT name FROM unnest($1::text[]) AS name
        WHERE NOT EXISTS (SELECT FROM pg_class WHERE relname = name AND relnamespace = 'ingest'::regnamespace)
        """,
        list(tables),
    )
    return sorted(tables[row["name"]] for row in rows)
