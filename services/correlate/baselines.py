"""What is normal: weighted history, its spread, and how unlikely a new count is.

All tests are one test. A count is taken to be Poisson with an unknown rate; what the history says about the rate is
a Gamma distribution, so the count to come is negative binomial (Gelman et al., Bayesian Data Analysis, §2.6):

    n events in H minutes, prior Gamma(1/2, 0)  →  x events in w minutes ~ NB(r = n + 1/2, p = H / (H + w))
    P(X ≥ x) = I_{w/(H+w)}(x, r)        P(X ≤ x) = I_{H/(H+w)}(r, x + 1)

with I the regularised incomplete beta function. A short history makes r and p small and the tail heavy, so that the
test is careful by itself; n = 0 (never seen) needs no special case. Counts that vary more than Poisson counts do are
scaled by their dispersion φ = variance / mean (quasi-Poisson; McCullagh & Nelder, Generalized Linear Models, §6.2):
n/φ and x/φ take the place of n and x.
"""

from __future__ import annotations

from math import exp, inf, lgamma, log, log1p

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PRIOR_SHAPE = 0.5
"""Shape of Jeffreys' prior of a Poisson rate."""
_LN10 = log(10.0)
_MOST_TERMS = 300


def decay(age_minutes: Floats, half_life: float) -> Floats:
    """Returns the weight of minutes by their age: the recent past says more about now."""
    return 0.5 ** (age_minutes / half_life)


def dispersion(counts: Floats) -> float:
    """Returns variance / mean of the counts of some minutes, at least 1.

    Robust: the counts above the 95th percentile are pulled down to it, so that a forgotten burst does not blind the test.
    """
    if len(counts) < 4:
        return 1.0
    ordered = np.sort(counts)
    place = 0.95 * (len(counts) - 1)
    below = int(place)
    percentile = ordered[below] + (place - below) * (ordered[min(below + 1, len(counts) - 1)] - ordered[below])
    capped = np.minimum(counts, max(percentile, 1.0))
    mean = float(capped.sum()) / len(capped)
    if mean <= 0:
        return 1.0
    apart = capped - mean
    return max(1.0, float(apart @ apart) / (len(capped) - 1) / mean)


def surprise_above(observed: float, minutes: float, seen: float, history: float, phi: float = 1.0) -> float:
    """Returns -log10 P(X ≥ observed) for a count in so many minutes, when `seen` were counted in `history` minutes."""
    if observed <= 0 or history <= 0:
        return 0.0
    share = minutes / (history + minutes)
    return max(0.0, -_log_beta_tail(observed / phi, seen / phi + PRIOR_SHAPE, share) / _LN10)


def surprise_below(observed: float, minutes: float, seen: float, history: float, phi: float = 1.0) -> float:
    """Returns -log10 P(X ≤ observed)."""
    if seen <= 0 or history <= 0:
        return 0.0
    share = history / (history + minutes)
    return max(0.0, -_log_beta_tail(seen / phi + PRIOR_SHAPE, observed / phi + 1.0, share) / _LN10)


def discover(surprises: Floats, tests: int, rate: float) -> NDArray[np.bool_]:
    """Says which of the surprises to believe when `tests` were made in all: Benjamini & Hochberg's step-up (1995).

    `rate` bounds the expected share of false ones among those believed.
    """
    count = len(surprises)
    believed = np.zeros(count, dtype=np.bool_)
    if not count:
        return believed
    order = np.argsort(-surprises)
    bounds = -np.log10(rate * np.arange(1, count + 1) / max(tests, count))
    passing = np.flatnonzero(surprises[order] >= bounds)
    if len(passing):
        believed[order[: passing[-1] + 1]] = True
    return believed


def to_score(surprise: float) -> float:
    """Returns a score in [0, 1): 0.53 at a chance of one in a million, 0.78 at 10^-12."""
    return 1.0 - exp(-surprise / 8.0)


def _log_beta_tail(a: float, b: float, x: float) -> float:
    """Returns ln I_x(a, b), exact enough far below the smallest float (Numerical Recipes §6.4: Lentz's continued fraction)."""
    if x <= 0.0:
        return -inf
    if x >= 1.0:
        return 0.0
    front = lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)
    if x < (a + 1.0) / (a + b + 2.0):
        return front + log(_continued_fraction(a, b, x)) - log(a)
    complement = exp(front) * _continued_fraction(b, a, 1.0 - x) / b
    return log1p(-min(complement, 1.0 - 1e-16))


def _continued_fraction(a: float, b: float, x: float) -> float:
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    result = d
    for m in range(1, _MOST_TERMS):
        for term in (m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)), -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))):
            d = 1.0 + term * d
            c = 1.0 + term / c
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = c if abs(c) > tiny else tiny
            result *= d * c
        if abs(d * c - 1.0) < 1e-10:
            break
    return result
