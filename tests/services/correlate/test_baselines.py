"""The one test behind the detectors is exact, careful with short histories, and bounds what it believes."""

from __future__ import annotations

from math import exp, lgamma, log, log10

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.correlate.baselines import PRIOR_SHAPE, discover, dispersion, surprise_above, surprise_below, to_score


def summed_tail(observed: int, minutes: float, seen: float, history: float) -> float:
    """-log10 P(X >= observed), summed term by term."""
    shape, share = seen + PRIOR_SHAPE, history / (history + minutes)

    def term(count: int) -> float:
        return exp(lgamma(count + shape) - lgamma(shape) - lgamma(count + 1) + shape * log(share) + count * log(1 - share))

    return -log10(sum(term(count) for count in range(observed, observed + 5000)))


@pytest.mark.parametrize("case", [(1, 1, 0, 25), (5, 1, 0, 25), (20, 1, 100, 25), (20, 3, 1, 25), (500, 1, 5000, 30)])
def test_surprise_is_the_tail_of_the_negative_binomial(case: tuple[int, int, int, int]) -> None:
    assert surprise_above(*case) == pytest.approx(summed_tail(*case), rel=1e-6)


@given(st.integers(0, 2000), st.integers(1, 10), st.floats(0, 1e5), st.integers(1, 1000), st.floats(1, 50))
def test_surprise_is_never_negative_and_grows_with_the_count(observed: int, minutes: int, seen: float, history: int, spread: float) -> None:
    here, more = (surprise_above(count, minutes, seen, history, spread) for count in (observed, observed + 10))
    assert 0 <= here <= more + 1e-6
    assert surprise_below(observed, minutes, seen, history, spread) >= 0


def test_a_short_history_makes_careful() -> None:
    assert surprise_above(5, 1, 0, 10) < surprise_above(5, 1, 0, 1000)
    assert surprise_above(30, 1, 100, 10) < surprise_above(30, 1, 1000, 100)


def test_missing_history_surprises_nobody() -> None:
    assert surprise_above(1000, 1, 0, 0) == 0
    assert surprise_below(0, 1, 0, 0) == 0


def test_impossible_counts_stay_finite() -> None:
    assert 1000 < surprise_above(100_000, 1, 0, 30) < 1e6
    assert to_score(1e6) <= 1


def test_clumped_counts_have_a_spread_that_one_burst_does_not_hide() -> None:
    calm = np.tile([4.0, 5.0, 6.0], 20)
    burst = calm.copy()
    burst[30] = 500
    clumped = np.tile([0.0, 0.0, 15.0], 20)
    spreads = [dispersion(counts) for counts in (calm, burst, clumped)]
    assert spreads[0] == 1
    assert spreads[1] < 2
    assert spreads[2] > 5


def test_few_of_many_tests_on_noise_are_believed() -> None:
    random = np.random.default_rng(1)
    noise = -np.log10(random.random(1000))
    assert discover(noise, 1000, 1e-3).sum() == 0
    assert discover(np.append(noise, 12.0), 1001, 1e-3).sum() == 1
    assert discover(np.array([]), 0, 1e-3).sum() == 0
