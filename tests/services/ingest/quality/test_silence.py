"""How long a source may be quiet."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.quality.silence import LEAST_HEARD, LEAST_WAIT, allowed_wait

DAY = 24 * 60


def hours_of(minutes: Iterable[int]) -> list[tuple[int, int]]:
    """Returns minutes since 1970 as hours with bits."""
    masks: dict[int, int] = {}
    for minute in minutes:
        masks[minute // 60] = masks.get(minute // 60, 0) | 1 << minute % 60
    return sorted(masks.items())


@pytest.mark.parametrize(
    ("minutes", "allowed"),
    [
        (range(1_000, 1_030), 5),
        (range(0, 3 * DAY, 10), 30),
        (range(0, 10 * DAY, 60), 180),
        (range(7, 10 * DAY, DAY), 36 * 60),
        ([day * DAY + minute for day in range(10) for minute in range(8 * 60, 18 * 60)], (14 * 60 + 1) + 720),
    ],
    ids=["every minute", "every ten minutes", "hourly", "daily", "by day only"],
)
def test_a_regular_source_may_be_quiet_a_little_longer_than_usual(minutes: Iterable[int], allowed: int) -> None:
    assert allowed_wait(hours_of(minutes)) == allowed


@pytest.mark.parametrize("minutes", [[], [5], [5, 6, 7], range(5, 12), [0, DAY, 2 * DAY]], ids=["never", "once", "for three minutes", "briefly", "three days"])
def test_what_is_not_regular_is_never_silent(minutes: Iterable[int]) -> None:
    assert allowed_wait(hours_of(minutes)) is None


def test_one_disturbance_does_not_become_the_rule() -> None:
    minutes = [minute for minute in range(2 * DAY) if not 600 <= minute < 900]
    assert allowed_wait(hours_of(minutes)) == LEAST_WAIT


@given(st.sets(st.integers(0, 5 * DAY), max_size=60))
def test_any_minutes_give_a_wait_that_they_themselves_keep(minutes: set[int]) -> None:
    heard = sorted(minutes)
    allowed = allowed_wait(hours_of(heard))
    if allowed is None:
        return
    assert len(heard) >= LEAST_HEARD
    assert allowed >= LEAST_WAIT
    assert 3 * allowed <= heard[-1] - heard[0]
    long_gaps = sorted(later - earlier for earlier, later in pairwise(heard) if later - earlier > 60)
    assert len(long_gaps) < 2 or allowed > long_gaps[-2]
