"""The score of a source and its reasons: what share of its events is not as it should be, and what to do about it.

The formula and its weights are in docs/quality.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from services.ingest.quality.measure import DAY_MS, Measures

PRIOR: Final = 20
"""Good events that every source is taken to have sent beside its own: a handful of bad ones says little."""
LATE_MS: Final = 300_000
"""Mean time between event and arrival up to which nobody minds."""
VERY_LATE_MS: Final = 3_600_000
"""Mean lateness beyond that which counts in full."""


class ReasonKind(StrEnum):
    """The closed list of reasons (docs/quality.md)."""

    REJECTED = "rejected"
    TRUNCATED = "truncated"
    FUTURE_TIME = "future_time"
    PAST_TIME = "past_time"
    SILENT = "silent"
    MISSING_TIME = "missing_time"
    UNPARSED = "unparsed"
    CLOCK_AHEAD = "clock_ahead"
    DRIFT = "drift"
    REPAIRED = "repaired"
    LATE = "late"
    UNKNOWN_SEVERITY = "unknown_severity"
    DUPLICATES = "duplicates"
    OVERFLOWING = "overflowing"
    NULLS = "nulls"


WEIGHTS: Final[dict[ReasonKind, float]] = {
    ReasonKind.REJECTED: 1.0,
    ReasonKind.TRUNCATED: 1.0,
    ReasonKind.FUTURE_TIME: 0.6,
    ReasonKind.PAST_TIME: 0.6,
    ReasonKind.SILENT: 0.5,
    ReasonKind.MISSING_TIME: 0.4,
    ReasonKind.UNPARSED: 0.3,
    ReasonKind.CLOCK_AHEAD: 0.3,
    ReasonKind.DRIFT: 0.3,
    ReasonKind.REPAIRED: 0.3,
    ReasonKind.LATE: 0.2,
    ReasonKind.UNKNOWN_SEVERITY: 0.2,
    ReasonKind.DUPLICATES: 0.1,
    ReasonKind.OVERFLOWING: 0.1,
    ReasonKind.NULLS: 0.1,
}
"""What the score loses, of 1, when all events have it."""

_TEXTS: Final[dict[ReasonKind, str]] = {
    ReasonKind.REJECTED: "{share} of the records could not become events: see rejectedEvents, mend the cause and replay them",
    ReasonKind.TRUNCATED: "{share} of the records are too large or broken off: send smaller ones or raise ELIS_MAX_RECORD_BYTES, then replay them",
    ReasonKind.FUTURE_TIME: "{share} of the events are too far in the future to be believed: set the clock of the sender or the time zone of the source",
    ReasonKind.PAST_TIME: "{share} of the events are too old to be believed: see whether the format reads the right field as time, and with its year",
    ReasonKind.SILENT: "it was silent for {share} of the time, other than usual: see whether its sender runs and reaches ELIS (ingestEndpoints)",
    ReasonKind.MISSING_TIME: "{share} of the events carry no time and count as of their arrival: have the sender add one, or set the format of the source",
    ReasonKind.UNPARSED: "{share} of the events were not understood by the format: try their text with testFormat and set the format of the source",
    ReasonKind.CLOCK_AHEAD: "{share} of the events are later than their arrival: the clock of the sender runs ahead, synchronise it (NTP)",
    ReasonKind.DRIFT: "for {share} of the time its fields, format or clock were not as before: see which release of the sender changed them",
    ReasonKind.REPAIRED: "{share} of the events hold bytes that no encoding explains: have the sender write UTF-8",
    ReasonKind.LATE: "events arrive {late} after their time on average: see whether the sender queues, and the time zone of the source",
    ReasonKind.UNKNOWN_SEVERITY: "{share} of the events have no severity: have the sender add a level, or set the format of the source",
    ReasonKind.DUPLICATES: "{share} of the records had been stored before: a sender repeats itself, raise its timeout or mend its retries",
    ReasonKind.OVERFLOWING: "{share} of the events have too many fields, those beyond are in elis.overflow: send fewer, or raise ELIS_MAX_ATTRIBUTES",
    ReasonKind.NULLS: "{share} of the fields looked at are null: have the sender leave them out",
}

_Shares = tuple[ReasonKind, Callable[[Measures], int], Callable[[Measures], int]]
_COUNTED: Final[tuple[_Shares, ...]] = (
    (ReasonKind.REJECTED, lambda m: m.rejected - m.truncated, lambda m: m.events + m.rejected),
    (ReasonKind.TRUNCATED, lambda m: m.truncated, lambda m: m.events + m.rejected),
    (ReasonKind.FUTURE_TIME, lambda m: m.future_time, lambda m: m.events),
    (ReasonKind.PAST_TIME, lambda m: m.past_time, lambda m: m.events),
    (ReasonKind.MISSING_TIME, lambda m: m.missing_time, lambda m: m.events),
    (ReasonKind.UNPARSED, lambda m: m.unparsed, lambda m: m.events),
    (ReasonKind.CLOCK_AHEAD, lambda m: m.ahead, lambda m: m.timed),
    (ReasonKind.REPAIRED, lambda m: m.repaired, lambda m: m.events),
    (ReasonKind.UNKNOWN_SEVERITY, lambda m: m.unknown_severity, lambda m: m.events),
    (ReasonKind.DUPLICATES, lambda m: m.duplicates, lambda m: m.events + m.duplicates),
    (ReasonKind.OVERFLOWING, lambda m: m.overflowing, lambda m: m.events),
    (ReasonKind.NULLS, lambda m: m.null_values, lambda m: m.field_values),
)
"""Reasons that are counts: which of them are bad, and of how many."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Something that is not as it should be."""

    kind: ReasonKind
    share: float
    """0 to 1: of the events, records, fields or time; of an hour when they are late."""
    weight: float
    points: float
    """What it takes from the score."""
    late_ms: float = 0.0
    """Mean lateness, of the reason that is about it."""

    @property
    def text(self) -> str:
        """What it is, and what to do about it."""
        return _TEXTS[self.kind].format(share=_percent(self.share), late=_duration(self.late_ms))


