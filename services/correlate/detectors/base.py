"""What a detector is, what it says, and what all of them need: baselines of rows of counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.correlate.baselines import Floats, decay, dispersion, surprise_above
from services.correlate.history import Scene, Track

WARNING = 13
ERROR = 17
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


@dataclass(frozen=True, slots=True)
class Baseline:
    """What rows of counts did before a window."""

    seen: Floats
    """Weighted events."""
    minutes: Floats
    """Weighted minutes."""
    spread: Floats
    """Variance / mean."""
    active: Floats
    """Share of the minutes that had any."""
    span: NDArray[np.int64]
    """Minutes, unweighted."""

    def rate(self, row: int) -> float:
        """Returns events per minute."""
        return float(self.seen[row] / self.minutes[row]) if self.minutes[row] else 0.0


def measure_baseline(scene: Scene, counts: Floats, masked: NDArray[np.bool_], started: NDArray[np.int64], window: int, half_life: float) -> Baseline:
    """Measures rows of counts over what lies before a window of the newest minutes."""
    ages = scene.ages()
    usable = scene.recorded & (ages >= window + GUARD)
    columns = np.arange(scene.length)
    cells = usable[None, :] & ~masked & (columns[None, :] >= started[:, None])
    weights = decay(ages, half_life)[None, :] * cells
    span = cells.sum(axis=1)
    return Baseline(
        seen=(counts * weights).sum(axis=1),
        minutes=weights.sum(axis=1),
        spread=dispersion(np.where(cells, counts, 0.0), usable.astype(np.float64)),
        active=np.divide(((counts > 0) & cells).sum(axis=1), span, out=np.zeros(len(counts)), where=span > 0),
        span=span,
    )


def surprise_of(baseline: Baseline, row: int, observed: float, window: int, least_spread: float, volume: float = 1.0) -> float:
    """Returns how surprising a count is; `volume` is how much more than usual there was to go wrong."""
    spread = max(least_spread, float(baseline.spread[row]))
    return surprise_above(observed, window, float(baseline.seen[row]) * volume, float(baseline.minutes[row]), spread)


def find_begin(counts: Floats, window: int, rate: float) -> int:
    """Returns how many minutes ago (0: the newest) what is seen in a window of the newest minutes began, at most LOOK_BACK before it."""
    begin = window - 1
    for age in range(window, min(window + LOOK_BACK, len(counts))):
        if counts[-1 - age] <= 2 * rate + 1:
            break
        begin = age
    return begin


def group_rows(keys: Sequence[tuple[str, ...]], counts: Floats) -> tuple[list[tuple[str, ...]], NDArray[np.int64], Floats]:
    """Adds up the rows of each key; returns the keys, the group of each row, and the sums."""
    distinct = sorted(set(keys))
    place = {key: number for number, key in enumerate(distinct)}
    group = np.array([place[key] for key in keys], dtype=np.int64)
    sums = np.zeros((len(distinct), counts.shape[1]))
    np.add.at(sums, group, counts)
    return distinct, group, sums


def earliest(values: NDArray[np.int64], group: NDArray[np.int64], groups: int) -> NDArray[np.int64]:
    """Returns the smallest value of each group."""
    least = np.full(groups, np.iinfo(np.int64).max)
    np.minimum.at(least, group, values)
    return least


def count_text(number: float) -> str:
    """Returns a count as people read it."""
    return f"{number:,.0f}" if number >= 10 or number == int(number) else f"{number:.1f}"


def rate_text(per_minute: float, minutes: int) -> str:
    """Describes a baseline."""
    rate = f"{per_minute:,.0f}" if per_minute >= 10 else f"{per_minute:.2g}"
    return f"{rate} per minute over {minutes} minutes"
