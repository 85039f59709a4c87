"""The score and its reasons."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.quality.measure import COUNTS, Measures
from services.ingest.quality.report import WEIGHTS, ReasonKind, judge, mean_lag_ms, parse_rate, share_of_time

START = datetime(2026, 11, 24, 8, tzinfo=UTC)
ANY_COUNT = st.integers(-(2**62), 2**62) | st.integers(0, 50)
ANY_SHARE = st.floats(0, 2)


def kinds(measured: Measures, **shares: float) -> list[str]:
    return [reason.kind for reason in judge(measured, **shares).reasons]


@given(st.fixed_dictionaries(dict.fromkeys(COUNTS, ANY_COUNT)), ANY_SHARE, ANY_SHARE)
def test_any_counts_give_a_score_and_reasons_within_bounds(counts: dict[str, int], silent: float, drifted: float) -> None:
    measured = Measures()
    for name, count in counts.items():
        setattr(measured, name, count)
    verdict = judge(measured, silent=silent, drifted=drifted)
    assert verdict.score is None or 0 <= verdict.score <= 100
    for reason in verdict.reasons:
        assert 0 < reason.share <= 1
        assert 0 <= reason.points <= 100 * reason.weight
        assert "{" not in reason.text
    assert len({reason.kind for reason in verdict.reasons}) == len(verdict.reasons)
    rate = parse_rate(measured)
    assert rate is None or 0 <= rate <= 1


@given(st.lists(st.tuples(st.integers(-100, 200), st.integers(0, 300)), max_size=6))
def test_a_share_of_time_is_a_share(spans: list[tuple[int, int]]) -> None:
    moments = [(START + timedelta(minutes=begin), START + timedelta(minutes=begin + length)) for begin, length in spans]
    minutes = {minute for begin, length in spans for minute in range(max(begin, 0), min(begin + length, 60))}
    assert share_of_time(moments, START, START + timedelta(hours=1)) == pytest.approx(len(minutes) / 60)


def test_every_reason_has_a_weight() -> None:
    assert set(WEIGHTS) == set(ReasonKind)


def test_a_good_source_has_the_full_score_and_no_reason() -> None:
    verdict = judge(Measures(events=10_000, timed=10_000, sampled=50, field_values=200))
    assert (verdict.score, verdict.reasons) == (100.0, ())


def test_nothing_known_is_no_score() -> None:
    assert judge(Measures()).score is None
    assert judge(Measures(), silent=1.0).score == 50.0


def test_a_reason_says_its_share_and_what_to_do() -> None:
    [reason] = judge(Measures(events=10_000, missing_time=1_200)).reasons
    assert (reason.kind, reason.share, reason.weight) == ("missing_time", 0.12, 0.4)
    assert reason.text.startswith("12 % of the events carry no time")
    assert "set the format" in reason.text
    assert reason.points == pytest.approx(100 * 0.4 * 1_200 / 10_020)


def test_the_costliest_reason_comes_first() -> None:
    measured = Measures(events=1_000, rejected=100, truncated=40, unknown_severity=1_000, timed=1_000, ahead=10, duplicates=10)
    assert kinds(measured) == ["unknown_severity", "rejected", "truncated", "clock_ahead", "duplicates"]


def test_a_few_bad_events_do_not_swing_the_score() -> None:
    few = judge(Measures(events=2, unparsed=2)).score
    many = judge(Measures(events=2_000, unparsed=2_000)).score
    assert few is not None
    assert many is not None
    assert few > 97
    assert many < 71


def test_lateness_counts_beyond_some_minutes() -> None:
    assert kinds(Measures(events=1_000, timed=1_000, lag_ms=1_000 * 60_000)) == []
    [late] = judge(Measures(events=1_000, timed=1_000, lag_ms=1_000 * 35 * 60_000)).reasons
    assert (late.kind, late.share) == ("late", 0.5)
    assert "35 min" in late.text
    assert mean_lag_ms(Measures(events=4, timed=4, lag_ms=-8_000)) == -2_000


def test_shares_of_time_count_however_few_the_events_are() -> None:
    verdict = judge(Measures(events=1), silent=0.5, drifted=0.2)
    assert [(reason.kind, reason.points) for reason in verdict.reasons] == [("silent", 25.0), ("drift", pytest.approx(6.0))]
