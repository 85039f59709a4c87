"""The scene: what a detector sees of the recent past. Reads the rings of a history; nothing of it is copied before it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.correlate.baselines import Floats

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

WARNING = 13
ERROR = 17
"""Severity numbers of OpenTelemetry from which an event is a warning or an error."""
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


FlowKey = tuple[str, str, str]
"""System, source and service: the tracks that share them are a flow."""


class Groups:
    """Flows that belong together, in the order of their keys."""

    def __init__(self, flows: Sequence[FlowKey], key: Callable[[FlowKey], tuple[str, ...]]) -> None:
        keys = [key(flow) for flow in flows]
        self.keys: list[tuple[str, ...]] = sorted(set(keys))
        place = {found: number for number, found in enumerate(self.keys)}
        self.of_flow: Integers = np.array([place[found] for found in keys], dtype=np.int64)
        """Group of each flow."""

    def add_up(self, values: Floats) -> Floats:
        """Returns the sum of each group of one value per flow."""
        sums = np.zeros(len(self.keys))
        np.add.at(sums, self.of_flow, values)
        return sums

    def earliest(self, values: Integers) -> Integers:
        """Returns the smallest value of each group."""
        least = np.full(len(self.keys), np.iinfo(np.int64).max)
        np.minimum.at(least, self.of_flow, values)
        return least

    def rows(self, groups: Integers, values: Floats) -> Floats:
        """Returns groups x columns: the sums of flows x columns for some of the groups, in rising order."""
        flows = np.flatnonzero(np.isin(self.of_flow, groups))
        flows = flows[np.argsort(self.of_flow[flows], kind="stable")]
        starts = np.searchsorted(self.of_flow[flows], groups)
        sums: Floats = np.add.reduceat(values[flows], starts, axis=0)
        return sums

    def members(self, group: int) -> Integers:
        """Returns the flows of a group."""
        return np.flatnonzero(self.of_flow == group)


class Flows:
    """All flows, and how they group. Made anew when a flow is added."""

    def __init__(self, keys: Sequence[FlowKey]) -> None:
        self.keys = list(keys)

    @cached_property
    def services(self) -> Groups:
        """By (system, service), or source where events name no service."""
        return Groups(self.keys, lambda key: (key[0], key[2] or key[1]))

    @cached_property
    def sources(self) -> Groups:
        """By (system, source)."""
        return Groups(self.keys, lambda key: key[:2])


class Rings(NamedTuple):
    """What a history has counted: minutes x tracks, minutes x flows. A minute stands at its remainder."""

    minutes: Integers
    """Which minute stands at each place; -1 for none."""
    totals: Integers
    """Events of each minute."""
    counts: NDArray[np.int32]
    masked: Flags
    """Which cells are known to be unusual and must not serve as a baseline."""
    masks: Flags
    """For which places any cell is masked."""
    flow_events: Floats
    flow_errors: Floats
    flow_masked: Floats
    """Events in masked cells."""


class Scene:
    """The counts up to a minute, and what of them is a baseline.

    Columns are minutes, the last one under judgement. `recorded` says for which minutes anything was recorded at all.
    Rows are tracks, or flows where a method says so.
    """

    def __init__(
        self, minute: int, rings: Rings, tracks: Sequence[Track], severity: Integers, flow: Integers, first_seen: Integers, flows: Flows, flow_started: Integers
    ) -> None:
        capacity = len(rings.minutes)
        known = rings.minutes[(rings.minutes >= 0) & (rings.minutes <= minute) & (rings.minutes > minute - capacity)]
        first = int(known.min()) if len(known) else minute
        span = np.arange(first, minute + 1)
        self._rings = rings
        self._places = span % capacity
        self._present = rings.minutes[self._places] == span
        self.minute = minute
        self.length = len(span)
        """Minutes in sight, including the one under judgement."""
        self.tracks = tracks
        self.severity = severity
        """Per track."""
        self.flow = flow
        """Per track: its flow."""
        self.first_seen = first_seen
        """Per track: minute in which its template was first seen anywhere."""
        self.flows = flows
        self.flow_started: Integers = np.maximum(0, np.minimum(flow_started, minute) - first)
        """Per flow: column in which its source was first heard."""
        self.recorded: Flags = self._present & (rings.totals[self._places] > 0)
        self.totals: Integers = np.where(self._present, rings.totals[self._places], 0)
        """Events of each minute."""
        self._windows: dict[int, Integers] = {}

    @cached_property
    def started(self) -> Integers:
        """Per track: column in which its source was first heard."""
        return self.flow_started[self.flow]

    @cached_property
    def ages(self) -> Floats:
        """Minutes before the one under judgement, by column."""
        return np.arange(self.length - 1, -1, -1, dtype=np.float64)

    def window(self, minutes: int) -> Integers:
        """Returns the events of each track in so many of the newest minutes."""
        if minutes not in self._windows:
            self._windows[minutes] = self._rings.counts[self._newest(minutes), : len(self.tracks)].sum(axis=0, dtype=np.int64)
        return self._windows[minutes]

    def flow_window(self, minutes: int, *, errors: bool = False) -> Floats:
        """Returns the events, or only the errors, of each flow in so many of the newest minutes."""
        ring = self._rings.flow_errors if errors else self._rings.flow_events
        sums: Floats = ring[self._newest(minutes)].sum(axis=0)
        return sums

    @cached_property
    def flow_masked(self) -> Floats:
        """Events that are known to be unusual, flows x columns."""
        counts = np.ascontiguousarray(self._rings.flow_masked[self._places].T)
        counts[:, ~self._present | (self.ages >= MASK_MINUTES)] = 0.0
        return counts

    def rows_of(self, flows: Sequence[int]) -> Integers:
        """Returns the tracks of some flows, in rising order."""
        order, flow = self._by_flow
        parts = [order[np.searchsorted(flow, number) : np.searchsorted(flow, number, "right")] for number in flows]
        return np.sort(np.concatenate(parts)) if len(parts) != 1 else parts[0]

    @cached_property
    def _by_flow(self) -> tuple[Integers, Integers]:
        order = np.argsort(self.flow, kind="stable")
        return order, self.flow[order]

    def counts(self, rows: Integers) -> Floats:
        """Returns tracks x columns for some of the tracks."""
        counts = self._rings.counts[self._places[:, None], rows].T.astype(np.float64, order="C")
        counts[:, ~self._present] = 0.0
        return counts

    @cached_property
    def flow_events(self) -> Floats:
        """Events, flows x columns."""
        counts = np.ascontiguousarray(self._rings.flow_events[self._places].T)
        counts[:, ~self._present] = 0.0
        return counts

    @cached_property
    def flow_errors(self) -> Floats:
        """The errors among them."""
        counts = np.ascontiguousarray(self._rings.flow_errors[self._places].T)
        counts[:, ~self._present] = 0.0
        return counts

    def masked(self, rows: Integers) -> Flags:
        """Returns for some of the tracks which columns are no baseline."""
        masked = np.full((len(rows), self.length), False)
        for column in self._masked_columns:
            masked[:, column] = self._rings.masked[self._places[column], rows]
        return masked

    @cached_property
    def masked_cells(self) -> tuple[Integers, Integers]:
        """The cells that are no baseline, as tracks and columns."""
        columns = self._masked_columns
        place, rows = np.nonzero(self._rings.masked[self._places[columns], : len(self.tracks)])
        return rows, columns[place]

    def counts_at(self, rows: Integers, columns: Integers) -> Integers:
        """Returns the counts of single cells; 0 outside of the scene."""
        inside = (columns >= 0) & (columns < self.length)
        columns = np.where(inside, columns, 0)
        counts: Integers = self._rings.counts[self._places[columns], rows].astype(np.int64)
        counts[~(inside & self._present[columns])] = 0
        return counts

    @cached_property
    def _masked_columns(self) -> Integers:
        recent = self._present & (self.ages < MASK_MINUTES)
        return np.flatnonzero(recent & self._rings.masks[self._places])

    def _newest(self, minutes: int) -> Integers:
        newest: Integers = self._places[-minutes:][self._present[-minutes:]]
        return newest
