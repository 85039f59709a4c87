"""Groups of requests that are prepared together, share a transaction and each get their own outcome."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from services.ingest.batch import Batch
from services.ingest.blocks import NewBlock
from services.ingest.digests import digest_record, digest_request
from services.ingest.drafts import Draft, build_block, draft_blocks
from services.ingest.endpoints import Arrival
from services.ingest.pipeline import Pipeline, Prepared
from services.ingest.quality.measure import Measures, measure_quality
from services.ingest.rejections import Rejection
from services.ingest.stages import StageClock


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request, after the commit."""

    accepted: int
    duplicates: int
    rejected: int
    duplicate_rows: frozenset[int] = frozenset()
    """Rows that were stored before, of a request whose records have ids of their own."""


@dataclass(slots=True)
class Submission:
    """A request that waits to be stored."""

    batch: Batch
    arrival: Arrival
    lifetime: timedelta
    """How long it is recognised when it is sent again."""
    observed_at: int
    """Nanoseconds since 1970 at which it came in."""
    formats: Sequence[str] | None = None
    record_keys: Sequence[str] | None = None
    """Ids that the sender gave its records; empty where it gave none."""
    rejections: Sequence[Rejection] = ()
    """Records that the receiver could not read."""
    idempotency_key: str = ""
    replayed: UUID | None = None
    """The rejected record that this is another try of."""
    failing: Mapping[int, Rejection] = field(default_factory=dict)
    """Rows that ELIS failed on before."""
    done: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def records(self) -> int:
        """Records of the batch and those that could not be read."""
        return len(self.batch) + len(self.rejections)


@dataclass(slots=True)
class _Part:
    """Where a submission's records are in the group, and which digest each of them stands under."""

    submission: Submission
    records: int
    digest: bytes
    start: int = 0
    taken: Sequence[int] = ()
    """Rows of the submission's batch that are in the group, in order."""
    owners: Sequence[bytes] | None = None
    """The digest of each taken row; None: the request's own for all of them."""
    first: bool = True
    """Whether the request's digest came up in this group for the first time."""


