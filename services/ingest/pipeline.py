"""From a batch of records to encoded lines: parse, mask, judge time and size, fingerprint, encode, count."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from services.ingest.batch import Batch
from services.ingest.fingerprints import fingerprint_bodies
from services.ingest.formats import FORMATS
from services.ingest.lines import encode_lines
from services.ingest.masking import Masker
from services.ingest.rejections import Rejection, RejectReason
from services.ingest.settings import IngestSettings
from services.ingest.sources import SourceBook
from services.ingest.summary import SummaryRows

NANOSECONDS_PER_DAY = 86_400_000_000_000
ORIGINAL_TIME = "elis.original_time"
"""Attribute that keeps a time too far off to be believed, in nanoseconds since 1970."""


@dataclass(slots=True)
class Chunk:
    """The encoded events of one request that belong to one day, and what they count as."""

    day: int
    """Days since 1970."""
    lines: list[bytes]
    first_timestamp: int
    last_timestamp: int
    rows: SummaryRows


@dataclass(slots=True)
class Prepared:
    """A request that is ready to be committed."""

    chunks: list[Chunk] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    events: int = 0


class Pipeline:
    """Prepares batches. Holds no state of a request; safe to call from one worker thread at a time."""

    def __init__(self, settings: IngestSettings, sources: SourceBook, masker: Masker) -> None:
        self._sources = sources
        self._masker = masker
        self._max_block_events = settings.max_block_events
        self._max_record_bytes = settings.max_record_bytes
        self._oldest_ns = int(settings.oldest_event.total_seconds()) * 1_000_000_000
        self._future_ns = int(settings.future_tolerance.total_seconds()) * 1_000_000_000

    def prepare(self, batch: Batch, *, observed_at: int, formats: Sequence[str] | None = None) -> Prepared:
        """Turns a batch into chunks of encoded lines, one per event day; changes the batch in place.

        `formats` declares a format name per row (empty: the source's own, else detected). A record that cannot
        become an event is returned as a rejection and does not hold up its neighbours.
        """
        prepared = Prepared()
        rows = self._select_sound(batch, prepared.rejections)
        if not rows:
            return prepared
        self._parse(batch, rows, formats)
        self._masker.mask_batch(batch)
        timestamps = self._judge_times(batch, rows, observed_at)
        fingerprint_column, templates = fingerprint_bodies(batch.body)
        states = {name: self._sources.state(name) for name in set(batch.source)}
        systems = [states[name].system for name in batch.source]
        environments = [states[name].environment for name in batch.source]

        for day, members in self._slices(rows, timestamps):
            lines = encode_lines(
                batch,
                members,
                timestamps=timestamps,
                observed_at=observed_at,
                systems=systems,
                environments=environments,
                fingerprints=fingerprint_column,
            )
            counts = SummaryRows()
            counts.add_rows(
                batch, members, timestamps=timestamps, systems=systems, environments=environments, fingerprints=fingerprint_column, templates=templates
            )
            stamps = [timestamps[row] for row in members]
            prepared.chunks.append(Chunk(day, lines, min(stamps), max(stamps), counts))
        prepared.events = len(rows)
        return prepared

    def _slices(self, rows: Sequence[int], timestamps: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
        """Yields (day, rows) with no more rows than a block may hold."""
        days: defaultdict[int, list[int]] = defaultdict(list)
        for row in rows:
            days[timestamps[row] // NANOSECONDS_PER_DAY].append(row)
        for day, members in days.items():
            for start in range(0, len(members), self._max_block_events):
                yield day, members[start : start + self._max_block_events]

    def _select_sound(self, batch: Batch, rejections: list[Rejection]) -> list[int]:
        sound: list[int] = []
        for row, body in enumerate(batch.body):
            # len() counts characters: at most four bytes each, so most bodies need no encoding to be judged.
            if len(body) * 4 > self._max_record_bytes and len(raw := body.encode()) > self._max_record_bytes:
                detail = f"the record has {len(raw)} bytes, more than {self._max_record_bytes}"
                rejections.append(Rejection(batch.source[row], RejectReason.RECORD_TOO_LARGE, detail, raw))
                batch.body[row] = ""
            else:
                sound.append(row)
        return sound

    def _parse(self, batch: Batch, rows: Sequence[int], declared: Sequence[str] | None) -> None:
        groups: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for row in rows:
            groups[batch.source[row], declared[row] if declared else ""].append(row)
        for (source, name), members in groups.items():
            bodies = [batch.body[row] for row in members[: SourceBook.SAMPLE_LINES]]
            state = self._sources.choose_format(source, name, bodies)
            FORMATS[name or state.format].parse(batch, members, state.zone)

    def _judge_times(self, batch: Batch, rows: Sequence[int], observed_at: int) -> list[int]:
        earliest, latest = max(0, observed_at - self._oldest_ns), observed_at + self._future_ns
        timestamps = list(batch.timestamp)
        for row in rows:
            stamp = timestamps[row]
            if earliest <= stamp <= latest and stamp:
                continue
            timestamps[row] = observed_at
            if stamp:
                batch.attributes[row] = {**(batch.attributes[row] or {}), ORIGINAL_TIME: stamp}
        return timestamps
