"""Conditions as Tantivy queries. They are built, never parsed, except for ranges of attributes and ids, which have no other door."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal

from tantivy import FieldType, Index, Occur, Query, Schema

from kit.errors import InvalidArgument
from services.search.conditions import (
    LARGEST_SIGNED,
    LARGEST_UNSIGNED,
    All,
    Attribute,
    AttributePrefix,
    AttributePresent,
    AttributeRange,
    Condition,
    Either,
    Everything,
    Not,
    Number,
    Present,
    Text,
    TextPrefix,
    Words,
    read_number,
)
from services.search.engine import DAY, Key
from services.search.engines.tantivy.schema import ATTRIBUTES, BODY, COLUMNS, TEXT_MARK, create_schema, mark_text, open_index

_UNSIGNED = {"event_id", "severity_number"}
_HEXADECIMAL = re.compile("[0-9a-f]+")
_SPECIAL = re.compile(r"([^\w.])")


class QueryBuilder:
    """Builds queries for the index of a day. Times are given in nanoseconds since 1970 and looked for as times of that day."""

    def __init__(self, schema: Schema, day: int = 0, parser: Index | None = None) -> None:
        self._schema = schema
        self._day = day
        self._parser = parser or open_index(create_schema(with_all_terms=True), None)

    def on(self, day: int) -> QueryBuilder:
        """Returns the builder for another day."""
        return QueryBuilder(self._schema, day, self._parser)

    def build(self, condition: Condition) -> Query:
        """Returns the query of a condition."""
        match condition:
            case Everything():
                return Query.all_query()
            case All(conditions):
                return self._build_all(conditions)
            case Either(conditions):
                return Query.boolean_query([(Occur.Should, self.build(part)) for part in conditions])
            case Not():
                return self._build_all((condition,))
            case Words(words, prefix):
                return self._find_words(words, prefix=prefix)
            case Text(field, values) if field in COLUMNS:
                return _any_of([self._ids_between(field, value, "") for value in values])
            case Text(field, values):
                return self._term(field, values[0]) if len(values) == 1 else Query.term_set_query(self._schema, field, values)
            case TextPrefix(field, prefix) if field in COLUMNS:
                return self._ids_between(field, prefix, "g")
            case TextPrefix(field, prefix):
                return self._start(field, prefix)
            case Present(field):
                return Query.exists_query(field)
            case Number(field, low, high):
                return self.between(field, low, high)
            case Attribute(path, value):
                return self._equal_attribute(_subpath(path), value)
            case AttributePrefix(path, prefix):
                # A text that looks like a time stands in the index behind its mark.
                return _any_of([self._start(_subpath(path), prefix), self._start(_subpath(path), TEXT_MARK + prefix)])
            case AttributeRange():
                return self._range_of_attribute(condition)
            case AttributePresent(path):
                return Query.exists_query(_subpath(path), True)

    def within(self, query: Query, start: int, end: int) -> Query:
        """Returns the query for events of the day from `start` (included) to `end` (excluded)."""
        if start <= self._day * DAY and end >= (self._day + 1) * DAY:
            return query
        return _all_of([query, self.between("timestamp", start, end - 1)])

    def beyond(self, query: Query, after: Key, *, newest_first: bool) -> Query:
        """Returns the query for what comes after a key in the order."""
        tied = self.equal("timestamp", after.timestamp)
        if newest_first:
            range_, passed = self.between("timestamp", None, after.timestamp), self.between("event_id", after.event_id, None)
        else:
            range_, passed = self.between("timestamp", after.timestamp, None), self.between("event_id", None, after.event_id)
        return Query.boolean_query([(Occur.Must, query), (Occur.Must, range_), (Occur.MustNot, _all_of([tied, passed]))])

    def with_timestamp(self, query: Query, timestamp: int) -> Query:
        """Returns the query for events of one instant."""
        return _all_of([self.equal("timestamp", timestamp), query])

    def with_values(self, query: Query, field: str, values: Sequence[str]) -> Query:
        """Returns the query for events whose text field has one of the values."""
        return _all_of([Query.term_set_query(self._schema, field, values), query])

    def equal(self, field: str, number: int) -> Query:
        """Returns the query for a number field."""
        return self.between(field, number, number)

    def between(self, field: str, low: int | None, high: int | None) -> Query:
        """Returns the query for a closed range of a number field."""
        least, largest, kind = (0, LARGEST_UNSIGNED, FieldType.Unsigned) if field in _UNSIGNED else (-LARGEST_SIGNED - 1, LARGEST_SIGNED, FieldType.Integer)
        first = least if low is None else max(low, least)
        last = largest if high is None else min(high, largest)
        if first > last:
            return Query.empty_query()
        if field == "timestamp":
            origin = self._day * DAY
            first, last = max(first - origin, least), min(last - origin, largest)
        return Query.range_query(self._schema, field, kind, first, last)

    def _ids_between(self, field: str, first: str, more: str) -> Query:
        """Returns the query for ids from the first to that with more characters. Ids have hexadecimal digits only, and g is behind all of these."""
        return self._parser.parse_query(f"{field}:[{first} TO {first}{more}]", [BODY]) if _HEXADECIMAL.fullmatch(first) else Query.empty_query()

    def _build_all(self, conditions: Sequence[Condition]) -> Query:
        needed = [(Occur.Must, self.build(part)) for part in conditions if not isinstance(part, Not)]
        excluded = [(Occur.MustNot, self.build(part.condition)) for part in conditions if isinstance(part, Not)]
        return Query.boolean_query([*(needed or [(Occur.Must, Query.all_query())]), *excluded])

    def _term(self, field: str, value: str | float) -> Query:
        return Query.term_query(self._schema, field, value, "basic")

    def _start(self, field: str, prefix: str) -> Query:
        """Returns the query for terms that start with a prefix, all of them (a phrase prefix query gives up after 50)."""
        return Query.fuzzy_term_query(self._schema, field, prefix, distance=0, prefix=True)

    def _find_words(self, words: tuple[str, ...], *, prefix: bool) -> Query:
        if len(words) == 1:
            return self._start(BODY, words[0]) if prefix else self._term(BODY, words[0])
        if not prefix:
            return Query.phrase_query(self._schema, BODY, list(words))
        return Query.regex_phrase_query(self._schema, BODY, [*(re.escape(word) for word in words[:-1]), re.escape(words[-1]) + ".*"])

    def _equal_attribute(self, subpath: str, value: str) -> Query:
        meanings: list[str | float] = [mark_text(value)]
        number = read_number(value)
        if number is not None:
            meanings.append(number)
        if value in ("true", "false"):
            meanings.append(value == "true")
        return _any_of([self._term(subpath, meaning) for meaning in meanings])

    def _range_of_attribute(self, condition: AttributeRange) -> Query:
        low, high = condition.low, condition.high
        if low is not None and high is not None and (low > high or (low == high and not (condition.include_low and condition.include_high))):
            return Query.empty_query()
        include_low, include_high = condition.include_low, condition.include_high
        if low is not None and high is not None and isinstance(low, float) != isinstance(high, float):
            # The parser wants both bounds of one kind, and takes 2.0 for whole: step to the fraction next to it.
            if isinstance(low, float):
                high, include_high = math.nextafter(high, math.inf if include_high else -math.inf), not include_high
            else:
                low, include_low = math.nextafter(low, -math.inf if include_low else math.inf), not include_low
        wanted = self._range_of_numbers(condition.path, low, high, include_low=include_low, include_high=include_high)
        if isinstance(high, float) and high < 0:
            # A fraction below zero is taken for no bound where all values are whole and some need 64 bits without a sign.
            return _all_of([wanted, self._range_of_numbers(condition.path, None, 0, include_low=True, include_high=False)])
        return wanted

    def _range_of_numbers(self, path: str, low: float | None, high: float | None, *, include_low: bool, include_high: bool) -> Query:
        opening, closing = "[" if include_low or low is None else "{", "]" if include_high or high is None else "}"
        field = _SPECIAL.sub(r"\\\1", f"{ATTRIBUTES}.{path}")
        try:
            return self._parser.parse_query(f"{field}:{opening}{_spell(low)} TO {_spell(high)}{closing}", [BODY])
        except ValueError:
            raise InvalidArgument(f"{path!r} cannot be searched by range") from None


def _subpath(path: str) -> str:
    return f"{ATTRIBUTES}.{path}"


def _spell(number: float | None) -> str:
    """Writes a number without an exponent, which the parser does not know."""
    if number is None:
        return "*"
    return str(number) if isinstance(number, int) else format(Decimal(repr(number)), "f")


def _all_of(queries: Sequence[Query]) -> Query:
    return Query.boolean_query([(Occur.Must, query) for query in queries])


def _any_of(queries: Sequence[Query]) -> Query:
    return queries[0] if len(queries) == 1 else Query.boolean_query([(Occur.Should, query) for query in queries])
