"""The watermark waits for those who send, not for those who pause, bring old history, or have a wrong clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.correlate.watermark import SourceClock, find_watermark

NOW = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
QUIET = timedelta(seconds=3)


def watermark(*clocks: tuple[int, float], lateness: int = 1) -> int | None:
    return find_watermark([SourceClock(minute, NOW - timedelta(seconds=ago)) for minute, ago in clocks], NOW, QUIET, lateness)


def test_nothing_was_heard() -> None:
    assert watermark() is None


def test_the_slowest_of_those_who_send_decides() -> None:
    assert watermark((100, 0.1), (97, 0.5), (99, 0.2)) == 96


def test_a_source_that_pauses_is_not_waited_for() -> None:
    assert watermark((100, 0.1), (40, 500.0), (92, 60.0)) == 99


def test_when_all_pause_the_newest_minute_is_judged() -> None:
    assert watermark((100, 4.0), (97, 5.0)) == 100


def test_old_history_holds_nothing_up() -> None:
    assert watermark((100, 0.1), (-5_000_000, 0.1)) == 99
    assert watermark((100, 4.0), (-5_000_000, 0.1)) == 100


def test_one_clock_of_many_that_is_ahead_is_not_believed() -> None:
    clocks = [(100, 0.1)] * 10
    assert watermark(*clocks, (1540, 0.1)) == 99
    assert watermark(*[(100, 9.0)] * 10, (1540, 9.0)) == 100
