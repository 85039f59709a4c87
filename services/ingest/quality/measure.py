"""Measures the quality of a batch, a column at a time: counts per source, and the types that fields have in a sample."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import compress
from operator import not_
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from services.ingest.pipeline import Prepared

SAMPLED_ROWS: Final = 5
"""Rows of a source in a batch whose fields are looked at."""
MAX_FIELDS: Final = 300
"""Fields of a source and hour that are told apart; further ones are not counted."""
DAY_MS: Final = 86_400_000
DAY_NS: Final = DAY_MS * 1_000_000
AHEAD_NS: Final = 2_000_000_000
"""A time that is later than its arrival by more than this tells of a clock that runs ahead."""
REPLACEMENT: Final = "\ufffd"
_TYPES: Final = {str: "text", int: "number", float: "number", bool: "boolean", dict: "object", list: "list", type(None): "null"}


@dataclass(slots=True)
class Measures:
    """Counts of one source."""

    events: int = 0
    rejected: int = 0
    duplicates: int = 0
    unparsed: int = 0
    """Events whose text the format did not understand."""
    missing_time: int = 0
    """Events that carry no time: they count as of their arrival."""
    future_time: int = 0
    """Events too far ahead to be believed."""
    past_time: int = 0
    """Events too old to be believed."""
    ahead: int = 0
    """Events whose believed time is later than their arrival: the sender's clock runs ahead."""
    unknown_severity: int = 0
    repaired: int = 0
    """Events with bytes that no encoding explained."""
    overflowing: int = 0
    """Events with more attributes than are kept apart."""
    lag_ms: int = 0
    """Sum of the milliseconds between event and arrival, of those with a believed time; each counts for at most a day."""
    timed: int = 0
    truncated: int = 0
    """Rejected records that met a bound or broke off: too large, or a frame of which no record can be cut."""
    sampled: int = 0
    """Events whose fields were looked at."""
    field_values: int = 0
    """Fields of the sampled events."""
    null_values: int = 0
    """Those of them that are null."""
    minutes: int = 0
    """The minutes of the hour in which events came: bit 0 is the first one. Other than the counts, these are joined, not added."""
    types: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many of the sampled have a field with a type."""

    def add(self, other: Measures) -> None:
        """Adds other counts of the same source."""
        for name in COUNTS:
            if number := getattr(other, name):
                setattr(self, name, getattr(self, name) + number)
        self.minutes |= other.minutes
        for key, count in other.types.items():
            if key in self.types or len(self.types) < MAX_FIELDS:
                self.types[key] += count


COUNTS: Final = tuple(item.name for item in fields(Measures) if item.name not in ("types", "minutes"))
"""The names of the counts."""


def measure_quality(prepared: Prepared, rows: Sequence[int]) -> dict[str, Measures]:
    """Returns the measures of the sources of the rows that are stored."""
    batch = prepared.batch
    stamps, severities, sources = batch.timestamp, batch.severity_number, batch.source
    believed, observed = prepared.timestamps, prepared.observed_at
    if len(rows) != len(batch):
        stamps, severities, sources = [stamps[row] for row in rows], [severities[row] for row in rows], [sources[row] for row in rows]
        believed, observed = [believed[row] for row in rows], [observed[row] for row in rows]
    measures: dict[str, Measures] = {}
    for source, number in Counter(sources).items():
        measures[source] = Measures(events=number, timed=number, unparsed=min(prepared.unparsed.get(source, 0), number))
    for name, column in (("missing_time", stamps), ("unknown_severity", severities)):
        if not all(column):
            for source, number in Counter(compress(sources, map(not_, column))).items():
                setattr(measures[source], name, number)
    lags: defaultdict[str, int] = defaultdict(int)
    for source, stamp, time, arrived in zip(sources, stamps, believed, observed, strict=True):
        if stamp == time:
            lag = arrived - time
            lags[source] += lag // 1_000_000 if lag < DAY_NS else DAY_MS
            if lag < -AHEAD_NS:
                measures[source].ahead += 1
        else:
            found = measures[source]
            found.timed -= 1
            if stamp > arrived:
                found.future_time += 1
            elif stamp:
                found.past_time += 1
    for source, lag_ms in lags.items():
        measures[source].lag_ms = lag_ms
    for row in prepared.overflowing:
        measures.setdefault(batch.source[row], Measures()).overflowing += 1
    bodies = batch.body
    if REPLACEMENT in "".join(bodies):
        for row in rows:
            if REPLACEMENT in bodies[row]:
                measures[batch.source[row]].repaired += 1
    _sample_fields(batch.attributes, batch.source, rows, measures)
    return measures


def _sample_fields(attributes: Sequence[dict[str, Any] | None], sources: Sequence[str], rows: Sequence[int], measures: dict[str, Measures]) -> None:
    stride = max(1, len(rows) // (SAMPLED_ROWS * max(len(measures), 1)))
    # Events of a source have few different shapes: the fields of each are taken down once.
    shapes: Counter[tuple[str, tuple[str, ...], tuple[type, ...]]] = Counter()
    for row in rows[::stride]:
        found = measures[sources[row]]
        if found.sampled < SAMPLED_ROWS:
            found.sampled += 1
            values = attributes[row]
            if values:
                shapes[sources[row], tuple(values), tuple(map(type, values.values()))] += 1
    for (source, names, kinds), count in shapes.items():
        found = measures[source]
        found.field_values += len(names) * count
        found.null_values += kinds.count(type(None)) * count
        types = found.types
        for name, kind in zip(names, kinds, strict=True):
            key = name, _TYPES.get(kind, "object")
            types[key] = types.get(key, 0) + count
