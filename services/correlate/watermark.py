"""The watermark: up to which minute of event time everything has probably come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

MAX_SKEW = 15
"""Minutes that a source may be behind the others and still be waited for: who is further behind brings old history."""
_AHEAD = 0.1
"""Share of the sources that may be ahead of all others without being believed: their clocks are wrong."""
_RECENT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class SourceClock:
    """How far a source has come, in event time, and when it was last heard."""

    newest_minute: int
    heard_at: datetime


def find_watermark(clocks: Sequence[SourceClock], now: datetime, quiet_after: timedelta, lateness: int) -> int | None:
    """Returns the newest minute to judge; None when nothing was heard yet.

    Event time may run at any speed, and sources lag behind each other by as much as their senders buffer. So the
    slowest of the sources that are sending decides, less the lateness allowed. A source that pauses is not waited
    for, and when all pause, what has come is all there is.
    """
    if not clocks:
        return None
    latest = max(clock.heard_at for clock in clocks)
    recent = sorted(clock.newest_minute for clock in clocks if latest - clock.heard_at <= _RECENT)
    newest = recent[len(recent) - 1 - int(len(recent) * _AHEAD)]
    sending = [clock.newest_minute for clock in clocks if now - clock.heard_at <= quiet_after and newest - MAX_SKEW <= clock.newest_minute <= newest + MAX_SKEW]
    if sending:
        return min(newest, *sending) - lateness
    return max(minute for minute in recent if minute <= newest + lateness)
