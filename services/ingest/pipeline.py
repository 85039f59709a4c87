"""From records as they were sent to columns that can be encoded: parse, mask, judge time and size, fingerprint."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat

from services.ingest.attributes import bound_attributes
from services.ingest.batch import Batch
from services.ingest.fingerprints import fingerprint_bodies
from services.ingest.formats import parse_batch
from services.ingest.joining import join_rows
from services.ingest.masking import Masked, Masker
from services.ingest.rejections import Rejection, RejectReason
from services.ingest.settings import IngestSettings
from services.ingest.sources import SourceBook
from services.ingest.stages import StageClock

ORIGINAL_TIME = "elis.original_time"
"""Attribute that keeps a time too far off to be believed, in nanoseconds since 1970."""


@dataclass(slots=True)
class Prepared:
    """A batch that is ready to be encoded: its columns, and which rows became events."""

    batch: Batch
    observed_at: Sequence[int]
    """Nanoseconds since 1970 at which ELIS got the record, per row."""
    timestamps: list[int] = field(default_factory=list)
    """The times that are believed, per row; those of the batch are the sender's."""
    systems: list[str] = field(default_factory=list)
    environments: list[str] = field(default_factory=list)
    keep_days: dict[str, int] = field(default_factory=dict)
    """Days that events are kept, of the sources that are not kept as the setting says."""
    fingerprints: list[int] = field(default_factory=list)
    fingerprint_texts: list[str] = field(default_factory=list)
    """The fingerprints as 16 hexadecimal digits."""
    templates: dict[int, str] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)
    """The rows that are events."""
    rejections: dict[int, Rejection] = field(default_factory=dict)
    """What became of the others, by row."""
    unparsed: Mapping[str, int] = field(default_factory=dict)
    """How many records of a source its format did not understand."""
    overflowing: list[int] = field(default_factory=list)
    """The rows that had more attributes than are kept apart."""
    masked: Masked = field(default_factory=Masked)
    """What masking replaced: values to seal and tokens to join, which are stored in the commit of the events."""


class Pipeline:
    """Prepares batches. Holds no state of a request; safe to call from one worker thread at a time."""

    def __init__(self, settings: IngestSettings, sources: SourceBook, masker: Masker) -> None:
        self.clock = StageClock()
        self._sources = sources
        self._masker = masker
        self._max_record_bytes = settings.max_record_bytes
        self._max_attributes = settings.max_attributes
        self._oldest_ns = int(settings.oldest_event.total_seconds()) * 1_000_000_000
        self._future_ns = int(settings.future_tolerance.total_seconds()) * 1_000_000_000

    def prepare(
        self,
        batch: Batch,
        *,
        observed_at: Sequence[int],
        formats: Sequence[str] | None = None,
        apart: Collection[int] = (),
        failing: Mapping[int, Rejection] | None = None,
    ) -> Prepared:
        """Parses, joins, masks, judges and fingerprints a batch; changes it in place.

        `formats` declares a format name per row (empty: the source's own, else detected). `apart` are rows that are never
        joined to others; those that came at the same nanosecond are of one request. `failing` are rows that ELIS failed on
        before, and what to say of them. A record that cannot
        become an event is returned as a rejection and does not hold up its neighbours.
        """
        prepared = Prepared(batch, observed_at)
        prepared.rows = self._select_sound(batch, prepared.rejections)
        if failing:
            batch.blank(failing)
            prepared.rejections.update(failing)
            prepared.rows = [row for row in prepared.rows if row not in failing]
        stage = self.clock.stage
        with stage("parse"):
            prepared.unparsed = self._parse(batch, prepared.rows, formats)
            prepared.rows = join_rows(batch, prepared.rows, observed_at, apart)
        with stage("mask"):
            prepared.masked = self._masker.mask_batch(batch)
        with stage("judge"):
            prepared.timestamps = self._judge_times(batch, observed_at)
            prepared.overflowing = bound_attributes(batch, prepared.rows, self._max_attributes)
        with stage("fingerprint"):
            prepared.fingerprints, prepared.templates = fingerprint_bodies(batch.body)
            texts = {number: f"{number:016x}" for number in prepared.templates}
            prepared.fingerprint_texts = [texts[number] for number in prepared.fingerprints]
        states = {name: self._sources.state(name) for name in set(batch.source)}
        prepared.systems = [states[name].system for name in batch.source]
        prepared.environments = [states[name].environment for name in batch.source]
        prepared.keep_days = {name: state.retention_days for name, state in states.items() if state.retention_days}
        return prepared

    def _select_sound(self, batch: Batch, rejections: dict[int, Rejection]) -> list[int]:
        # len() counts characters: at most four bytes each, so most bodies need no encoding to be judged.
        if max(map(len, batch.body), default=0) * 4 <= self._max_record_bytes:
            return list(range(len(batch)))
        sound: list[int] = []
        for row, body in enumerate(batch.body):
            if len(body) * 4 > self._max_record_bytes and len(raw := body.encode()) > self._max_record_bytes:
                detail = f"the record has {len(raw)} bytes, more than {self._max_record_bytes}"
                rejections[row] = Rejection(batch.source[row], RejectReason.RECORD_TOO_LARGE, detail, raw, batch.fields_of(row))
                batch.body[row] = ""
            else:
                sound.append(row)
        return sound

    def _parse(self, batch: Batch, rows: Sequence[int], declared: Sequence[str] | None) -> Mapping[str, int]:
        """Parses the rows; returns how many of each source were not understood."""
        unparsed: Counter[str] = Counter()
        groups: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for row, key in enumerate(zip(batch.source, declared or repeat(""), strict=False)):
            groups[key].append(row)
        chosen = frozenset(rows) if len(rows) < len(batch) else None
        for (source, name), members in groups.items():
            if chosen is not None and not (members := [row for row in members if row in chosen]):
                continue
            bodies = [batch.body[row] for row in members[: SourceBook.SAMPLE_LINES]]
            state = self._sources.choose_format(source, name, bodies)
            understood = parse_batch(state.format_of(name), batch, members, state.zone)
            if not name:
                self._sources.judge_format(state, len(members), understood)
            if not state.set_plain:
                unparsed[source] += len(members) - understood
        return unparsed

    def _judge_times(self, batch: Batch, observed_at: Sequence[int]) -> list[int]:
        timestamps = list(batch.timestamp)
        oldest, future = self._oldest_ns, self._future_ns
        # What is believed of a record that came at any of these times needs no further look.
        first, last = max(1, max(observed_at, default=0) - oldest), min(observed_at, default=0) + future
        for row, stamp in enumerate(batch.timestamp):
            if first <= stamp <= last:
                continue
            observed = observed_at[row]
            if stamp > 0 and observed - oldest <= stamp <= observed + future:
                continue
            timestamps[row] = observed
            if stamp:
                batch.attributes[row] = {**(batch.attributes[row] or {}), ORIGINAL_TIME: stamp}
        return timestamps
