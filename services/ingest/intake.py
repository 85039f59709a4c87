"""The one way in: every receiver hands its batch here and gets the outcome after the commit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from kit.errors import Unavailable
from services.ingest.batch import Batch
from services.ingest.committer import Committer, Outcome, Submission
from services.ingest.digests import digest_request
from services.ingest.pipeline import Pipeline, Prepared
from services.ingest.rejections import Rejection
from services.ingest.settings import IngestSettings
from services.ingest.sources import SourceBook
from services.ingest.tokens import Agent

INLINE_RECORDS = 64
"""A batch up to this size is prepared on the event loop: handing it to the worker would cost more."""
INLINE_BYTES = 32 * 1024
"""The same for a body that is decoded."""
RETRY_AFTER_SECONDS = 1.0

ResultT = TypeVar("ResultT")


class Intake:
    """Bounds what is in work, decodes and prepares batches in one worker thread and has them committed."""

    def __init__(self, settings: IngestSettings, sources: SourceBook, pipeline: Pipeline, committer: Committer) -> None:
        self._settings = settings
        self._sources = sources
        self._pipeline = pipeline
        self._committer = committer
        self._pending_bytes = 0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="prepare")

    @contextmanager
    def admit(self, size: int) -> Iterator[None]:
        """Reserves room for a body of `size` bytes while it is in work; raises Unavailable when there is none."""
        if self._pending_bytes + size > self._settings.max_pending_bytes and self._pending_bytes:
            raise Unavailable("too much is in work; try again", retry_after=RETRY_AFTER_SECONDS)
        self._pending_bytes += size
        try:
            yield
        finally:
            self._pending_bytes -= size

    async def decode(self, size: int, function: Callable[[], ResultT]) -> ResultT:
        """Returns what a function makes of a body of `size` bytes. Other senders are served while a large one is decoded."""
        return await self._work(function, inline=size <= INLINE_BYTES)

    async def take(
        self,
        batch: Batch,
        agent: Agent,
        *,
        default_system: str,
        systems: Sequence[str] | None = None,
        environments: Sequence[str] | None = None,
        formats: Sequence[str] | None = None,
        rejections: Sequence[Rejection] = (),
        idempotency_key: str = "",
        sender: str = "",
    ) -> Outcome:
        """Stores a batch and returns when it is durable.

        `systems`, `environments` and `formats` are columns of what the sender declares (empty text: nothing).
        `rejections` are records that the receiver could not read. Raises Unavailable when a retry helps.
        """
        if not batch.body and not rejections:
            return Outcome(0, 0, 0)
        timed = bool(idempotency_key) or all(batch.timestamp)
        lifetime = self._settings.digest_lifetime if timed else self._settings.untimed_digest_lifetime
        for row, name in enumerate(batch.source):
            system, environment = systems[row] if systems else "", environments[row] if environments else ""
            if row == 0 or name != batch.source[row - 1] or system or environment:
                self._sources.register(name, system=system, default_system=default_system, environment=environment)
        for rejection in rejections:
            self._sources.register(rejection.source, system="", default_system=default_system)
        observed_at = time.time_ns()

        def prepare() -> tuple[bytes, Prepared]:
            digest = digest_request(agent.id, batch, rejections, idempotency_key)  # of what was sent: preparing changes the batch
            return digest, self._pipeline.prepare(batch, observed_at=observed_at, formats=formats)

        digest, prepared = await self._work(prepare, inline=len(batch) <= INLINE_RECORDS)
        prepared.rejections.extend(rejections)
        return await self._committer.commit(Submission(digest, lifetime, prepared, sender))

    async def _work(self, function: Callable[[], ResultT], *, inline: bool) -> ResultT:
        return function() if inline else await asyncio.get_running_loop().run_in_executor(self._worker, function)
