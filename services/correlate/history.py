"""The recent past in memory: counts per minute of every track, as the detectors look at them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.correlate.baselines import Floats

_GROWTH = 1024
MAX_FIRST_SEEN = 500_000
EVENT_MINUTES = 90
"""Minutes for which ids of first events are kept."""
MASK_MINUTES = 90
"""How long an unusual minute stays out of the baseline. What lasts longer is the new normal."""


class Track(NamedTuple):
    """What is counted as one: a template at a severity, from a service of a source."""

    system: str
    source: str
    service: str
    template: int
    """Signed fingerprint of the founder."""
    severity: int


class Counted(NamedTuple):
    """Events of a track in a minute on one host, and the first of them."""

    track: Track
    events: int
    first_event: int


class Scene:
    """What a detector sees: the counts up to a minute, and what of it is a baseline.

    `counts` is tracks x minutes; the last column is the minute under judgement. `recorded` says for which minutes
    anything was recorded at all; `masked` which cells are known to be unusual and must not serve as a baseline.
    """

    __slots__ = ("counts", "first_seen", "masked", "minute", "recorded", "started", "tracks")

    def __init__(
        self,
        minute: int,
        tracks: list[Track],
        counts: Floats,
        masked: NDArray[np.bool_],
        recorded: NDArray[np.bool_],
        started: NDArray[np.int64],
        first_seen: NDArray[np.int64],
    ) -> None:
        self.minute = minute
        self.tracks = tracks
        self.counts = counts
        self.masked = masked
        self.recorded = recorded
        self.started = started
        """Per track: column in which its source was first heard."""
        self.first_seen = first_seen
        """Per track: minute in which its template was first seen anywhere."""

    @property
    def length(self) -> int:
        """Minutes in sight, including the one under judgement."""
        return int(self.counts.shape[1])

    def ages(self) -> Floats:
        """Returns minutes before the one under judgement, by column."""
        return np.arange(self.length - 1, -1, -1, dtype=np.float64)


class History:
    """Counts by track and minute in a ring of `capacity` minutes. Minutes may be put in any order, and again."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._rows: dict[Track, int] = {}
        self._tracks: list[Track] = []
        self._counts = np.zeros((_GROWTH, capacity), dtype=np.int32)
        self._masked = np.full((_GROWTH, capacity), False)
        self._minutes = np.full(capacity, -1, dtype=np.int64)
        self._events: dict[int, list[tuple[int, int]]] = {}
        self._first_seen: dict[int, int] = {}
        self._started: dict[str, int] = {}
        self._compact_at = 4 * _GROWTH
        self.newest = -1
        """Newest minute that was put; -1 before the first."""

    def put(self, minute: int, counted: Iterable[Counted]) -> bool:
        """Sets what was counted in a minute; says whether that differs from what was known."""
        if minute <= self.newest - self._capacity:
            return False
        column = minute % self._capacity
        if self._minutes[column] != minute:
            self._counts[:, column] = 0
            self._masked[:, column] = False
            self._minutes[column] = minute
        before = self._counts[:, column].copy()
        self._counts[:, column] = 0
        events = []
        for track, number, first_event in counted:
            row = self._row(track)
            self._counts[row, column] += number
            events.append((row, first_event))
            if minute < self._first_seen.get(track.template, minute + 1):
                self._first_seen[track.template] = minute
            if minute < self._started.get(track.source, minute + 1):
                self._started[track.source] = minute
        self._events[minute] = events
        if minute > self.newest:
            self.newest = minute
            for old in [known for known in self._events if known <= minute - EVENT_MINUTES]:
                del self._events[old]
            if len(self._tracks) >= self._compact_at:
                self._compact()
        return len(before) != len(self._counts) or bool((before != self._counts[:, column]).any())

    def learn_first_seen(self, minutes: Mapping[int, int]) -> None:
        """Tells in which minute templates were first seen, which may be longer ago than the ring remembers."""
        for template, minute in minutes.items():
            self._first_seen[template] = min(minute, self._first_seen.get(template, minute))

    def merge_templates(self, moved: Mapping[int, int]) -> None:
        """Follows a revision of the templates: `moved` maps a template to the one that has taken it in."""
        for track, row in list(self._rows.items()):
            target = moved.get(track.template)
            if target is None:
                continue
            del self._rows[track]
            successor = track._replace(template=target)
            if successor in self._rows:
                into = self._rows[successor]
                self._counts[into] += self._counts[row]
                self._masked[into] |= self._masked[row]
                self._counts[row] = 0
                self._events = {minute: [(into if known == row else known, event) for known, event in events] for minute, events in self._events.items()}
            else:
                self._rows[successor] = row
                self._tracks[row] = successor
        self.learn_first_seen({target: self._first_seen[template] for template, target in moved.items() if template in self._first_seen})

    def mask(self, tracks: Iterable[Track], first: int, last: int) -> None:
        """Keeps minutes of tracks out of the baseline."""
        minutes = [minute for minute in range(first, last + 1) if self._minutes[minute % self._capacity] == minute]
        for track in tracks:
            row = self._rows.get(track)
            if row is not None:
                self._masked[row, [minute % self._capacity for minute in minutes]] = True

    def scene(self, minute: int) -> Scene:
        """Returns what can be seen at a minute."""
        known = self._minutes[(self._minutes >= 0) & (self._minutes <= minute) & (self._minutes > minute - self._capacity)]
        first = int(known.min()) if len(known) else minute
        span = np.arange(first, minute + 1)
        columns = span % self._capacity
        present = self._minutes[columns] == span
        rows = len(self._tracks)
        counts = self._counts[:rows, columns].astype(np.float64)
        counts[:, ~present] = 0.0
        masked = self._masked[:rows, columns] & present & (span > minute - MASK_MINUTES)
        started = np.array([max(0, self._started.get(track.source, minute) - first) for track in self._tracks], dtype=np.int64)
        first_seen = np.array([self._first_seen.get(track.template, minute) for track in self._tracks], dtype=np.int64)
        return Scene(minute, list(self._tracks), counts, masked, counts.sum(axis=0) > 0, started, first_seen)

    def events_of(self, tracks: Iterable[Track], first: int, last: int) -> list[tuple[int, Track, int]]:
        """Returns (minute, track, id of the first event there) for tracks in a range of minutes, in order of time."""
        rows = {self._rows[track]: track for track in tracks if track in self._rows}
        return [(minute, rows[row], event) for minute in range(first, last + 1) for row, event in sorted(self._events.get(minute, ())) if row in rows]

    def tracks_of(self, node: tuple[str, str], template: int | None, least: int, most: int) -> set[Track]:
        """Returns the tracks of a node with severities in a range, of one template or (None) of all."""
        return {
            track
            for track in self._rows
            if (track.system, track.service or track.source) == node and least <= track.severity <= most and template in (None, track.template)
        }

    def debuts(self, system: str, service: str, first: int, last: int) -> list[Track]:
        """Returns the tracks of a node whose templates were first seen in a range of minutes."""
        return [
            track
            for track in self._rows
            if track.system == system and (track.service or track.source) == service and first <= self._first_seen.get(track.template, first - 1) <= last
        ]

    @property
    def oldest(self) -> int:
        """Oldest minute in sight."""
        return int(self._minutes[self._minutes >= 0].min(initial=max(self.newest, 0)))

    def first_events(self, minute: int) -> list[int]:
        """Returns the ids of the first events of all tracks in a minute, oldest block first."""
        return sorted(event for _, event in self._events.get(minute, ()))

    def count(self, tracks: Iterable[Track], first: int, last: int) -> int:
        """Returns the events of tracks in a range of minutes."""
        rows = [self._rows[track] for track in tracks if track in self._rows]
        columns = [minute % self._capacity for minute in range(first, last + 1) if self._minutes[minute % self._capacity] == minute]
        return int(self._counts[np.ix_(rows, columns)].sum()) if rows and columns else 0

    def _compact(self) -> None:
        """Forgets tracks without a count in sight: texts that never repeat must not fill the memory."""
        kept = np.flatnonzero(self._counts[: len(self._tracks)].any(axis=1)).tolist()
        place = {row: number for number, row in enumerate(kept)}
        room = _GROWTH * (len(kept) // _GROWTH + 1)
        counts, masked = np.zeros((room, self._capacity), dtype=np.int32), np.full((room, self._capacity), False)
        counts[: len(kept)], masked[: len(kept)] = self._counts[kept], self._masked[kept]
        self._counts, self._masked = counts, masked
        self._tracks = [self._tracks[row] for row in kept]
        self._rows = {track: number for number, track in enumerate(self._tracks)}
        self._events = {minute: [(place[row], event) for row, event in events if row in place] for minute, events in self._events.items()}
        if len(self._first_seen) > MAX_FIRST_SEEN:
            # The oldest are worth most: a text that comes again after weeks is no news.
            oldest = sorted(self._first_seen.items(), key=lambda item: item[1])[: MAX_FIRST_SEEN // 2]
            self._first_seen = dict(oldest)
        self._compact_at = max(4 * _GROWTH, 2 * len(kept))

    def _row(self, track: Track) -> int:
        row = self._rows.get(track)
        if row is None:
            row = len(self._tracks)
            if row == len(self._counts):
                self._counts = np.vstack([self._counts, np.zeros((_GROWTH, self._capacity), dtype=np.int32)])
                self._masked = np.vstack([self._masked, np.full((_GROWTH, self._capacity), False)])
            self._rows[track] = row
            self._tracks.append(track)
        return row
