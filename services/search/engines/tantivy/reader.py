"""Reading: each question is asked of the days it reaches, and the answers are put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from threading import Event
from typing import Any

from tantivy import Order, Query, Searcher

from services.search.conditions import LARGEST_SIGNED, All, Condition, Either, Text, TextPrefix
from services.search.engine import DAY, MAX_PAGE_BYTES, Grid, Hit, Hits, Key, ValueCounts
from services.search.engines.tantivy.days import Days
from services.search.engines.tantivy.lines_file import LinesReader
from services.search.engines.tantivy.query import QueryBuilder
from services.search.engines.tantivy.schema import COLUMNS, unmark_text
from services.search.fields import attribute_path
from services.search.selection import Selection

EXACT_VALUES = 1000
"""Distinct values of a field up to which counts are exact."""
_MOST_VALUES = 10_000
_SPARE = 8
_GROWTH = 16
_MOST_BUCKETS = 50_000
"""Buckets that one aggregation may make (Tantivy refuses beyond 65,000)."""


class Abandoned(Exception):
    """The caller has gone; nobody waits for the answer."""


class Reader:
    """Answers questions from the last commits. Safe to use from several threads; `gone` stops a long walk over days."""

    def __init__(self, days: Days, queries: QueryBuilder, *, small_day: int) -> None:
        self._days = days
        self._queries = queries
        self._small_day = small_day

    def search(self, gone: Event, selection: Selection, newest_first: bool, limit: int, after: Key | None) -> Hits:
        """Returns a page of events in order; stops at the day that fills it."""
        if after is not None:
            selection = _narrow(selection, after, newest_first=newest_first)
        events: list[Hit] = []
        size = 0
        for day, start, end in self._windows(selection, newest_first=newest_first, wanted=limit):
            _check(gone)
            queries = self._queries.on(day)
            query = queries.within(queries.build(selection.condition), start, end)
            if after is not None:
                query = queries.beyond(query, after, newest_first=newest_first)
            searcher, file = self._days.view(day)
            lines = LinesReader(file)
            for timestamp, event_id in _rank(searcher, queries, query, day, newest_first=newest_first, limit=limit + 1 - len(events)):
                if len(events) == limit:
                    return Hits(events, more=True)
                line = lines.get(event_id)
                size += len(line)
                if size > MAX_PAGE_BYTES and events:
                    return Hits(events, more=True)
                events.append(Hit(timestamp, event_id, line))
        return Hits(events, more=False)

    def _windows(self, selection: Selection, *, newest_first: bool, wanted: int) -> Iterator[tuple[int, int, int]]:
        """Yields (day, start, end) that together cover a selection, in order.

        Finding the first events in order among all of a day costs time in proportion to the day. A day with many
        events is therefore looked at in parts: the first holds a few times as many events as are wanted, if they are
        spread evenly, and each further part is much wider than the one before. The events of a trace are few: looking
        for its id, which each part would do again, is all they cost.
        """
        few = _names_ids(selection.condition)
        for day in self._days.within(selection, newest_first=newest_first):
            start, end = max(selection.start, day * DAY), min(selection.end, (day + 1) * DAY)
            bounds = self._days.bounds(day)
            if bounds is None or bounds.events < self._small_day or few:
                yield day, start, end
                continue
            width = (bounds.last_timestamp - bounds.first_timestamp + 1) * wanted * _SPARE // bounds.events + 1
            # What was committed a moment ago may lie beyond the bounds: the outer parts reach to the ends of the selection.
            if newest_first:
                edge = min(end, bounds.last_timestamp + 1) - width
                while edge > max(start, bounds.first_timestamp):
                    yield day, edge, end
                    end, width = edge, width * _GROWTH
                    edge -= width
            else:
                edge = max(start, bounds.first_timestamp) + width
                while edge < min(end, bounds.last_timestamp + 1):
                    yield day, start, edge
                    start, width = edge, width * _GROWTH
                    edge += width
            yield day, start, end

    def count(self, gone: Event, selection: Selection) -> int:
        """Returns how many events are selected."""
        total = 0
        for _, searcher, query in self._parts(gone, selection):
            result: Any = searcher.search(query, limit=1, count=True)
            total += result.count
        return total

    def get(self, gone: Event, event_id: int) -> bytes | None:
        """Returns the line of an event."""
        query = self._queries.equal("event_id", event_id)  # the same on all days
        for day in self._days.holding(event_id):
            _check(gone)
            searcher, file = self._days.view(day)
            if searcher.search(query, limit=1, count=False).hits:
                return LinesReader(file).get(event_id)
        return None

    def extent(self, gone: Event, selection: Selection) -> tuple[int, int] | None:
        """Returns the first and last timestamp that is selected."""
        first = self.search(gone, selection, False, 1, None).events
        last = self.search(gone, selection, True, 1, None).events
        return (first[0].timestamp, last[0].timestamp) if first and last else None

    def histogram(self, gone: Event, selection: Selection, grid: Grid) -> Mapping[int, int]:
        """Returns counts by bucket number."""
        counts: Counter[int] = Counter()
        for day, searcher, query in self._parts(gone, selection):
            answer = searcher.aggregate(query, {"time": _histogram(grid, day)})
            _add_buckets(counts, answer["time"]["buckets"], grid, day)
        return counts

    def split_histogram(self, gone: Event, selection: Selection, grid: Grid, field: str, values: Sequence[str]) -> Mapping[str, Mapping[int, int]]:
        """Returns counts by value and bucket number."""
        split: dict[str, Counter[int]] = {value: Counter() for value in values}
        chunk = max(1, _MOST_BUCKETS // (grid.count + 1))
        for day, searcher, query in self._parts(gone, selection):
            for start in range(0, len(values), chunk):
                part = values[start : start + chunk]
                terms = {"terms": {"field": field, "size": len(part)}, "aggs": {"time": _histogram(grid, day)}}
                answer = searcher.aggregate(self._queries.with_values(query, field, part), {"values": terms})
                for bucket in answer["values"]["buckets"]:
                    _add_buckets(split[bucket["key"]], bucket["time"]["buckets"], grid, day)
        return split

    def facets(self, gone: Event, selection: Selection, fields: Sequence[str], size: int) -> Mapping[str, ValueCounts]:
        """Returns the most frequent values of several fields."""
        counts: dict[str, Counter[str]] = {field: Counter() for field in fields}
        others: Counter[str] = Counter()
        wanted = min(max(size * 10, EXACT_VALUES), _MOST_VALUES)
        request = {field: {"terms": {"field": field, "size": wanted}} for field in fields}
        for _, searcher, query in self._parts(gone, selection):
            answer = searcher.aggregate(query, request)
            for field in fields:
                others[field] += answer[field]["sum_other_doc_count"]
                spell = unmark_text if attribute_path(field) else str
                for bucket in answer[field]["buckets"]:
                    counts[field][_spell_key(bucket, spell)] += bucket["doc_count"]
        result = {}
        for field in fields:
            ranked = sorted(counts[field].items(), key=lambda item: (-item[1], item[0]))
            result[field] = ValueCounts(tuple(ranked[:size]), others[field] + sum(count for _, count in ranked[size:]))
        return result

    def _parts(self, gone: Event, selection: Selection) -> Iterator[tuple[int, Searcher, Query]]:
        """Yields the number, a view and the query for each day that a selection reaches."""
        for day in self._days.within(selection):
            _check(gone)
            queries = self._queries.on(day)
            yield day, self._days.searcher(day), queries.within(queries.build(selection.condition), selection.start, selection.end)


def _rank(searcher: Searcher, queries: QueryBuilder, query: Query, day: int, *, newest_first: bool, limit: int) -> list[tuple[int, int]]:
    """Returns the first events of one day in order as (timestamp, event id), exact where timestamps are equal.

    The index orders by timestamp alone. Where the last timestamp of a full page goes on behind it, any of the
    events that share it were returned, so these are asked for again, in the order of their ids.
    """
    order = Order.Desc if newest_first else Order.Asc
    found = searcher.search(query, limit=limit + 1, count=False, order_by_field="timestamp", order=order).hits
    origin = day * DAY
    ties: list[tuple[int, int]] = []
    if len(found) > limit and found[limit - 1][0] != found[limit][0]:
        found = found[:limit]
    elif len(found) > limit:
        last = found[limit][0]
        found = [hit for hit in found if hit[0] != last]
        tied = queries.with_timestamp(query, last + origin)
        hits = searcher.search(tied, limit=limit - len(found), count=False, order_by_field="event_id", order=order).hits
        ties = [(last + origin, event_id) for event_id, _ in hits]
    ids: list[Any] = searcher.fast_field_values("event_id", [address for _, address in found])
    ranked = sorted([(time + origin, event_id) for (time, _), event_id in zip(found, ids, strict=True)], reverse=newest_first)
    return ranked + ties


def _names_ids(condition: Condition) -> bool:
    """Says whether a condition leaves only the events of some traces or spans."""
    match condition:
        case Text(field) | TextPrefix(field):
            return field in COLUMNS
        case All(conditions):
            return any(map(_names_ids, conditions))
        case Either(conditions):
            return all(map(_names_ids, conditions))
    return False


def _check(gone: Event) -> None:
    if gone.is_set():
        raise Abandoned


def _narrow(selection: Selection, after: Key, *, newest_first: bool) -> Selection:
    """Leaves out the days that lie before a key in the order."""
    if newest_first:
        return Selection(selection.start, min(selection.end, after.timestamp + 1, LARGEST_SIGNED), selection.condition)
    return Selection(max(selection.start, after.timestamp), selection.end, selection.condition)


def _histogram(grid: Grid, day: int) -> dict[str, Any]:
    """The buckets of a grid as times of a day.

    They start at the first border in the day, which 64-bit floats hold exactly; they may not hold borders of wide
    buckets outside of it.
    """
    offset = (grid.origin - day * DAY) % grid.width
    return {"histogram": {"field": "timestamp", "interval": grid.width, "offset": offset, "min_doc_count": 1}}


def _add_buckets(counts: Counter[int], buckets: list[dict[str, Any]], grid: Grid, day: int) -> None:
    for bucket in buckets:
        start = int(bucket["key"]) + day * DAY
        counts[(start - grid.origin + grid.width // 2) // grid.width] += bucket["doc_count"]


def _spell_key(bucket: dict[str, Any], spell: Any) -> str:
    """Returns the value of a bucket as text: numbers as in JSON, whole ones without a fraction."""
    key = bucket.get("key_as_string", bucket["key"])
    if isinstance(key, float) and key.is_integer():
        key = int(key)
    text: str = spell(key) if isinstance(key, str) else str(key)
    return text
