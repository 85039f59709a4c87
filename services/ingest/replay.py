"""Replay: rejected records get another try, through the same intake as everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from kit.errors import NotFound
from services.ingest.batch import Batch
from services.ingest.endpoints import Arrival
from services.ingest.formats import FORMATS
from services.ingest.groups import Outcome
from services.ingest.intake import Intake
from services.ingest.rejections import OpenedRejection, Sealer
from services.ingest.settings import IngestSettings
from services.ingest.sources import SourceBook
from services.ingest.tokens import Agent

PROTOCOL = "replay"
DEFAULT_SYSTEM = "application"
MAX_RECORDS = 500
"""Rejected records that one call tries."""
MAX_BYTES = 64 * 1024 * 1024
"""Bytes of rejected records that one call tries."""
SLICE_BYTES = 8 * 1024 * 1024
"""Bytes of rejected records that are in work at once; one record may be larger."""
SLICE_RECORDS = 50
MAX_PROBLEMS = 50

_CHOSEN = """
FROM ingest.rejected_events AS e WHERE (e.id = ANY($1::uuid[]) OR e.group_id = ANY($1::uuid[])) AND replayed_at IS NULL
    AND e.number > $2
"""


@dataclass(slots=True)
class Replayed:
    """What became of a replay."""

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    problems: list[tuple[UUID, str]] = field(default_factory=list)
    """(record, why it stays rejected) of the first of them."""
    remaining: int = 0
    """Records behind those that were tried."""
    last: int = 0
    """Number of the last record that was tried: where the next call goes on, so that what stays rejected is in nobody's way."""

    def refuse(self, rejected_id: UUID, problem: str) -> None:
        """Notes a record that stays rejected."""
        self.rejected += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append((rejected_id, problem))


@dataclass(frozen=True, slots=True)
class _Try:
    """A rejected record that is tried again."""

    id: UUID
    source: str
    arrival: Arrival
    rejected_at: datetime
    opened: OpenedRejection


