"""How a number of measured times spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and 99th percentile of `count` times, milliseconds."""

    count: int
    p50: float
    p99: float


def spread_of(seconds: Sequence[float]) -> Spread:
    """Returns the spread of times given in seconds."""
    ordered = sorted(seconds)
    return Spread(len(ordered), *(1e3 * ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))] for share in (0.5, 0.99)))
