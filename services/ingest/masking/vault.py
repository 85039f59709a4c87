"""What masking keeps beside the events: sealed values, and which tokens stand for one value. Written in the commit of the block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from kit.errors import InvalidArgument, NotFound
from services.ingest.lines import ORDINAL_BITS
from services.ingest.masking import audit
from services.ingest.masking.book import check_reason
from services.ingest.masking.keys import ValueSealer
from services.ingest.masking.masked import Masked
from services.ingest.masking.masker import Masker
from services.ingest.rejections import storable

if TYPE_CHECKING:
    from kit.db import SqlConnection

MAX_REVEALED: Final = 100
MAX_EQUIVALENTS: Final = 100
MAX_FIELD: Final = 600
"""Characters of a field that are kept: with more an index of PostgreSQL may not hold it."""
_MAX_KNOWN: Final = 100_000
_SWEEP_BATCH: Final = 5_000


@dataclass(frozen=True, slots=True)
class Placed:
    """A block that is being inserted, and the rows of the batch that are in it, in order."""

    block_id: int
    day: int
    rows: Sequence[int]


@dataclass(frozen=True, slots=True)
class Revealed:
    """A value as it was sent."""

    field: str
    rule: str
    token: str
    value: str


class MaskingVault:
    """Keeps and gives back."""

    def __init__(self, pool: asyncpg.Pool[Any], sealer: ValueSealer, masker: Masker) -> None:
        self._pool = pool
        self._sealer = sealer
        self._masker = masker
        self._joined: set[tuple[str, str]] = set()
        """Pairs of tokens that are stored already, so that a value that comes often is written once."""

    async def insert(self, connection: SqlConnection, masked: Masked, placed: Iterable[Placed]) -> None:
        """Stores what belongs to the blocks that are inserted, in their transaction. Costs nothing when nothing is sealed or joined."""
        if masked.sealed:
            await self._insert_sealed(connection, masked, placed)
        if masked.joins:
            await self._insert_joins(connection, masked)

    async def _insert_sealed(self, connection: SqlConnection, masked: Masked, placed: Iterable[Placed]) -> None:
        rows: list[tuple[int, str, str, int, str, str, bytes]] = []
        for block in placed:
            for ordinal, row in enumerate(block.rows):
                for text in masked.sealed.get(row, ()):
                    event_id = (block.block_id << ORDINAL_BITS) + ordinal
                    field = _kept_name(text.field)
                    sealed = self._sealer.seal(text.value, event_id, field)
                    rows.append((event_id, field, text.token, block.day, text.rule, self._sealer.key_id, sealed))
        await connection.executemany(
            """
            INSERT INTO ingest.sealed_values (event_id, field, token, day, rule, key_id, sealed) VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT (event_id, field, token) DO NOTHING
            """,
            rows,
        )

    async def _insert_joins(self, connection: SqlConnection, masked: Masked) -> None:
        # Sorted, so that two replicas cannot deadlock.
        fresh = sorted(pair for pair in masked.joins.items() if pair not in self._joined)
        if not fresh:
            return
        await connection.execute(
            """
            INSERT INTO ingest.masking_equivalents (old_token, token) SELECT * FROM unnest($1::text[], $2::text[])
            ON CONFLICT (old_token, token) DO NOTHING
            """,
            [old for old, _ in fresh],
            [token for _, token in fresh],
        )

    def remember_joins(self, masked: Masked) -> None:
        """Notes that the transaction of `insert` was committed."""
        if masked.joins:
            if len(self._joined) > _MAX_KNOWN:
                self._joined.clear()
            self._joined.update(masked.joins.items())

    async def equivalents(self, token: str) -> list[str]:
        """Returns all tokens that stand for the value of a token, itself first: those under older and newer keys."""
        rows = await self._pool.fetch(
            """
            WITH RECURSIVE same (token) AS (
                SELECT $1::text
                UNION
                SELECT step.token FROM same CROSS JOIN LATERAL (
                    SELECT e.token FROM ingest.masking_equivalents e WHERE e.old_token = same.token
                    UNION ALL
                    SELECT e.old_token FROM ingest.masking_equivalents e WHERE e.token = same.token
                ) step
            )
            SELECT token FROM same LIMIT $2
            """,
            token,
            MAX_EQUIVALENTS,
        )
        return [token, *sorted(row["token"] for row in rows if row["token"] != token)]

    async def reveal(self, event_id: int, *, field: str, token: str, reason: str) -> list[Revealed]:
        """Returns sealed values of an event as they were sent, by field or token or both; an audit entry tells of it.

        Raises InvalidArgument without a reason, NotFound when nothing is sealed there or the event is gone.
        """
        told = self._masker.mask_text(check_reason(reason))
        if not field and not token:
            raise InvalidArgument("name a field or a token of the event")
        if not 0 <= event_id < 2**63:
            raise NotFound(f"there is no event {event_id}")
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(
                """
                SELECT s.field, s.rule, s.token, s.key_id, s.sealed FROM ingest.sealed_values s
                WHERE s.event_id = $1 AND ($2 = '' OR s.field = $2) AND ($3 = '' OR s.token = $3)
                    AND EXISTS (SELECT 1 FROM ingest.blocks b WHERE b.id = s.event_id >> $4 AND b.day = s.day)
                ORDER BY s.field, s.token LIMIT $5
                """,
                *(event_id, _kept_name(field), storable(token), ORDINAL_BITS, MAX_REVEALED),
            )
            if not rows:
                raise NotFound(await _why_nothing(connection, event_id, field, token), event_id=str(event_id))
            revealed = [
                Revealed(row["field"], row["rule"], row["token"], self._sealer.open(row["sealed"], row["key_id"], event_id, row["field"])) for row in rows
            ]
            values = [{"field": row["field"], "rule": row["rule"], "token": row["token"], "key_id": row["key_id"]} for row in rows]
            await audit.append(connection, audit.VALUE_REVEALED, str(event_id), {"reason": told, "values": values})
        return revealed

    async def sweep(self) -> None:
        """Deletes sealed values whose event is gone, a bounded number at a time."""
        while True:
            status = await self._pool.execute(
                """
                DELETE FROM ingest.sealed_values WHERE ctid = ANY (ARRAY(
                    SELECT s.ctid FROM ingest.sealed_values s
                    WHERE NOT EXISTS (SELECT 1 FROM ingest.blocks b WHERE b.id = s.event_id >> $1 AND b.day = s.day) LIMIT $2))
                """,
                ORDINAL_BITS,
                _SWEEP_BATCH,
            )
            if int(status.rpartition(" ")[2]) < _SWEEP_BATCH:
                return


def _kept_name(field: str) -> str:
    """Returns a field's name as it is stored with a sealed value, which is sealed to it."""
    return storable(field)[:MAX_FIELD]


async def _why_nothing(connection: SqlConnection, event_id: int, field: str, token: str) -> str:
    """Says why there is nothing to reveal: the event is gone, nothing of it is sealed, or it is sealed elsewhere."""
    fields = await connection.fetchval(
        "SELECT array_agg(DISTINCT field ORDER BY field) FROM (SELECT field FROM ingest.sealed_values WHERE event_id = $1 LIMIT $2) s", event_id, MAX_REVEALED
    )
    if not await connection.fetchval("SELECT EXISTS (SELECT 1 FROM ingest.blocks WHERE id = $1)", event_id >> ORDINAL_BITS):
        return f"there is no event {event_id}; it was deleted by retention, or never stored"
    if not fields:
        return f"nothing of event {event_id} is sealed; only rules that say sealed keep what they replace"
    place = " and ".join([f"field {field!r}"] * bool(field) + [f"token {token!r}"] * bool(token))
    return f"event {event_id} has no sealed value with {place}; sealed are: {', '.join(fields)}"
