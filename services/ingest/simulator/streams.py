"""Streams: things that happen in the landscape at random, at fixed times, or on a beat."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Generic, Protocol, TypeVar

from services.ingest.simulator.stamps import SECOND

T = TypeVar("T")

Happening = Callable[[int], None]
"""Emits what happens at a time (nanoseconds since 1970)."""
Intensity = Callable[[float], float]
"""Factor on a rate at a number of seconds after the start of the story."""


def pick(rng: Random, choices: Sequence[T]) -> T:
    """Returns one of the choices, all equally likely (several times faster than `Random.choice`)."""
    return choices[int(rng.random() * len(choices))]


class Mix(Generic[T]):
    """Choices with weights."""

    def __init__(self, *choices: tuple[float, T]) -> None:
        self._values = [value for _, value in choices]
        self._bounds = list(accumulate(weight for weight, _ in choices))

    def draw(self, rng: Random) -> T:
        """Returns one of the choices, as likely as its weight."""
        return self._values[bisect_right(self._bounds, rng.random() * self._bounds[-1])]


@dataclass(frozen=True, slots=True)
class Ramp:
    """Rises from 0 at `start` (second of the story) to `peak` within `rise` seconds, and stays there."""

    start: float
    rise: float
    peak: float = 1.0

    def __call__(self, second: float) -> float:
        """Returns the height at a second of the story."""
        if second < self.start:
            return 0.0
        if second >= self.start + self.rise:
            return self.peak
        return self.peak * (second - self.start) / self.rise


class Stream(Protocol):
    """Something that happens; called once for each second of the story, in order."""

    def play(self, second: int, base_ns: int) -> None:
        """Emits what happens in the second that begins at `base_ns`."""
        ...


class Arrivals:
    """A Poisson process whose rate may change from second to second."""

    def __init__(self, rng: Random, per_second: float, intensity: Intensity, happening: Happening) -> None:
        self._rng = rng
        self._per_second = per_second
        self._intensity = intensity
        self._happening = happening
        # What is left of an exponential waiting time of mean 1; a rate of r uses it up r times faster.
        self._wait = rng.expovariate(1.0)

    def play(self, second: int, base_ns: int) -> None:
        """Emits what happens in the second that begins at `base_ns`."""
        rate = self._per_second * self._intensity(second + 0.5)
        if rate <= 0.0:
            return
        at = self._wait / rate
        while at < 1.0:
            self._happening(base_ns + int(at * SECOND))
            at += self._rng.expovariate(rate)
        self._wait = (at - 1.0) * rate


class Schedule:
    """Things that happen once, at given seconds of the story."""

    def __init__(self, *entries: tuple[float, Happening]) -> None:
        self._entries = sorted(entries, key=lambda entry: entry[0], reverse=True)

    def play(self, second: int, base_ns: int) -> None:
        """Emits what happens in the second that begins at `base_ns`."""
        while self._entries and self._entries[-1][0] < second + 1:
            at, happening = self._entries.pop()
            happening(base_ns + int(max(at - second, 0.0) * SECOND))


class Beat:
    """Something that happens every `period` seconds, a little late each time."""

    def __init__(self, rng: Random, period: float, jitter: float, happening: Happening) -> None:
        self._rng = rng
        self._period = period
        self._jitter = jitter
        self._happening = happening
        self._tick = rng.random() * period

    def play(self, second: int, base_ns: int) -> None:
        """Emits what happens in the second that begins at `base_ns`."""
        while self._tick < second + 1:
            late = self._rng.random() * self._jitter
            self._happening(base_ns + int((self._tick - second + late) * SECOND))
            self._tick += self._period
