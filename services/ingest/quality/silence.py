"""Silence: how long a source may be quiet, learned from the minutes in which it was heard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

LEAST_WAIT: Final = 5
"""Minutes that any source may be quiet."""
FACTOR: Final = 3
"""A source may be quiet for so many times its usual gap,"""
MOST_EXTRA: Final = 720
"""but not for more minutes beyond it than these."""
LEAST_HEARD: Final = 4
"""Minutes in which a source must have been heard: what came once or twice is not expected again."""
MANY_GAPS: Final = 8
"""From so many gaps on the longest one is taken for a disturbance, and the second longest for what is usual."""
PERIODS: Final = 3
"""A source must be known for so many times what it may be quiet."""
_ALL: Final = (1 << 60) - 1


def allowed_wait(hours: Sequence[tuple[int, int]]) -> int | None:
    """Returns the minutes after which a source is silent; None when it is not regular enough to say.

    `hours` are the hours in which it was heard, ascending, each as its number since 1970 and its minutes as bits (bit 0: the first).
    """
    gaps: list[int] = []
    heard, first, last = 0, None, 0
    for hour, minutes in hours:
        if minutes <= 0:
            continue
        begin = hour * 60 + (minutes & -minutes).bit_length() - 1
        if first is None:
            first = begin
        else:
            gaps.append(begin - last)
        if minutes == _ALL:
            gaps.append(1)
        elif minutes & (minutes - 1):
            # One more than the longest run of zeros between two ones.
            gaps.append(max(map(len, f"{minutes:b}".strip("0").split("1"))) + 1)
        last = hour * 60 + minutes.bit_length() - 1
        heard += minutes.bit_count()
    if first is None or heard < LEAST_HEARD:
        return None
    gaps.sort(reverse=True)
    usual = gaps[1] if len(gaps) >= MANY_GAPS else gaps[0]
    allowed = max(LEAST_WAIT, min(FACTOR * usual, usual + MOST_EXTRA))
    return allowed if last - first >= PERIODS * allowed else None
