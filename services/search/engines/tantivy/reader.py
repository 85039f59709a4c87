"""Reading: each question is asked of the days it reaches, and the answers are put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from threading import Event
from typing import Any

from tantivy import DocAddress, Order, Query, Searcher

from services.search.conditions import LARGEST_SIGNED
from services.search.engine import DAY, MAX_PAGE_BYTES, MILLISECOND, Grid, Hit, Hits, Key, ValueCounts
from services.search.engines.tantivy.days import Days
from services.search.engines.tantivy.lines_file import LinesReader
from services.search.engines.tantivy.query import QueryBuilder
from services.search.engines.tantivy.schema import MILLISECOND as MILLISECOND_FIELD
from services.search.engines.tantivy.schema import ROW, unmark_text
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
        condition = self._queries.build(selection.condition)
        events: list[Hit] = []
        size = 0
        for day, start, end in self._windows(selection, newest_first=newest_first, wanted=limit):
            _check(gone)
            query = self._queries.within(condition, day, start, end)
            if after is not None:
                query = self._queries.beyond(query, after, newest_first=newest_first)
            searcher, file = self._days.view(day)
            lines = LinesReader(file)
            for timestamp, event_id, row in self._rank(searcher, query, newest_first=newest_first, limit=limit + 1 - len(events)):
                if len(events) == limit:
                    return Hits(events, more=True)
                line = lines.get(row)
                size += len(line)
                if size > MAX_PAGE_BYTES and events:
                    return Hits(events, more=True)
                events.append(Hit(timestamp, event_id, line))
        return Hits(events, more=False)

    def _windows(self, selection: Selection, *, newest_first: bool, wanted: int) -> Iterator[tuple[int, int, int]]:
        """Yields (day, start, end) that together cover a selection, in order.

        Finding the first events in order among all of a day costs time in proportion to the day. A day with many
        events is therefore looked at in parts: the first holds a few times as many events as are wanted, if they are
        spread evenly, and each further part is much wider than the one before.
        """
        for day in self._days.within(selection, newest_first=newest_first):
            start, end = max(selection.start, day * DAY), min(selection.end, (day + 1) * DAY)
            bounds = self._days.bounds(day)
            if bounds is None or bounds.events < self._small_day:
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

    def _rank(self, searcher: Searcher, query: Query, *, newest_first: bool, limit: int) -> list[tuple[int, int, int]]:
        """Returns the first events of one day in order as (timestamp, event id, row), exact where timestamps are equal.

        The index orders by timestamp alone. Where the last timestamp of a full page goes on behind it, any of the
        events that share it were returned, so these are asked for again, in the order of their ids.
        """
        order = Order.Desc if newest_first else Order.Asc
        found = searcher.search(query, limit=limit + 1, count=False, order_by_field="timestamp", order=order).hits
        ties: list[tuple[int, int, DocAddress]] = []
        if len(found) > limit and found[limit - 1][0] != found[limit][0]:
            found = found[:limit]
        elif len(found) > limit:
            last = found[limit][0]
            found = [hit for hit in found if hit[0] != last]
            tied = self._queries.with_timestamp(query, last)
            hits = searcher.search(tied, limit=limit - len(found), count=False, order_by_field="event_id", order=order).hits
            ties = [(last, event_id, address) for event_id, address in hits]
        ids: list[Any] = searcher.fast_field_values("event_id", [address for _, address in found])
        ranked = [(timestamp, event_id, address) for (timestamp, address), event_id in zip(found, ids, strict=True)]
        ranked.sort(key=itemgetter(0, 1), reverse=newest_first)
        ranked += ties
        rows: list[Any] = searcher.fast_field_values(ROW, [address for _, _, address in ranked])
        return [(timestamp, event_id, row) for (timestamp, event_id, _), row in zip(ranked, rows, strict=True)]

    def count(self, gone: Event, selection: Selection) -> int:
        """Returns how many events are selected."""
        total = 0
        for searcher, query in self._parts(gone, selection):
            result: Any = searcher.search(query, limit=1, count=True)
            total += result.count
        return total

    def get(self, gone: Event, event_id: int) -> bytes | None:
        """Returns the line of an event."""
        query = self._queries.equal("event_id", event_id)
        for day in self._days.holding(event_id):
            _check(gone)
            searcher, file = self._days.view(day)
            hits = searcher.search(query, limit=1, count=False).hits
            if hits:
                rows: list[Any] = searcher.fast_field_values(ROW, [hits[0][1]])
                return LinesReader(file).get(rows[0])
        return None

    def extent(self, gone: Event, selection: Selection) -> tuple[int, int] | None:
        """Returns the first and last timestamp that is selected."""
        first = self.search(gone, selection, False, 1, None).events
        last = self.search(gone, selection, True, 1, None).events
        return (first[0].timestamp, last[0].timestamp) if first and last else None

    def histogram(self, gone: Event, selection: Selection, grid: Grid) -> Mapping[int, int]:
        """Returns counts by bucket number."""
        counts: Counter[int] = Counter()
        for searcher, query in self._parts(gone, selection):
            answer = searcher.aggregate(query, {"time": _histogram(grid)})
            _add_buckets(counts, answer["time"]["buckets"], grid)
        return counts

    def split_histogram(self, gone: Event, selection: Selection, grid: Grid, field: str, values: Sequence[str]) -> Mapping[str, Mapping[int, int]]:
        """Returns counts by value and bucket number."""
        split: dict[str, Counter[int]] = {value: Counter() for value in values}
        chunk = max(1, _MOST_BUCKETS // (grid.count + 1))
        for searcher, query in self._parts(gone, selection):
            for start in range(0, len(values), chunk):
                part = values[start : start + chunk]
                terms = {"terms": {"field": field, "size": len(part)}, "aggs": {"time": _histogram(grid)}}
                answer = searcher.aggregate(self._queries.with_values(query, field, part), {"values": terms})
                for bucket in answer["values"]["buckets"]:
                    _add_buckets(split[bucket["key"]], bucket["time"]["buckets"], grid)
        return split

    def facets(self, gone: Event, selection: Selection, fields: Sequence[str], size: int) -> Mapping[str, ValueCounts]:
        """Returns the most frequent values of several fields."""
        counts: dict[str, Counter[str]] = {field: Counter() for field in fields}
        others: Counter[str] = Counter()
        wanted = min(max(size * 10, EXACT_VALUES), _MOST_VALUES)
        request = {field: {"terms": {"field": field, "size": wanted}} for field in fields}
        for searcher, query in self._parts(gone, selection):
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

    def _parts(self, gone: Event, selection: Selection) -> Iterator[tuple[Searcher, Query]]:
        """Yields a view and the query for each day that a selection reaches."""
        condition = self._queries.build(selection.condition)
        for day in self._days.within(selection):
            _check(gone)
            yield self._days.searcher(day), self._queries.within(condition, day, selection.start, selection.end)


def _check(gone: Event) -> None:
    if gone.is_set():
        raise Abandoned


def _narrow(selection: Selection, after: Key, *, newest_first: bool) -> Selection:
    """Leaves out the days that lie before a key in the order."""
    if newest_first:
        return Selection(selection.start, min(selection.end, after.timestamp + 1, LARGEST_SIGNED), selection.condition)
    return Selection(max(selection.start, after.timestamp), selection.end, selection.condition)


def _histogram(grid: Grid) -> dict[str, Any]:
    width = grid.width // MILLISECOND
    return {"histogram": {"field": MILLISECOND_FIELD, "interval": width, "offset": grid.origin // MILLISECOND % width, "min_doc_count": 1}}


def _add_buckets(counts: Counter[int], buckets: list[dict[str, Any]], grid: Grid) -> None:
    for bucket in buckets:
        counts[(int(bucket["key"]) * MILLISECOND - grid.origin) // grid.width] += bucket["doc_count"]


def _spell_key(bucket: dict[str, Any], spell: Any) -> str:
    """Returns the value of a bucket as text: numbers as in JSON, whole ones without a fraction."""
    key = bucket.get("key_as_string", bucket["key"])
    if isinstance(key, float) and key.is_integer():
        key = int(key)
    text: str = spell(key) if isinstance(key, str) else str(key)
    return text
