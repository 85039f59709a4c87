"""The one way in: every receiver hands its batch here and gets the outcome after the commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import repeat
from typing import TypeVar
from uuid import UUID

from kit.errors import ElisError, RateLimited, Unavailable
from services.ingest.batch import Batch
from services.ingest.committer import Committer
from services.ingest.endpoints import Arrival, Endpoints
from services.ingest.groups import Outcome, Submission
from services.ingest.limits import Limits
from services.ingest.masking import Masker
from services.ingest.rejections import Rejection
from services.ingest.settings import IngestSettings
from services.ingest.sources import SourceBook
from services.ingest.worker import Worker

INLINE_BYTES = 32 * 1024
"""A body up to this size is decoded on the event loop: handing it to the worker would cost more."""
RETRY_AFTER_SECONDS = 1.0
DECODED_RATIO = 3
"""Bytes in work by byte of a body: the body, and the records that were made of it, until they are stored."""
MAX_PENDING_RECORDS = 65_536
"""Records that may wait for their commit at once; each takes one to two kilobytes, however short it is."""
USUAL_BODY_BYTES = 1024 * 1024

ResultT = TypeVar("ResultT")


class Room:
    """What a request in work has reserved of the bytes that may be in work at once."""

    __slots__ = ("_intake", "size")

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self.size = 0
        """Bytes."""

    def decode(self, size: int) -> None:
        """Reserves what a body of `size` bytes takes once it is decoded; raises Unavailable as `resize` does."""
        self.resize(self._intake.weigh(size))

    def resize(self, size: int) -> None:
        """Reserves `size` bytes instead of what is reserved; raises Unavailable, and keeps that, when others in work leave no room."""
        self._intake.reserve(size - self.size, own=self.size)
        self.size = size


class Intake:
    """Bounds what is in work, decodes bodies, and has batches committed."""

    def __init__(self, settings: IngestSettings, sources: SourceBook, committer: Committer, worker: Worker, masker: Masker) -> None:
        self.endpoints = Endpoints(masker.mask_name)
        self.limits = Limits(default_events=settings.token_events_per_second, default_bytes=settings.token_bytes_per_second)
        self._masker = masker
        self._settings = settings
        self._sources = sources
        self._committer = committer
        self._worker = worker
        self._pending_bytes = 0
        self._pending_records = 0

    @property
    def full(self) -> bool:
        """Whether a body of an agent's usual size would be refused now."""
        return self._pending_bytes + self.weigh(USUAL_BODY_BYTES) > self._settings.max_pending_bytes and self._pending_bytes > 0

    @contextmanager
    def admit(self, arrival: Arrival, size: int, *, expected: int = 0, limited: bool = True) -> Iterator[Room]:
        """Reserves room for a body of `size` bytes while it is in work; one that carries no events is not `limited`.

        A body that is yet to be read reserves what has come of it (Room.resize), so that one that comes slowly is in nobody's way;
        when not even `expected` bytes are free it is not begun. Raises RateLimited when the sender's limits are used up,
        Unavailable when there is no room. Whatever error ends the work is noted at the sender's endpoint.
        """
        try:
            if limited:
                self.limits.check(arrival.agent)
            self._check_room(self.weigh(expected), own=0)
            room = Room(self)
            room.decode(size)
            try:
                yield room
            finally:
                self._pending_bytes -= room.size
        except ElisError as error:
            if not isinstance(error, RateLimited):
                error.message = self._masker.mask_text(error.message)  # it may quote what was sent
            self.endpoints.refused(arrival, error.message, limited=isinstance(error, RateLimited))
            raise

    def weigh(self, size: int) -> int:
        """Returns the bytes that a body of `size` bytes takes in work; at most half of all, so that the largest is let in beside others."""
        return min(size * DECODED_RATIO, max(size, self._settings.max_pending_bytes // 2))

    def reserve(self, size: int, *, own: int) -> None:
        """Reserves `size` more bytes, or gives back as many when it is negative, for a request that has `own` bytes."""
        if size > 0:
            self._check_room(size, own=own)
        self._pending_bytes += size

    def _check_room(self, size: int, *, own: int) -> None:
        # What is alone in work passes whatever its size, so that a body larger than the bound is not refused for ever.
        if self._pending_bytes + size > self._settings.max_pending_bytes and self._pending_bytes > own:
            raise Unavailable("too much is in work; try again", retry_after=RETRY_AFTER_SECONDS)

    def read(self, arrival: Arrival, size: int) -> None:
        """Counts a body of `size` bytes, decompressed, that was let in and read, and charges it to its sender's limit."""
        self.endpoints.read(arrival, size)
        self.limits.charge_bytes(arrival.agent, size)

    async def decode(self, size: int, function: Callable[[], ResultT]) -> ResultT:
        """Returns what a function makes of a body of `size` bytes. Other senders are served while a large one is decoded."""

        def timed() -> ResultT:
            with self._committer.clock.stage("decode"):
                return function()

        return timed() if size <= INLINE_BYTES else await self._worker.run(timed, inline=False)

    def format_of(self, source: str, declared: str) -> str:
        """Returns the format by which text of a source is cut: what a team set for it, else the declared one, which may be empty."""
        return self._sources.set_format(self._masker.mask_name(source)) or declared

    async def take(
        self,
        batch: Batch,
        arrival: Arrival,
        *,
        default_system: str,
        systems: Sequence[str] | None = None,
        environments: Sequence[str] | None = None,
        formats: Sequence[str] | None = None,
        rejections: Sequence[Rejection] = (),
        idempotency_key: str = "",
        record_keys: Sequence[str] | None = None,
        observed_at: int = 0,
        replayed: UUID | None = None,
    ) -> Outcome:
        """Stores a batch and returns when it is durable.

        `systems`, `environments` and `formats` are columns of what the sender declares (empty text: nothing).
        `rejections` are records that the receiver could not read. A resent request is recognised by `idempotency_key`
        when it has one, else by its records; a record with a key of its own (`record_keys`, empty text: none) is
        recognised by that in whatever request it comes. `observed_at` is when ELIS got the records, 0: now; `replayed` is
        the rejected record that they come from, which is marked in the same commit. Raises Unavailable when a retry helps, and
        RateLimited when the sender has used up its events; a replay is charged to nobody.
        """
        if not batch.body and not rejections:
            return Outcome(0, 0, 0)
        records = len(batch) + len(rejections)
        if self._pending_records and self._pending_records + records > MAX_PENDING_RECORDS:
            raise Unavailable("too many records wait for a commit; try again", retry_after=RETRY_AFTER_SECONDS)
        if replayed is None:
            self.limits.charge_events(arrival.agent, records)
        timed = bool(idempotency_key) or record_keys is not None or all(batch.timestamp)
        # Names are masked before anything knows them. Whatever depends on a name knows its masked form only.
        self._masker.mask_names(batch.source)
        if environments is not None:
            environments = list(environments)
            self._masker.mask_names(environments)
        rejections = [replace(rejection, source=self._masker.mask_name(rejection.source)) for rejection in rejections]
        # Requests name few senders: each is looked at once.
        for name, system, environment in dict.fromkeys(zip(batch.source, systems or repeat(""), environments or repeat(""), strict=False)):
            self._sources.register(name, system=system, default_system=default_system, environment=environment)
        for rejection in rejections:
            self._sources.register(rejection.source, system="", default_system=default_system)
        submission = Submission(
            batch,
            arrival,
            self._settings.digest_lifetime if timed else self._settings.untimed_digest_lifetime,
            observed_at or time.time_ns(),
            formats,
            record_keys,
            rejections,
            idempotency_key,
            replayed,
        )
        self._pending_records += records
        try:
            outcome = await self._committer.commit(submission)
        except ElisError:
            if replayed is None:
                self.limits.return_events(arrival.agent, records)
            raise
        finally:
            self._pending_records -= records
        self.endpoints.taken(arrival, events=outcome.accepted, duplicates=outcome.duplicates, rejected=outcome.rejected)
        return outcome
