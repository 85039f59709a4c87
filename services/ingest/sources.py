"""Sources: who sends, what kind of system it is, and which format its text has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import asyncpg
import structlog

from services.ingest.formats import FORMATS, rank_formats
from services.ingest.rejections import storable
from services.ingest.zones import known_zone

log = structlog.get_logger()

DEFAULT_ENVIRONMENT = "production"

_UPSERT = """
INSERT INTO ingest.sources AS s (name, system, environment, format, detected_by, confidence, events, rejected)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::float8[], $7::bigint[], $8::bigint[])
ON CONFLICT (name) DO UPDATE SET
    system = CASE WHEN 'system' = ANY(s.pinned) THEN s.system ELSE excluded.system END,
    environment = CASE WHEN 'environment' = ANY(s.pinned) THEN s.environment ELSE excluded.environment END,
    format = CASE WHEN 'format' = ANY(s.pinned) THEN s.format ELSE excluded.format END,
    detected_by = CASE WHEN 'format' = ANY(s.pinned) THEN s.detected_by ELSE excluded.detected_by END,
    confidence = CASE WHEN 'format' = ANY(s.pinned) THEN s.confidence ELSE excluded.confidence END,
    events = s.events + excluded.events, rejected = s.rejected + excluded.rejected,
    last_seen_at = CASE WHEN excluded.events + excluded.rejected > 0 THEN now() ELSE s.last_seen_at END
