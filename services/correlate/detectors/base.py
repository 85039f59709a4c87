"""What a detector is, what it says, and what all of them need: baselines of rows of counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from services.correlate.baselines import Floats, decay, dispersion, surprise_above
from services.correlate.scene import ERROR, Flags, Integers, Scene, Track

LOOK_BACK = 5
GUARD = 2
"""Minutes before a window that are neither window nor baseline: a slow beginning must not become normal."""


@dataclass(frozen=True, slots=True)
class Observation:
    """Something unusual in a window of minutes (both ends included)."""

    detector: str
    system: str
    source: str
    service: str
    template: int | None
    severity: int
    """Highest severity among the tracks."""
    first: int
    last: int
    expected: float
    observed: float
    surprise: float
    """-log10 of the chance of something like it."""
    weight: float
    """How much a finding of this kind means, 0 to 1."""
    baseline: str
    summary: str
    tracks: tuple[Track, ...]
    """What it is about, where the evidence is."""

    @property
    def is_error(self) -> bool:
        """Whether errors were counted."""
        return self.severity >= ERROR


class Detector(Protocol):
    """Looks at a scene and says what is unusual in its newest minutes. Holds no state between calls."""

    name: str

    def examine(self, scene: Scene) -> list[Observation]:
        """Returns what is unusual; nothing when the history is too short to know."""
        ...


class Baseline:
    """What rows of counts did before a window."""

    def __init__(self, scene: Scene, counts: Floats, masked: Flags | None, started: Integers, window: int, half_life: float) -> None:
        """Measures rows x columns; `masked` cells and those before the column in which a row `started` say nothing."""
        usable = usable_columns(scene, window)
        weights = decay(scene.ages, half_life) * usable
        self._usable = usable
        # Nothing was counted before a row started, so that only lengths have to leave these minutes out.
        self._counts = counts if masked is None else np.where(masked, 0.0, counts)
        self.seen: Floats = self._counts @ weights
        """Weighted events."""
        self.minutes: Floats = _sum_from(weights, started)
        """Weighted minutes."""
        self.span: Integers = _sum_from(usable.astype(np.int64), started)
        """Minutes, unweighted."""
        if masked is not None and masked.any():
            within = masked & (np.arange(scene.length) >= started[:, None])
            self.minutes = self.minutes - within @ weights
            self.span = self.span - (within & usable).sum(axis=1)

    def rate(self, row: int) -> float:
        """Returns events per minute."""
        return float(self.seen[row] / self.minutes[row]) if self.minutes[row] else 0.0

    def rates(self) -> Floats:
        """Returns events per minute, by row."""
        rates: Floats = np.divide(self.seen, self.minutes, out=np.zeros(len(self.seen)), where=self.minutes != 0)
        return rates

    def active(self) -> Floats:
        """Returns the share of the minutes that had any, by row."""
        hit = ((self._counts > 0) & self._usable).sum(axis=1)
        share: Floats = np.divide(hit, self.span, out=np.zeros(len(hit)), where=self.span > 0)
        return share

    def spread(self, row: int) -> float:
        """Returns variance / mean of a row."""
        return dispersion(self._counts[row, self._usable])


def usable_columns(scene: Scene, window: int) -> Flags:
    """Says which columns lie before a window of the newest minutes, and had anything recorded."""
    return scene.recorded & (scene.ages >= window + GUARD)


def count_tests(scene: Scene, windows: Sequence[int], least: int) -> int:
    """Returns how many tracks have at least so many columns of baseline, before the window with the most such tracks."""
    return max(int((_count_usable(scene, window) >= least).sum()) for window in windows if scene.length > window)


def _count_usable(scene: Scene, window: int) -> Integers:
    """Returns for each track how many columns before a window can be its baseline."""
    usable = usable_columns(scene, window)
    rows, columns = scene.masked_cells
    left_out = usable[columns] & (columns >= scene.started[rows])
    return _sum_from(usable.astype(np.int64), scene.started) - np.bincount(rows[left_out], minlength=len(scene.tracks))


def _sum_from(values: NDArray[Any], columns: Integers) -> NDArray[Any]:
    """Returns the sums of what stands in each of some columns and behind it."""
    return np.append(np.cumsum(values[::-1])[::-1], 0)[np.minimum(columns, len(values))]


def surprise_of(baseline: Baseline, row: int, observed: float, window: int, least_spread: float, volume: float = 1.0) -> float:
    """Returns how surprising a count is; `volume` is how much more than usual there was to go wrong."""
    spread = max(least_spread, baseline.spread(row))
    return surprise_above(observed, window, float(baseline.seen[row]) * volume, float(baseline.minutes[row]), spread)


def find_begin(counts: Floats, window: int, rate: float) -> int:
    """Returns how many minutes ago (0: the newest) what is seen in a window of the newest minutes began, at most LOOK_BACK before it."""
    begin = window - 1
    for age in range(window, min(window + LOOK_BACK, len(counts))):
        if counts[-1 - age] <= 2 * rate + 1:
            break
        begin = age
    return begin


def count_text(number: float) -> str:
    """Returns a count as people read it."""
    return f"{number:,.0f}" if number >= 10 or number == int(number) else f"{number:.1f}"


def rate_text(per_minute: float, minutes: int) -> str:
    """Describes a baseline."""
    rate = f"{per_minute:,.0f}" if per_minute >= 10 else f"{per_minute:.2g}"
    return f"{rate} per minute over {minutes} minutes"
