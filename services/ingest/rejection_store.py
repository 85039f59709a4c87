"""Rejected records in PostgreSQL: sealed, grouped, counted, bounded."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING
from uuid import UUID

import orjson

from kit.rows import uuid7
from services.ingest.endpoints import Arrival
from services.ingest.partitions import current_day
from services.ingest.rejections import Rejection, Sealer, storable

if TYPE_CHECKING:
    from kit.db import SqlConnection

MAX_DETAIL = 500
MAX_SENDER_TEXT = 200
MAX_GROUPS = 1_000
"""Groups of a source and day; what is rejected beyond them is counted without telling senders and details apart."""
INLINE_BYTES = 256 * 1024
"""Records up to this size together are sealed on the event loop: handing them to a thread would cost more."""
INLINE_RECORDS = 256
"""Records, however small, that are: each takes a twentieth of a millisecond."""
_DIGITS = re.compile(r"\d+")


@dataclass(slots=True)
class _Usage:
    """What a source has rejected on a day."""

    groups: int = 0
    kept_bytes: int = 0


@dataclass(slots=True)
class _Group:
    """What one transaction adds to a group."""

    columns: tuple[str, ...]
    """source, reason, detail, token_id, token_name, protocol, address, user_agent."""
    id: UUID = field(default_factory=uuid7)
    count: int = 0
    size: int = 0
    kept: list[tuple[UUID, str, int, bytes]] = field(default_factory=list)
    """(id, detail, size, sealed bytes) of the records whose bytes are kept."""


class RejectionStore:
    """Stores rejected records in the transaction that acknowledges them.

    All that is rejected is counted. Its bytes are kept up to a number of bytes per source and day, so that a sender gone
    wrong cannot fill the disk; the group says how many were kept.
    """

    def __init__(self, sealer: Sealer, mask: Callable[[str], str], *, bytes_per_day: int) -> None:
        self._sealer = sealer
        self._mask = mask
        self._bytes_per_day = bytes_per_day

    async def insert(self, connection: SqlConnection, rejected: Iterable[tuple[Arrival, Sequence[Rejection]]]) -> None:
        """Stores rejected records, with who sent them, in the caller's transaction."""
        entries = [(arrival, rejection) for arrival, rejections in rejected for rejection in rejections]
        if not entries:
            return
        day = current_day()
        usage = await _measure(connection, day, sorted({storable(rejection.source) for _, rejection in entries}))

        def seal() -> dict[bytes, _Group]:
            return self._group(day, entries, usage)

        size = sum(len(rejection.raw) for _, rejection in entries)
        groups = seal() if size <= INLINE_BYTES and len(entries) <= INLINE_RECORDS else await asyncio.to_thread(seal)
        await self._insert(connection, day, groups)

    def _group(self, day: int, entries: Sequence[tuple[Arrival, Rejection]], usage: dict[str, _Usage]) -> dict[bytes, _Group]:
        groups: dict[bytes, _Group] = {}
        mask, describe = cache(self._mask), cache(self._describe)  # details and senders repeat
        for arrival, rejection in entries:
            source = storable(rejection.source)
            used = usage.setdefault(source, _Usage())
            detail = storable(mask(rejection.detail)[:MAX_DETAIL])
            sender = describe(arrival)
            pattern = _DIGITS.sub("#", detail)
            if used.groups >= MAX_GROUPS:
                sender, pattern = ("",) * len(sender), ""
            key = blake2b(orjson.dumps([day, source, rejection.reason, pattern, *sender]), digest_size=16, person=b"elis-rejected").digest()
            group = groups.get(key)
            if group is None:
                group = groups[key] = _Group((source, rejection.reason.value, detail, *sender))
                used.groups += 1
            group.count += 1
            group.size += len(rejection.raw)
            if used.kept_bytes < self._bytes_per_day:
                owner = uuid7()
                sealed = self._sealer.seal(rejection, owner)
                used.kept_bytes += len(sealed)
                group.kept.append((owner, detail, len(rejection.raw), sealed))
        return groups

    def _describe(self, arrival: Arrival) -> tuple[str, ...]:
        """Returns who sent a request; what senders say of themselves is masked."""
        told = (arrival.agent.id, arrival.agent.name, arrival.protocol, self._mask(arrival.address), self._mask(arrival.user_agent))
        return tuple(storable(text[:MAX_SENDER_TEXT]) for text in told)

    async def _insert(self, connection: SqlConnection, day: int, groups: dict[bytes, _Group]) -> None:
        # Sorted, so that two replicas cannot deadlock.
        ordered = sorted(groups.items())
        columns = [list(column) for column in zip(*(group.columns for _, group in ordered), strict=True)]
        rows = await connection.fetch(
            """
            INSERT INTO ingest.rejection_groups AS g
                (day, key, id, count, bytes, kept, kept_bytes, source, reason, detail, token_id, token_name, protocol, address, user_agent)
            SELECT $1, * FROM unnest($2::bytea[], $3::uuid[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[])
            ON CONFLICT (key) DO UPDATE SET count = g.count + excluded.count, bytes = g.bytes + excluded.bytes, kept = g.kept + excluded.kept,
                kept_bytes = g.kept_bytes + excluded.kept_bytes, detail = excluded.detail, last_seen_at = now()
            RETURNING id, key
            """,
            day,
            [key for key, _ in ordered],
            [group.id for _, group in ordered],
            [group.count for _, group in ordered],
            [group.size for _, group in ordered],
            [len(group.kept) for _, group in ordered],
            [sum(len(sealed) for *_, sealed in group.kept) for _, group in ordered],
            *columns,
        )
        ids = {bytes(row["key"]): row["id"] for row in rows}
        await connection.executemany(
            "INSERT INTO ingest.rejected_events (id, group_id, detail, size, key_id, raw) VALUES ($1, $2, $3, $4, $5, $6)",
            [(owner, ids[key], detail, size, self._sealer.key_id, sealed) for key, group in ordered for owner, detail, size, sealed in group.kept],
        )


async def mark_replayed(connection: SqlConnection, rejected_id: UUID) -> None:
    """Marks a rejected record as replayed, in the transaction that stores what became of it."""
    await connection.execute(
        """
        WITH marked AS (UPDATE ingest.rejected_events SET replayed_at = now() WHERE id = $1 AND replayed_at IS NULL RETURNING group_id)
        UPDATE ingest.rejection_groups SET replayed = replayed + 1 WHERE id IN (SELECT group_id FROM marked)
        """,
        rejected_id,
    )


async def _measure(connection: SqlConnection, day: int, sources: Sequence[str]) -> dict[str, _Usage]:
    rows = await connection.fetch(
        """
        SELECT source, count(*) AS groups, sum(kept_bytes)::bigint AS kept_bytes FROM ingest.rejection_groups
        WHERE day = $1 AND source = ANY($2::text[]) GROUP BY source
        """,
        day,
        sources,
    )
    return {row["source"]: _Usage(row["groups"], row["kept_bytes"]) for row in rows}