class Replayer:
    """Tries rejected records again.

    A record is marked in the commit that stores its events, and stands under a digest of its own: neither a crash nor two
    replays at once lose it or store it twice.
    """

    def __init__(self, settings: IngestSettings, pool: asyncpg.Pool[Any], sources: SourceBook, intake: Intake, sealer: Sealer) -> None:
        self._pool = pool
        self._sources = sources
        self._intake = intake
        self._sealer = sealer
        self._max_record_bytes = settings.max_record_bytes

    async def replay(self, ids: Sequence[UUID], *, format_name: str = "", source: str = "", after: int = 0) -> Replayed:
        """Tries the records with these ids, and those of the groups with these ids, that no replay has stored yet, behind a number.

        Raises NotFound when an id is of neither, and Unavailable when a retry helps: what was stored by then stays stored.
        """
        await self._check_known(ids)
        chosen = await self._pool.fetch(f"SELECT e.id, e.size, e.number {_CHOSEN} ORDER BY e.number LIMIT $3", list(ids), after, MAX_RECORDS)
        numbers = {row["id"]: row["number"] for row in chosen}
        result = Replayed(remaining=await self._pool.fetchval(f"SELECT count(*) {_CHOSEN}", list(ids), after), last=after)
        taken = 0
        for slice_ids, size in _cut([(row["id"], row["size"]) for row in chosen]):
            if taken and taken + size > MAX_BYTES:
                break
            taken += size
            await self._replay_slice(slice_ids, size, format_name, source, result)
            result.remaining = max(result.remaining - len(slice_ids), 0)  # another replay may have taken some
            result.last = numbers[slice_ids[-1]]
        return result

    async def _check_known(self, ids: Sequence[UUID]) -> None:
        unknown = await self._pool.fetchval(
            """
            SELECT given.id FROM unnest($1::uuid[]) AS given (id)
            WHERE NOT EXISTS (SELECT FROM ingest.rejected_events AS e WHERE e.id = given.id)
                AND NOT EXISTS (SELECT FROM ingest.rejection_groups AS g WHERE g.id = given.id) LIMIT 1
            """,
            list(ids),
        )
        if unknown is not None:
            raise NotFound(f"there is no rejected event {unknown}", id=str(unknown))

    async def _replay_slice(self, ids: Sequence[UUID], size: int, format_name: str, source: str, result: Replayed) -> None:
        tries = await self._open(ids, source, result)
        with self._intake.admit(Arrival(PROTOCOL, Agent("", "", "")), size):
            outcomes = await asyncio.gather(*(self._try(attempt, format_name, result) for attempt in tries))
        for outcome in outcomes:
            if outcome is not None:
                result.accepted += outcome.accepted
                result.duplicates += outcome.duplicates
                result.rejected += outcome.rejected

    async def _open(self, ids: Sequence[UUID], source: str, result: Replayed) -> list[_Try]:
        rows = await self._pool.fetch(
            """
            SELECT e.id, e.key_id, e.raw, e.rejected_at, g.source, g.token_id, g.token_name, g.address, g.user_agent
            FROM ingest.rejected_events AS e JOIN ingest.rejection_groups AS g ON g.id = e.group_id
            WHERE e.id = ANY($1::uuid[]) ORDER BY e.number
            """,
            list(ids),
        )
        tries: list[_Try] = []
        for row in rows:
            try:
                opened = self._sealer.open(row["raw"], row["key_id"], row["id"])
            except NotFound as error:  # its key is gone: those of other keys do not wait for it
                result.refuse(row["id"], error.message)
                continue
            # If it is rejected again, it is still theirs.
            arrival = Arrival(PROTOCOL, Agent(row["token_id"], row["token_name"], ""), row["address"], row["user_agent"])
            tries.append(_Try(row["id"], source or row["source"], arrival, row["rejected_at"], opened))
        return tries

    async def _try(self, attempt: _Try, format_name: str, result: Replayed) -> Outcome | None:
        raw = attempt.opened.raw
        bodies = await self._intake.decode(len(raw), lambda: _cut_records(raw, format_name))
        largest = max((len(body.encode()) for body in bodies), default=0)
        if not largest:
            result.refuse(attempt.id, "there is no text in it")
            return None
        if largest > self._max_record_bytes:
            how = f"the format {format_name} leaves a record" if format_name else "it is one record"
            way = "name a format that cuts it into smaller ones, or raise ELIS_MAX_RECORD_BYTES"
            result.refuse(attempt.id, f"{how} of {largest} bytes, more than {self._max_record_bytes}: {way}")
            return None
        with self._holding_format(attempt.source):
            return await self._intake.take(
                _batch_of(bodies, attempt),
                attempt.arrival,
                default_system=DEFAULT_SYSTEM,
                formats=[format_name] * len(bodies) if format_name else None,
                idempotency_key=f"rejected {attempt.id}",
                observed_at=int(attempt.rejected_at.timestamp() * 1_000_000) * 1_000,
                replayed=attempt.id,
            )

    @contextmanager
    def _holding_format(self, source: str) -> Iterator[None]:
        """Lets the format of a replay hold for its records only, not for the source."""
        state = self._sources.register(source, system="", default_system=DEFAULT_SYSTEM)
        state.replays += 1
        try:
            yield
        finally:
            state.replays -= 1


def _cut(records: Sequence[tuple[UUID, int]]) -> Iterator[tuple[list[UUID], int]]:
    """Yields records and their bytes in slices that may be in work at once."""
    ids: list[UUID] = []
    total = 0
    for rejected_id, size in records:
        if ids and (total + size > SLICE_BYTES or len(ids) >= SLICE_RECORDS):
            yield ids, total
            ids, total = [], 0
        ids.append(rejected_id)
        total += size
    if ids:
        yield ids, total


def _cut_records(raw: bytes, format_name: str) -> list[str]:
    text = raw.decode("utf-8", "replace")
    if format_name:
        return FORMATS[format_name].split(text.split("\n"))
    return [text] if text.strip() else []


def _batch_of(bodies: Sequence[str], attempt: _Try) -> Batch:
    """Returns the records with what came with them. A time that stood for one record is not that of several."""
    known = dict(attempt.opened.fields)
    if len(bodies) > 1:
        known.pop("timestamp", None)
    batch = Batch()
    for body in bodies:
        batch.append(body, source=attempt.source, **known)
    return batch