class Group:
    """Requests on their way through one commit.

    A request stands under a digest of its records, or of the key that its sender gave; a record that its sender gave an id
    stands under a digest of that. What stands under a digest that somebody else holds is a duplicate.
    """

    def __init__(self, submissions: Sequence[Submission]) -> None:
        self.claims: dict[bytes, timedelta] = {}
        """The digests that this group asks for, and for how long."""
        self.lost: set[int] = set()
        """Rows that were stored before."""
        self.submissions = submissions
        self._parts: list[_Part] = []
        self.measures: dict[str, Measures] = {}
        """The quality of the events, by source."""
        self._fresh: set[bytes] = set()
        self._prepared: Prepared | None = None

    @property
    def size(self) -> int:
        """Records of all requests."""
        return sum(submission.records for submission in self.submissions)

    @property
    def prepared(self) -> Prepared:
        """The prepared columns; `prepare` comes first."""
        if self._prepared is None:
            raise RuntimeError("the group was not prepared")
        return self._prepared

    @property
    def plain(self) -> bool:
        """Whether events and digests are all that is to be stored."""
        prepared = self.prepared
        if prepared.rejections or prepared.masked.sealed or prepared.masked.joins:
            return False
        return not any(submission.rejections or submission.replayed for submission in self.submissions)

    def prepare(self, pipeline: Pipeline) -> None:
        """Digests the requests as they were sent, then prepares their records as one batch."""
        batch, observed_at, formats, apart = Batch(), list[int](), list[str](), set[int]()
        failing: dict[int, Rejection] = {}
        with pipeline.clock.stage("digest"):
            self._parts = [self._take(submission) for submission in self.submissions]
        for part in self._parts:
            submission = part.submission
            part.start = len(batch)
            if not part.taken:
                continue
            if part.owners is not None:
                # Each stands under an id of its own, and may be a duplicate while its neighbours are not.
                apart.update(range(part.start, part.start + len(part.taken)))
            whole = len(part.taken) == len(submission.batch)
            chosen = submission.batch if whole else submission.batch.pick(part.taken)
            batch.extend(chosen)  # a copy: what was sent stays as it is, for another try
            if submission.failing:
                failing.update({part.start + number: submission.failing[row] for number, row in enumerate(part.taken) if row in submission.failing})
            observed_at += [submission.observed_at] * len(chosen)
            formats += [submission.formats[row] for row in part.taken] if submission.formats else [""] * len(chosen)
        self._prepared = pipeline.prepare(batch, observed_at=observed_at, formats=formats, apart=apart, failing=failing)

    def _take(self, submission: Submission) -> _Part:
        """Claims a submission's digests and chooses the rows that nothing earlier in the group holds."""
        batch, token_id = submission.batch, submission.arrival.agent.id
        digest = digest_request(token_id, batch, submission.rejections, submission.idempotency_key)
        part = _Part(submission, submission.records, digest)
        keys = submission.record_keys
        if keys is None or submission.rejections or not all(keys):
            part.first = digest not in self.claims
            self.claims.setdefault(digest, submission.lifetime)
        if keys is None:
            part.taken = range(len(batch)) if part.first else ()
            return part
        taken: list[int] = []
        owners: list[bytes] = []
        for row, key in enumerate(keys):
            owner = digest_record(token_id, key) if key else digest
            if key and owner not in self.claims:
                self.claims[owner] = submission.lifetime
            elif key or not part.first:
                continue
            taken.append(row)
            owners.append(owner)
        part.taken, part.owners = taken, owners
        return part

    def draft(self, max_events: int) -> list[Draft]:
        """Returns the blocks that the events become, without those that are lost."""
        rows = self.prepared.rows
        if self.lost:
            rows = [row for row in rows if row not in self.lost]
        return list(draft_blocks(self.prepared, rows, max_events))

    def build(self, drafts: Sequence[Draft], ids: Sequence[int], clock: StageClock) -> list[NewBlock]:
        """Builds the blocks of drafts and measures the quality of what is in them."""
        with clock.stage("quality"):
            self.measures = measure_quality(self.prepared, [row for draft in drafts for row in draft.rows])
        return [build_block(self.prepared, draft, number, clock) for draft, number in zip(drafts, ids, strict=True)]

    def settle_claims(self, fresh: set[bytes]) -> None:
        """Takes the digests that were free; what stands under any other is lost."""
        self._fresh = fresh
        if len(fresh) == len(self.claims):
            return
        for part in self._parts:
            rows = range(part.start, part.start + len(part.taken))
            if part.owners is None:
                if part.digest not in fresh:
                    self.lost.update(rows)
            else:
                self.lost.update(row for row, owner in zip(rows, part.owners, strict=True) if owner not in fresh)

    def replayed(self) -> list[UUID]:
        """Returns the rejected records that this group is another try of."""
        return [submission.replayed for submission in self.submissions if submission.replayed is not None]

    def rejections(self) -> Iterator[tuple[Submission, list[Rejection]]]:
        """Yields the rejected records that are new, by request."""
        rejected = self.prepared.rejections
        for part in self._parts:
            found = list(part.submission.rejections) if part.first and part.digest in self._fresh else []
            if rejected:
                found += [rejected[row] for row in range(part.start, part.start + len(part.taken)) if row in rejected and row not in self.lost]
            if found:
                yield part.submission, found

    def duplicates_by_source(self) -> Counter[str]:
        """Returns how many records of each source were stored before."""
        source = self.prepared.batch.source
        duplicates = Counter(source[row] for row in self.lost)
        for part in self._parts:
            if len(part.taken) < len(part.submission.batch):
                taken = set(part.taken)
                duplicates.update(name for row, name in enumerate(part.submission.batch.source) if row not in taken)
        return duplicates

    def outcomes(self) -> list[Outcome]:
        """Returns what became of each request, in their order."""
        new_rejections = {id(submission): len(rejections) for submission, rejections in self.rejections()}
        rejected_rows = self.prepared.rejections
        outcomes: list[Outcome] = []
        for part in self._parts:
            rows = range(part.start, part.start + len(part.taken))
            stored = [number for number, row in enumerate(rows) if row not in self.lost] if self.lost else range(len(rows))
            rejected = new_rejections.get(id(part.submission), 0)
            accepted = len(stored) - sum(1 for number in stored if part.start + number in rejected_rows) if rejected_rows else len(stored)
            repeated: frozenset[int] = frozenset()
            if part.owners is not None and len(stored) < part.records:
                repeated = frozenset(range(part.records - len(part.submission.rejections))) - {part.taken[number] for number in stored}
            outcomes.append(Outcome(accepted, part.records - accepted - rejected, rejected, repeated))
        return outcomes
