"""The folder of indexes: one per UTC day, opened when needed, a bounded number of them at once."""

from __future__ import annotations

import os
import re
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any

import structlog
from tantivy import Index, Order, Query, Schema, Searcher

from services.search.engine import DAY
from services.search.engines.tantivy.lines_file import LinesFile, LinesReader
from services.search.engines.tantivy.schema import open_index
from services.search.selection import Selection

log = structlog.get_logger()

_EPOCH = date(1970, 1, 1)
_TRASH = ".deleted"
_DAY_NAME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True, slots=True)
class DayBounds:
    """How much a day's index holds as of its last commit, and between which ids and timestamps (or a little beyond)."""

    events: int
    first_id: int
    last_id: int
    first_timestamp: int
    last_timestamp: int

    def extend(self, other: DayBounds) -> DayBounds:
        """Returns the bounds of both, with the number of events of the other, which is the newer."""
        return DayBounds(
            other.events,
            min(self.first_id, other.first_id),
            max(self.last_id, other.last_id),
            min(self.first_timestamp, other.first_timestamp),
            max(self.last_timestamp, other.last_timestamp),
        )


@dataclass(slots=True)
class _OpenDay:
    """An index that is open for reading, with its lines, and when it was last used (monotonic clock)."""

    index: Index
    lines: LinesFile
    used_at: float


class Days:
    """The indexes of all days. Safe to use from several threads."""

    def __init__(self, folder: Path, schema: Schema, most_open: int) -> None:
        self._folder = folder
        self._schema = schema
        self._most_open = most_open
        self._lock = Lock()
        self._open: OrderedDict[int, _OpenDay] = OrderedDict()
        self._bounds: dict[int, DayBounds] = {}

    def load(self) -> list[int]:
        """Opens every index once; returns the days whose index is damaged, after moving it out of the way."""
        self._folder.mkdir(parents=True, exist_ok=True)
        damaged = []
        for path in sorted(self._folder.iterdir()):
            if path.name.endswith(_TRASH):
                shutil.rmtree(path)
            if not _DAY_NAME.fullmatch(path.name):
                continue
            day = (date.fromisoformat(path.name) - _EPOCH).days
            try:
                self._bounds[day] = _measure(day, *self.view(day))
            except (ValueError, OSError) as error:
                log.error("index damaged", day=path.name, reason=str(error))
                self.delete(day)
                damaged.append(day)
        return damaged

    def path(self, day: int) -> Path:
        """Returns the folder of a day's index."""
        return self._folder / (_EPOCH + timedelta(days=day)).isoformat()

    def held(self) -> dict[int, int]:
        """Returns the number of events by day, oldest first."""
        with self._lock:
            return {day: bounds.events for day, bounds in sorted(self._bounds.items())}

    def within(self, selection: Selection, *, newest_first: bool = False) -> list[int]:
        """Returns the days that a selection may reach, in order."""
        with self._lock:
            days = sorted(day for day in self._bounds if day * DAY < selection.end and (day + 1) * DAY > selection.start)
        return days[::-1] if newest_first else days

    def holding(self, event_id: int) -> Iterator[int]:
        """Yields the days whose range of ids covers an id, newest first."""
        with self._lock:
            days = [day for day, bounds in self._bounds.items() if bounds.first_id <= event_id <= bounds.last_id]
        yield from sorted(days, reverse=True)

    def bounds(self, day: int) -> DayBounds | None:
        """Returns what a day's index holds; None when there is none."""
        with self._lock:
            return self._bounds.get(day)

    def searcher(self, day: int) -> Searcher:
        """Returns a view of the last commit of a day."""
        return self.view(day)[0]

    def view(self, day: int) -> tuple[Searcher, LinesFile]:
        """Returns a view of the last commit of a day, and the lines that its documents refer to."""
        with self._lock:
            opened = self._open.get(day)
            if opened is None:
                path = self.path(day)
                opened = self._open[day] = _OpenDay(open_index(self._schema, path), LinesFile(path), 0.0)
                while len(self._open) > self._most_open:
                    self._open.popitem(last=False)
            opened.used_at = monotonic()
            self._open.move_to_end(day)
            return opened.index.searcher(), opened.lines

    def close_idle(self, seconds: float) -> None:
        """Closes indexes that nobody asked for so long: each open one costs a thread that looks at its folder."""
        with self._lock:
            while self._open and monotonic() - next(iter(self._open.values())).used_at > seconds:
                self._open.popitem(last=False)

    def refresh(self, day: int, added: DayBounds) -> None:
        """Shows the newest commit of a day, which added events within these bounds."""
        with self._lock:
            opened = self._open.get(day)
            if opened is not None:
                opened.lines = LinesFile(self.path(day), opened.lines)  # first: what the index refers to must be there
                opened.index.reload()
        fresh = replace(added, events=self.searcher(day).num_docs)
        with self._lock:
            known = self._bounds.get(day)
            self._bounds[day] = known.extend(fresh) if known is not None else fresh

    def delete(self, day: int) -> None:
        """Deletes a day. Queries that run on it end undisturbed: the files live until they are closed."""
        with self._lock:
            self._open.pop(day, None)
            self._bounds.pop(day, None)
        path = self.path(day)
        if path.exists():
            trash = path.with_name(path.name + _TRASH)
            os.replace(path, trash)
            shutil.rmtree(trash)


def _measure(day: int, searcher: Searcher, lines: LinesFile) -> DayBounds:
    """Reads the bounds from the index; raises ValueError when the line of the first or last event is missing."""
    if not searcher.num_docs:
        return DayBounds(0, 0, 0, 0, 0)
    ids = [_find_end(searcher, "event_id", order) for order in (Order.Asc, Order.Desc)]
    times = [_find_end(searcher, "timestamp", order) for order in (Order.Asc, Order.Desc)]
    for event_id in ids:
        LinesReader(lines).get(event_id)
    return DayBounds(searcher.num_docs, *ids, *(time + day * DAY for time in times))


def _find_end(searcher: Searcher, field: str, order: Order) -> int:
    """Returns the least or greatest number of a field."""
    hits: list[Any] = searcher.search(Query.all_query(), limit=1, count=False, order_by_field=field, order=order).hits
    number: int = hits[0][0]
    return number
