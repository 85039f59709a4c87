"""Drift: what the events of a source in this hour have other than in the hours before."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from services.ingest.quality.measure import Measures

BEFORE_HOURS: Final = 24
"""Hours that this hour is compared with; after about half as many the new is the usual."""
LEAST_SAMPLED: Final = 50
"""Events, here and there, below which nothing is said of fields."""
LEAST_EVENTS: Final = 100
"""Events, here and there, below which nothing is said of a rate."""
LEAST_VALUES: Final = 20
"""Values of a field, here and there, below which nothing is said of its type."""
DOMINANT: Final = 0.8
"""Share of the values from which a type is that of the field."""
PRESENT: Final = 0.5
"""Share of the events that had a field which can vanish."""
RATE_DROP: Final = 0.2
"""Drop of the parse rate."""
AHEAD: Final = 0.2
"""Share of the events that are later than their arrival."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as before."""

    kind: str
    field: str
    expected: str
    observed: str
    text: str
    """What it is, without the name of the source."""


@dataclass(slots=True)
class Window:
    """The events of a span of time."""

    counts: Measures = field(default_factory=Measures)
    fields: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Events by type, of those sampled, by field."""


def find_drifts(recent: Window, before: Window) -> tuple[list[Finding], set[str]]:
    """Returns what has drifted, and the kinds that could be judged: what is of such a kind and was not found is over."""
    found: list[Finding] = []
    judged: set[str] = set()
    now, then = recent.counts, before.counts
    if now.sampled >= LEAST_SAMPLED and then.sampled >= LEAST_SAMPLED:
        judged |= {"field_type", "field_vanished"}
        # Where fields are too many, some were not taken down: then a missing one means nothing.
        complete = sum(types.total() for types in recent.fields.values()) >= now.field_values
        found += _find_field_drifts(recent, before, complete=complete)
    if now.events >= LEAST_EVENTS and then.events >= LEAST_EVENTS:
        judged.add("parse_rate")
        usual, rate = 1 - then.unparsed / then.events, 1 - now.unparsed / now.events
        if usual - rate >= RATE_DROP:
            text = f"its format understands {rate:.0%} of the events of this hour, {usual:.0%} before"
            found.append(Finding("parse_rate", "", f"{usual:.3f}", f"{rate:.3f}", text))
    if now.timed >= LEAST_EVENTS:
        judged.add("clock_ahead")
        share = now.ahead / now.timed
        if share >= AHEAD:
            found.append(Finding("clock_ahead", "", "0", f"{share:.3f}", f"its clock runs ahead, {share:.0%} of its events are later than their arrival"))
    return found, judged


def _find_field_drifts(recent: Window, before: Window, *, complete: bool) -> Iterator[Finding]:
    for name, then in sorted(before.fields.items()):
        usual, share = _dominant(then)
        now = recent.fields.get(name, Counter())
        if not now:
            if complete and then.total() >= PRESENT * before.counts.sampled:
                yield Finding("field_vanished", name, "present", "absent", "a field is gone that most events had")
            continue
        kind, new_share = _dominant(now)
        if usual and kind and kind != usual and min(share, new_share) >= DOMINANT:
            yield Finding("field_type", name, usual, kind, f"a field has become {kind}, it was {usual}")


def _dominant(types: Counter[str]) -> tuple[str, float]:
    """Returns the most frequent type and its share of the values that are not null; empty when they are too few."""
    total = types.total() - types["null"]
    if total < LEAST_VALUES:
        return "", 0.0
    kind, count = max(((kind, count) for kind, count in types.items() if kind != "null"), key=lambda pair: (pair[1], pair[0]))
    return kind, count / total