"""
_LOAD = """
SELECT name, system, environment, format, detected_by, confidence, zone, pinned, detections, retention_days, configured_at
FROM ingest.sources ORDER BY configured_at DESC NULLS LAST, last_seen_at DESC LIMIT $1
"""
_CONFIGURED_SINCE = """
SELECT name, system, environment, format, zone, pinned, detections, retention_days, configured_at FROM ingest.sources WHERE configured_at > $1
"""
_OVERLAP = timedelta(minutes=2)
"""A change is seen when it commits, which is later than the time that it writes: each look goes back this far."""
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class SourceState:
    """What is known of a source; shared by everything that handles its events."""

    name: str
    system: str
    environment: str
    format: str = ""
    """Name in FORMATS; empty until text was seen."""
    detected_by: str = ""
    """declared, detected, or empty."""
    confidence: float = 0.0
    sampled: int = 0
    """Records that the detection has seen."""
    weights: dict[str, float] = field(default_factory=dict)
    """How sure the formats are of these records, by name: the sum over the records."""
    doubted: bool = False
    """Whether the detection looks again; the format stays until it has seen enough."""
    read: int = 0
    understood: int = 0
    """Records, and those that the detected format understood, since it was judged last."""
    patience: int = 500
    """Records after which the detected format is judged."""
    zone: tzinfo = UTC
    """In which stamps without a zone are read."""
    pinned: frozenset[str] = frozenset()
    """Those of system, environment and format that only UpdateSource changes."""
    detections: int = 0
    retention_days: int = 0
    """Days that its events are kept; 0: as many as the setting says."""
    configured_at: datetime | None = None
    replays: int = 0
    """Replays under way: the formats that they declare hold for their records only."""
    system_declared: bool = False
    """Whether the sender said what system it is; else the format may."""
    changed: bool = True
    events: int = 0
    """Events since the last flush."""
    rejected: int = 0

    @property
    def set_plain(self) -> bool:
        """Whether a team says that its text is plain: then there is nothing in it that is not understood."""
        return self.format == "plain" and "format" in self.pinned

    def format_of(self, declared: str) -> str:
        """Returns the format of records that declare one (or none: empty): what a team set for the source comes first, but for a replay."""
        if declared and ("format" not in self.pinned or self.replays):
            return declared
        return self.format


class SourceBook:
    """The sources of this process, kept in step with the table of sources.

    Detection is sticky: after SAMPLE_LINES records a source keeps its format until it is declared another, or most of its
    records are not understood (see judge_format).
    Counts are flushed once a second and may miss what a killed process had not flushed; the exact ones are
    statistics, which come from the blocks.
    """

    SAMPLE_LINES = 50
    MAX_SOURCES = 50_000

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self._pool = pool
        self._states: dict[str, SourceState] = {}
        self._configured_at = _NEVER + _OVERLAP

    async def load(self) -> None:
        """Reads the known sources, those first that a team has configured."""
        for row in await self._pool.fetch(_LOAD, self.MAX_SOURCES):
            known = row["format"] in FORMATS
            self._states[row["name"]] = SourceState(
                name=row["name"],
                system=row["system"],
                environment=row["environment"],
                format=row["format"] if known else "",
                detected_by=row["detected_by"] if known else "",
                confidence=row["confidence"],
                sampled=self.SAMPLE_LINES if known else 0,
                detections=row["detections"],
                changed=False,
            )
            if row["configured_at"] is not None:
                self.configure(row)

    async def refresh(self) -> None:
        """Takes over what other replicas were told about sources since the last look."""
        for row in await self._pool.fetch(_CONFIGURED_SINCE, self._configured_at - _OVERLAP):
            state = self._states.get(row["name"])
            if state is None or state.configured_at != row["configured_at"]:
                self.configure(row)

    def configure(self, row: Mapping[str, Any]) -> None:
        """Takes over what a team says about a source: a row of the table, by column name."""
        state = self._states.get(row["name"])
        if state is None:
            state = self._states[row["name"]] = SourceState(row["name"], row["system"], row["environment"], detections=row["detections"], changed=False)
        state.zone = known_zone(row["zone"], state.name)
        unknown = row["format"] not in FORMATS  # of a newer release
        state.pinned = frozenset(column for column in row["pinned"] if not (column == "format" and unknown))
        if "system" in state.pinned:
            state.system = row["system"]
        if "environment" in state.pinned:
            state.environment = row["environment"]
        if "format" in state.pinned:
            state.format, state.detected_by, state.confidence = row["format"], "declared", 1.0
        elif state.detections != row["detections"]:
            # The format itself stays until the next records are looked at: they may be in work right now.
            state.detected_by, state.confidence = "", 0.0
            _look_again(state)
        state.detections = row["detections"]
        state.retention_days = row["retention_days"]
        state.configured_at = row["configured_at"]
        self._configured_at = max(self._configured_at, row["configured_at"])

    def state(self, name: str) -> SourceState:
        """Returns a source that was registered."""
        return self._states[name]

    def set_format(self, name: str) -> str:
        """Returns the format that a team set for a source, or an empty text."""
        state = self._states.get(name)
        return state.format if state is not None and "format" in state.pinned else ""

    def register(self, name: str, *, system: str, default_system: str, environment: str = "") -> SourceState:
        """Returns the source, making it when it is new. `system` and `environment` are what the sender says; a
        source that nobody declared anything about gets `default_system`."""
        state = self._states.get(name)
        if state is None:
            if len(self._states) >= self.MAX_SOURCES:
                self._drop_idle()
            state = self._states[name] = SourceState(name, system or default_system, environment or DEFAULT_ENVIRONMENT)
        if system and "system" not in state.pinned:
            state.system_declared = True
            if system != state.system:
                state.system, state.changed = system, True
        if environment and environment != state.environment and "environment" not in state.pinned:
            state.environment, state.changed = environment, True
        return state

    def choose_format(self, name: str, declared: str, bodies: Sequence[str]) -> SourceState:
        """Settles the format of a source from a declaration or from its text; returns its state.

        What a team set stays. What a sender declares holds for its records and, unless a team says otherwise, for the source.
        """
        state = self._states[name]
        if declared and ("format" in state.pinned or (state.replays and state.format)):
            pass
        elif declared:
            if state.detected_by != "declared" or state.format != declared:
                state.format, state.detected_by, state.confidence, state.changed = declared, "declared", 1.0, True
        elif state.detected_by != "declared" and (not state.format or state.sampled < self.SAMPLE_LINES):
            _sample(state, bodies, enough=self.SAMPLE_LINES)
        implied = FORMATS[state.format].system
        if implied and implied != state.system and not state.system_declared and "system" not in state.pinned:
            state.system, state.changed = implied, True
        return state

    def judge_format(self, state: SourceState, read: int, understood: int) -> None:
        """Notes how many records the format of a source understood, and lets the detection look again when it was less than half.

        Text that is plain is looked at again too: it may have begun with a banner. The second look comes after 500 records, each
        further one after twice as many.
        """
        if state.detected_by != "detected" or state.doubted:
            return
        state.read += read
        state.understood += understood
        if state.read < state.patience:
            return
        if state.format == "plain" or state.understood * 2 < state.read:
            state.patience *= 2
            _look_again(state)
            state.doubted = True
        state.read = state.understood = 0

    async def flush(self) -> None:
        """Writes new and changed sources and the counts since the last flush; raises asyncpg's errors."""
        pending = [state for state in self._states.values() if state.changed or state.events or state.rejected]
        if not pending:
            return
        rows = sorted(
            (storable(s.name), s.system, s.environment, s.format if s.detected_by else "", s.detected_by, s.confidence, s.events, s.rejected) for s in pending
        )
        counted = [(state, state.events, state.rejected) for state in pending]
        for state in pending:
            state.changed = False
        try:
            await self._pool.execute(_UPSERT, *map(list, zip(*rows, strict=True)))
        except BaseException:
            for state in pending:
                state.changed = True
            raise
        for state, events, rejected in counted:
            state.events -= events
            state.rejected -= rejected

    def _drop_idle(self) -> None:
        idle = [name for name, state in self._states.items() if not (state.changed or state.events or state.rejected or state.configured_at)]
        log.warning("too many sources in memory", sources=len(self._states), dropped=len(idle))
        for name in idle:
            del self._states[name]


def _look_again(state: SourceState) -> None:
    state.sampled, state.weights, state.doubted = 0, {}, False


def _sample(state: SourceState, bodies: Sequence[str], *, enough: int) -> None:
    """Lets the detection see records; sets the format that is surest of all it has seen since it began to look."""
    for candidate, confidence in rank_formats(bodies):
        state.weights[candidate.name] = state.weights.get(candidate.name, 0.0) + confidence * len(bodies)
    state.sampled += len(bodies)
    if state.doubted and state.sampled < enough:
        return
    found = max(state.weights, key=lambda name: state.weights[name])
    if state.doubted and found != state.format:
        log.info("a source has another format", source=state.name, before=state.format, now=found)
    state.format, state.detected_by, state.confidence = found, "detected", state.weights[found] / state.sampled
    state.doubted, state.changed = False, True
