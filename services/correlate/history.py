"""The recent past in memory: counts per minute of every track, as the detectors look at them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.correlate.scene import ERROR, FlowKey, Flows, Integers, Rings, Scene, Track

_GROWTH = 1024
_FLOWS = 128
_FLOW_RINGS = ("flow_events", "flow_errors", "flow_masked")
_NEVER = 1 << 40
"""A minute that never comes."""
MAX_FIRST_SEEN = 500_000
EVENT_MINUTES = 90
"""Minutes for which ids of first events are kept."""


class Counted(NamedTuple):
    """Events of a track in a minute on one host, and the first of them."""

    track: Track
    events: int
    first_event: int


class History:
    """Counts by track and minute in a ring of `capacity` minutes. Minutes may be put in any order, and again.

    The sums that detectors look at (by flow, and the errors among them) are kept as minutes are put: a scene costs what is
    asked of it and not what is in sight.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._rows: dict[Track, int] = {}
        self._tracks: list[Track] = []
        self._flow_numbers: dict[FlowKey, int] = {}
        self._flows: Flows | None = None
        self._rings = _make_rings(capacity, _GROWTH)
        self._severity = np.zeros(_GROWTH, dtype=np.int64)
        self._flow = np.zeros(_GROWTH, dtype=np.int64)
        self._first_seen_of: Integers = np.zeros(0, dtype=np.int64)
        """First sight by row; brought up to date when a scene is asked for."""
        self._flow_started = np.full(_FLOWS, _NEVER)
        self._events: dict[int, dict[int, list[int]]] = {}
        """Ids of first events, in order, by minute and row."""
        self._first_seen: dict[int, int] = {}
        self._started: dict[str, int] = {}
        self._compact_at = 4 * _GROWTH
        self.newest = -1
        """Newest minute that was put; -1 before the first."""

    def put(self, minute: int, counted: Iterable[Counted]) -> bool:
        """Sets what was counted in a minute; says whether that differs from what was known."""
        if minute <= self.newest - self._capacity:
            return False
        place = minute % self._capacity
        if self._rings.minutes[place] != minute:
            self._clear(place)
            self._rings.minutes[place] = minute
        rows: list[int] = []
        numbers: list[int] = []
        events: dict[int, list[int]] = {}
        for track, number, first_event in counted:
            row = self._row(track)
            rows.append(row)
            numbers.append(number)
            events.setdefault(row, []).append(first_event)
            if minute < self._first_seen.get(track.template, minute + 1):
                self._notice(track.template, minute)
            if minute < self._started.get(track.source, minute + 1):
                self._started[track.source] = minute
                for flow in [number for key, number in self._flow_numbers.items() if key[1] == track.source]:
                    self._flow_started[flow] = minute
        for found in events.values():
            found.sort()
        self._events[minute] = events
        changed = self._set(place, np.array(rows, dtype=np.int64), np.array(numbers, dtype=np.int64))
        if minute > self.newest:
            self.newest = minute
            for old in [known for known in self._events if known <= minute - EVENT_MINUTES]:
                del self._events[old]
            if len(self._tracks) >= self._compact_at:
                self._compact()
        return changed

    def learn_first_seen(self, minutes: Mapping[int, int]) -> None:
        """Tells in which minute templates were first seen, which may be longer ago than the ring remembers."""
        for template, minute in minutes.items():
            if minute < self._first_seen.get(template, minute + 1):
                self._notice(template, minute)

    def merge_templates(self, moved: Mapping[int, int]) -> None:
        """Follows a revision of the templates: `moved` maps a template to the one that has taken it in."""
        for track, row in list(self._rows.items()) if moved else ():
            target = moved.get(track.template)
            if target is None:
                continue
            del self._rows[track]
            self._first_seen_of = self._first_seen_of[:0]
            successor = track._replace(template=target)
            into = self._rows.get(successor)
            if into is None:
                self._rows[successor] = row
                self._tracks[row] = successor
                continue
            self._rings.counts[:, into] += self._rings.counts[:, row]
            self._rings.masked[:, into] |= self._rings.masked[:, row]
            self._rings.counts[:, row] = 0
            for events in self._events.values():
                if row in events:
                    events[into] = sorted([*events.get(into, ()), *events.pop(row)])
        for place in np.flatnonzero(self._rings.masks).tolist() if moved else ():
            self._add_up_masked(place)
        self.learn_first_seen({target: self._first_seen[template] for template, target in moved.items() if template in self._first_seen})

    def mask(self, tracks: Iterable[Track], first: int, last: int) -> None:
        """Keeps minutes of tracks out of the baseline."""
        rows = [row for track in tracks if (row := self._rows.get(track)) is not None]
        places = self._places(first, last)
        cells = (np.array(places, dtype=np.int64)[:, None], np.array(rows, dtype=np.int64))
        fresh = ~self._rings.masked[cells]
        if not fresh.any():
            return
        self._rings.masked[cells] = True
        self._rings.masks[places] = True
        for number in np.flatnonzero((fresh & (self._rings.counts[cells] > 0)).any(axis=1)).tolist():
            self._add_up_masked(places[number])

    def scene(self, minute: int) -> Scene:
        """Returns what can be seen at a minute. It is good until the next change of the history."""
        rows = len(self._tracks)
        known = len(self._first_seen_of)
        if known < rows:
            new = [self._first_seen.get(track.template, _NEVER) for track in self._tracks[known:]]
            self._first_seen_of = np.concatenate([self._first_seen_of, np.array(new, dtype=np.int64)])
        if self._flows is None:
            self._flows = Flows(list(self._flow_numbers))
        flows = len(self._flow_numbers)
        rings = self._rings._replace(**{name: getattr(self._rings, name)[:, :flows] for name in _FLOW_RINGS})
        return Scene(minute, rings, self._tracks, self._severity[:rows], self._flow[:rows], self._first_seen_of, self._flows, self._flow_started[:flows])

    def events_of(self, tracks: Iterable[Track], first: int, last: int) -> list[tuple[int, Track, int]]:
        """Returns (minute, track, id of the first event there) for tracks in a range of minutes, in order of time."""
        rows = {self._rows[track]: track for track in tracks if track in self._rows}
        return [
            (minute, rows[row], event)
            for minute in range(first, last + 1)
            if minute in self._events
            for row in sorted(rows.keys() & self._events[minute].keys())
            for event in self._events[minute][row]
        ]

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
        minutes = self._rings.minutes
        return int(minutes[minutes >= 0].min(initial=max(self.newest, 0)))

    def first_events(self, minute: int) -> list[int]:
        """Returns the ids of the first events of all tracks in a minute, oldest block first."""
        return sorted(event for events in self._events.get(minute, {}).values() for event in events)

    def count(self, tracks: Iterable[Track], first: int, last: int) -> int:
        """Returns the events of tracks in a range of minutes."""
        rows = [row for track in tracks if (row := self._rows.get(track)) is not None]
        places = self._places(first, last)
        return int(self._rings.counts[np.ix_(places, rows)].sum()) if rows and places else 0

    def counts_by_minute(self, tracks: Iterable[Track], first: int, last: int) -> list[int]:
        """Returns the events of tracks in each minute of a range."""
        rows = [row for track in tracks if (row := self._rows.get(track)) is not None]
        span = np.arange(first, last + 1)
        places = span % self._capacity
        present = self._rings.minutes[places] == span
        counts = self._rings.counts[places[:, None], np.array(rows, dtype=np.int64)].sum(axis=1)
        return [int(number) for number in np.where(present, counts, 0)]

    def _places(self, first: int, last: int) -> list[int]:
        """Returns where the minutes of a range stand; those that were not put are left out."""
        return [minute % self._capacity for minute in range(first, last + 1) if self._rings.minutes[minute % self._capacity] == minute]

    def _notice(self, template: int, minute: int) -> None:
        if template in self._first_seen:
            self._first_seen_of = self._first_seen_of[:0]
        self._first_seen[template] = minute

    def _clear(self, place: int) -> None:
        for ring in self._rings:
            ring[place] = 0

    def _set(self, place: int, rows: Integers, numbers: Integers) -> bool:
        """Sets the counts of a minute and their sums; says whether they differ from what they were."""
        rings = self._rings
        column = np.bincount(rows, weights=numbers, minlength=rings.counts.shape[1]).astype(np.int32)
        if (column == rings.counts[place]).all():
            return False
        rings.counts[place] = column
        self._add_up(place)
        return True

    def _add_up(self, place: int) -> None:
        rings, known = self._rings, len(self._tracks)
        column, flow = rings.counts[place, :known], self._flow[:known]
        errors = self._severity[:known] >= ERROR
        rings.flow_events[place] = np.bincount(flow, weights=column, minlength=rings.flow_events.shape[1])
        rings.flow_errors[place] = np.bincount(flow[errors], weights=column[errors], minlength=rings.flow_errors.shape[1])
        rings.totals[place] = column.sum()
        if rings.masks[place]:
            self._add_up_masked(place)

    def _add_up_masked(self, place: int) -> None:
        rings = self._rings
        rows = np.flatnonzero(rings.masked[place, : len(self._tracks)])
        rings.flow_masked[place] = np.bincount(self._flow[rows], weights=rings.counts[place, rows], minlength=rings.flow_masked.shape[1])

    def _compact(self) -> None:
        """Forgets tracks without a count in sight: texts that never repeat must not fill the memory."""
        kept = np.flatnonzero(self._rings.counts[:, : len(self._tracks)].any(axis=0)).tolist()
        place = {row: number for number, row in enumerate(kept)}
        old, tracks = self._rings, [self._tracks[row] for row in kept]
        self._rows, self._tracks, self._flow_numbers, self._flows = {}, [], {}, None
        self._first_seen_of = self._first_seen_of[:0]
        self._flow_started = np.full(_FLOWS, _NEVER)
        self._rings = _make_rings(self._capacity, _GROWTH * (len(kept) // _GROWTH + 1))
        for track in tracks:
            self._row(track)
        self._rings.minutes[:], self._rings.masks[:] = old.minutes, old.masks
        self._rings.counts[:, : len(kept)], self._rings.masked[:, : len(kept)] = old.counts[:, kept], old.masked[:, kept]
        for number in range(self._capacity):
            self._add_up(number)
        self._events = {minute: {place[row]: events for row, events in found.items() if row in place} for minute, found in self._events.items()}
        if len(self._first_seen) > MAX_FIRST_SEEN:
            # The oldest are worth most: a text that comes again after weeks is no news.
            oldest = sorted(self._first_seen.items(), key=lambda item: item[1])[: MAX_FIRST_SEEN // 2]
            self._first_seen = dict(oldest)
        self._compact_at = max(4 * _GROWTH, 2 * len(kept))

    def _row(self, track: Track) -> int:
        row = self._rows.get(track)
        if row is None:
            row = len(self._tracks)
            if row == len(self._severity):
                self._severity, self._flow = (np.concatenate([values, np.zeros(_GROWTH, dtype=np.int64)]) for values in (self._severity, self._flow))
            if row == self._rings.counts.shape[1]:
                self._rings = self._rings._replace(counts=_widen(self._rings.counts, _GROWTH), masked=_widen(self._rings.masked, _GROWTH))
            self._rows[track] = row
            self._tracks.append(track)
            self._severity[row] = track.severity
            self._flow[row] = self._flow_number(track)
        return row

    def _flow_number(self, track: Track) -> int:
        key = (track.system, track.source, track.service)
        number = self._flow_numbers.get(key)
        if number is None:
            number = self._flow_numbers[key] = len(self._flow_numbers)
            self._flows = None
            if number == self._rings.flow_events.shape[1]:
                self._rings = self._rings._replace(**{name: _widen(getattr(self._rings, name), _FLOWS) for name in _FLOW_RINGS})
                self._flow_started = np.concatenate([self._flow_started, np.full(_FLOWS, _NEVER)])
            self._flow_started[number] = self._started.get(track.source, _NEVER)
        return number


def _make_rings(capacity: int, rows: int) -> Rings:
    return Rings(
        minutes=np.full(capacity, -1, dtype=np.int64),
        totals=np.zeros(capacity, dtype=np.int64),
        counts=np.zeros((capacity, rows), dtype=np.int32),
        masked=np.full((capacity, rows), False),
        masks=np.full(capacity, False),
        flow_events=np.zeros((capacity, _FLOWS)),
        flow_errors=np.zeros((capacity, _FLOWS)),
        flow_masked=np.zeros((capacity, _FLOWS)),
    )


def _widen(ring: NDArray[Any], columns: int) -> NDArray[Any]:
    return np.hstack([ring, np.zeros((len(ring), columns), dtype=ring.dtype)])