@dataclass(frozen=True, slots=True)
class Verdict:
    """How good a source is over a range of time."""

    score: float | None
    """0 to 100; None when nothing is known of the time."""
    reasons: tuple[Reason, ...]
    """The costliest first."""


def judge(measured: Measures, *, silent: float = 0.0, drifted: float = 0.0) -> Verdict:
    """Returns the score of counts, and of the shares of the time in which the source was silent or its fields had drifted.

    The score is 100 less the points of the reasons, at least 0. A reason takes 100 x weight x bad / (all + PRIOR) points, so that
    a few events never take many; shares of time are taken as they are.
    """
    reasons = []
    for kind, bad, whole in _COUNTED:
        total = max(whole(measured), 0)
        found = min(max(bad(measured), 0), total)
        if found:
            reasons.append(_reason(kind, found / total, found / (total + PRIOR)))
    late_ms = mean_lag_ms(measured) - LATE_MS
    if late_ms > 0:
        share = min(late_ms / VERY_LATE_MS, 1.0)
        reasons.append(_reason(ReasonKind.LATE, share, share * measured.timed / (measured.timed + PRIOR), late_ms + LATE_MS))
    for kind, share in ((ReasonKind.SILENT, silent), (ReasonKind.DRIFT, drifted)):
        if share > 0:
            reasons.append(_reason(kind, min(share, 1.0), min(share, 1.0)))
    if not reasons and not measured.events:
        return Verdict(None, ())
    reasons.sort(key=lambda reason: (-reason.points, reason.kind))
    return Verdict(max(0.0, 100.0 - sum(reason.points for reason in reasons)), tuple(reasons))


def mean_lag_ms(measured: Measures) -> float:
    """Returns the mean time between event and arrival, at most a day, of the events whose time is believed; 0 without any."""
    return min(measured.lag_ms / measured.timed, DAY_MS) if measured.timed > 0 else 0.0


def parse_rate(measured: Measures) -> float | None:
    """Returns the share of the events that the format understood; None without events."""
    return 1.0 - min(max(measured.unparsed / measured.events, 0.0), 1.0) if measured.events > 0 else None


def share_of_time(spans: Iterable[tuple[datetime, datetime]], start: datetime, end: datetime) -> float:
    """Returns the share of the time from start to end that the spans cover together, 0 to 1."""
    covered, reached = timedelta(), start
    for begin, finish in sorted(spans):
        if (finish := min(finish, end)) > (begin := max(begin, reached)):
            covered += finish - begin
            reached = finish
    return min(covered / (end - start), 1.0) if end > start else 0.0


def _reason(kind: ReasonKind, share: float, damped: float, late_ms: float = 0.0) -> Reason:
    weight = WEIGHTS[kind]
    return Reason(kind, share, weight, 100.0 * weight * damped, late_ms)


def _percent(share: float) -> str:
    return "less than 1 %" if share < 0.01 else f"{share * 100:.0f} %"


def _duration(milliseconds: float) -> str:
    minutes = milliseconds / 60_000
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
