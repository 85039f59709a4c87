"""Which events an answer is about: a time range and a condition, read from a request's filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from elis.search.v1 import search_pb2 as pb
from kit.errors import InvalidArgument
from services.search.conditions import LARGEST_SIGNED, Condition, Number, Text, combine
from services.search.fields import normalise_value
from services.search.language import parse_query

OPEN_START = -LARGEST_SIGNED - 1
OPEN_END = LARGEST_SIGNED
MAX_VALUES = 1000
MAX_VALUE_LENGTH = 1000
MAX_SEVERITY = 24


@dataclass(frozen=True, slots=True)
class Selection:
    """Events from `start` (included) to `end` (excluded), nanoseconds since 1970, for which the condition holds."""

    start: int
    end: int
    condition: Condition


def read_filter(given: pb.Filter) -> Selection:
    """Returns the selection of a filter; raises InvalidArgument when it makes no sense."""
    start = given.start or OPEN_START
    end = given.end or OPEN_END
    if given.end and end <= start:
        raise InvalidArgument(f"the range ends at {end}, which is not after its start {start}")
    if given.min_severity > MAX_SEVERITY:
        raise InvalidArgument(f"a severity number is at most {MAX_SEVERITY}, not {given.min_severity}")
    conditions = [parse_query(given.query)]
    for field, values in (
        ("source", given.sources),
        ("system", given.systems),
        ("service", given.services),
        ("host", given.hosts),
        ("fingerprint", given.fingerprints),
        ("trace_id", [given.trace_id] if given.trace_id else []),
    ):
        if values:
            conditions.append(_one_of(field, values))
    if given.min_severity:
        conditions.append(Number("severity_number", given.min_severity, None))
    return Selection(start, end, combine(conditions))


def _one_of(field: str, values: Sequence[str]) -> Text:
    if len(values) > MAX_VALUES:
        raise InvalidArgument(f"a filter takes at most {MAX_VALUES} values of {field}, not {len(values)}")
    if any(len(value) > MAX_VALUE_LENGTH for value in values):
        raise InvalidArgument(f"a value of {field} has at most {MAX_VALUE_LENGTH} characters")
    return Text(field, tuple(sorted({normalise_value(field, value) for value in values})))
