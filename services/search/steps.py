"""Steps of time for histograms and sparklines."""

from __future__ import annotations

from kit.errors import InvalidArgument
from services.search.engine import DAY, MILLISECOND, Grid
from services.search.selection import OPEN_END, OPEN_START, Selection

MAX_BUCKETS = 2000
WANTED_BUCKETS = 60
_SECOND = 1000 * MILLISECOND
_MINUTE = 60 * _SECOND
_HOUR = 60 * _MINUTE
STEPS = (
    *(n * MILLISECOND for n in (1, 2, 5, 10, 20, 50, 100, 200, 500)),
    *(n * _SECOND for n in (1, 2, 5, 10, 15, 30)),
    *(n * _MINUTE for n in (1, 2, 5, 10, 15, 30)),
    *(n * _HOUR for n in (1, 2, 3, 6, 12)),
    *(n * DAY for n in (1, 2, 7, 14, 30, 90, 365)),
)
"""Widths that people read easily, nanoseconds."""


def is_open(selection: Selection) -> bool:
    """Says whether a selection lacks a start or an end."""
    return selection.start == OPEN_START or selection.end == OPEN_END


def close_range(selection: Selection, extent: tuple[int, int]) -> Selection:
    """Returns a selection whose open ends are those of the events in it."""
    start = extent[0] if selection.start == OPEN_START else selection.start
    end = extent[1] + 1 if selection.end == OPEN_END else selection.end
    return Selection(start, max(end, start + 1), selection.condition)


def choose_interval(span: int) -> int:
    """Returns the narrowest readable step that cuts a span into at most about 60 buckets."""
    for step in STEPS:
        if step * WANTED_BUCKETS >= span:
            return step
    years = 365 * DAY
    return -(-span // (WANTED_BUCKETS * years)) * years


def check_interval(interval: int) -> None:
    """Raises InvalidArgument when an interval cannot be that of a histogram."""
    if interval < 0 or interval % MILLISECOND:
        raise InvalidArgument(f"an interval is a whole number of milliseconds, not {interval} ns")


def align(selection: Selection, interval: int) -> Grid:
    """Returns buckets over a closed selection that start at multiples of the interval since 1970; 0 chooses one."""
    width = interval or choose_interval(selection.end - selection.start)
    origin = selection.start // width * width
    count = -(-(selection.end - origin) // width)
    if count > MAX_BUCKETS:
        raise InvalidArgument(f"the range has {count} intervals of {width} ns; at most {MAX_BUCKETS} are given: choose a longer interval")
    return Grid(origin, width, count)


def divide(selection: Selection, points: int) -> Grid:
    """Returns a number of equal steps that cover a closed selection."""
    origin = selection.start // MILLISECOND * MILLISECOND
    width = -(-(selection.end - origin) // (points * MILLISECOND)) * MILLISECOND
    return Grid(origin, width, points)
