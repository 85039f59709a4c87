"""Buckets of histograms and sparklines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import InvalidArgument
from services.search.conditions import Everything
from services.search.engine import DAY, MILLISECOND
from services.search.selection import Selection
from services.search.steps import MAX_BUCKETS, WANTED_BUCKETS, align, check_interval, choose_interval, divide

SECOND = 1000 * MILLISECOND


def over(start: int, end: int) -> Selection:
    return Selection(start, end, Everything())


@pytest.mark.parametrize(
    ("span", "interval"), [(1, MILLISECOND), (3600 * SECOND, 60 * SECOND), (86_400 * SECOND, 1800 * SECOND), (30 * DAY, DAY // 2), (100 * 365 * DAY, 730 * DAY)]
)
def test_intervals_are_readable(span: int, interval: int) -> None:
    assert choose_interval(span) == interval


@given(st.integers(-(2**62), 2**62), st.integers(1, 2**62))
def test_buckets_cover_the_range_from_multiples_of_the_interval(start: int, span: int) -> None:
    grid = align(over(start, start + span), 0)
    assert grid.origin % grid.width == 0
    assert grid.origin <= start < grid.origin + grid.width
    assert grid.end - grid.width < start + span <= grid.end
    assert grid.count <= WANTED_BUCKETS + 1


@given(st.integers(-(2**62), 2**62), st.integers(1, 2**62), st.integers(1, 100))
def test_sparklines_have_as_many_points_as_asked_for(start: int, span: int, points: int) -> None:
    grid = divide(over(start, start + span), points)
    assert grid.count == points
    assert grid.origin <= start
    assert start + span <= grid.end
    assert grid.origin % MILLISECOND == grid.width % MILLISECOND == 0


def test_bad_intervals_are_refused() -> None:
    for interval in (-MILLISECOND, MILLISECOND + 1):
        with pytest.raises(InvalidArgument, match="whole number of milliseconds"):
            check_interval(interval)
    assert align(over(0, MAX_BUCKETS * SECOND), SECOND).count == MAX_BUCKETS
    with pytest.raises(InvalidArgument, match="choose a longer interval"):
        align(over(0, MAX_BUCKETS * SECOND + 1), SECOND)
