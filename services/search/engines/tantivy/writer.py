"""Writing: one writer per day that receives events, committed together. All of it runs on one thread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import structlog
from tantivy import FieldType, Occur, Query, Schema

from services.search.engine import LineBlock
from services.search.engines.tantivy.days import DayBounds, Days
from services.search.engines.tantivy.documents import make_documents
from services.search.engines.tantivy.lines_file import LinesWriter
from services.search.engines.tantivy.schema import open_index
from services.search.lines import ORDINAL_BITS, decompress_lines

log = structlog.get_logger()

_BAD_DOCUMENT = ("The provided string is not valid JSON", "The field ")
"""How Tantivy's errors about a single document begin; every other error is about the index."""


@dataclass(slots=True)
class _DayWriter:
    """The writer of a day and what it took in since the last commit."""

    writer: Any
    lines: LinesWriter
    blocks: set[int] = field(default_factory=set)
    added: DayBounds | None = None
    used_at: float = field(default_factory=monotonic)


class Writers:
    """The open writers. Each day is in one commit or another as a whole block: a block is in its index or not."""

    def __init__(self, days: Days, schema: Schema, *, heap_bytes: int, threads: int, most_open: int, idle_seconds: float) -> None:
        self._days = days
        self._schema = schema
        self._heap_bytes = heap_bytes
        self._threads = threads
        self._most_open = most_open
        self._idle_seconds = idle_seconds
        self._writers: dict[int, _DayWriter] = {}

    def add(self, block: LineBlock) -> int:
        """Takes a block in unless its day has it already; returns how many events are new."""
        day = self._writers.get(block.day)
        if (day is not None and block.id in day.blocks) or self._holds(block):
            return 0
        if day is None:
            day = self._open(block.day)
        content = decompress_lines(block.lines)
        documents = make_documents(content, block.day)
        refused = documents.refused + _add(day.writer, documents.texts)
        day.lines.add(content)
        if refused:
            log.error("lines not indexed: not canonical", block=block.id, lines=refused)
        if documents.timestamps:
            first, last = _ids_of(block)
            added = DayBounds(0, first, last, min(documents.timestamps), max(documents.timestamps))
            day.added = day.added.extend(added) if day.added else added
        day.blocks.add(block.id)
        day.used_at = monotonic()
        return len(documents.timestamps) + documents.refused - refused

    def commit(self) -> None:
        """Makes durable and visible what was taken in; closes writers that were idle for long."""
        for number, day in list(self._writers.items()):
            if day.blocks:
                self._commit_day(number, day)
            elif monotonic() - day.used_at > self._idle_seconds:
                self._close_day(number)

    def rollback(self) -> None:
        """Closes the writers at once; what was not committed is forgotten."""
        self._writers.clear()

    def delete_day(self, day: int) -> None:
        """Deletes a day's index."""
        self._writers.pop(day, None)
        self._days.delete(day)

    def forget(self, number: int, sources: Sequence[str], observed_before: int) -> None:
        """Deletes and commits what of a day came from these sources before a moment; a day of which nothing is left goes whole."""
        bounds = self._days.bounds(number)
        if bounds is None:
            return
        day = self._writers.get(number) or self._open(number)
        theirs = Query.term_set_query(self._schema, "source", list(sources))
        earlier = Query.range_query(self._schema, "observed_at", FieldType.Integer, -(2**63), observed_before, include_upper=False)
        day.writer.delete_documents_by_query(Query.boolean_query([(Occur.Must, theirs), (Occur.Must, earlier)]))
        self._commit_day(number, day)
        self._days.refresh(number, bounds)
        if not self._days.searcher(number).num_docs:
            self.delete_day(number)

    def _open(self, day: int) -> _DayWriter:
        if len(self._writers) >= self._most_open:
            oldest = min(self._writers, key=lambda number: self._writers[number].used_at)
            if self._writers[oldest].blocks:
                self._commit_day(oldest, self._writers[oldest])
            self._close_day(oldest)
        path: Path = self._days.path(day)
        path.mkdir(parents=True, exist_ok=True)
        index = open_index(self._schema, path)
        writer = index.writer(heap_size=self._heap_bytes * self._threads, num_threads=self._threads)
        opened = self._writers[day] = _DayWriter(writer, LinesWriter(path))
        return opened

    def _commit_day(self, number: int, day: _DayWriter) -> None:
        day.lines.sync()
        day.writer.commit()
        if day.added is not None:
            self._days.refresh(number, day.added)
        day.blocks.clear()
        day.added = None

    def _close_day(self, number: int) -> None:
        day = self._writers.pop(number)
        day.writer.wait_merging_threads()

    def _holds(self, block: LineBlock) -> bool:
        """Says whether the committed index has events of a block."""
        first, last = _ids_of(block)
        bounds = self._days.bounds(block.day)
        if bounds is None or last < bounds.first_id or first > bounds.last_id:
            return False
        query = Query.range_query(self._schema, "event_id", FieldType.Unsigned, first, last)
        return bool(self._days.searcher(block.day).search(query, limit=1, count=False, order_by_field="event_id").hits)


def _ids_of(block: LineBlock) -> tuple[int, int]:
    """Returns the first and last id that events of a block can have."""
    return block.id << ORDINAL_BITS, ((block.id + 1) << ORDINAL_BITS) - 1


def _add(writer: Any, texts: Iterable[str]) -> int:
    """Adds documents; returns how many of them Tantivy refused. No retry would change what these are."""
    refused = 0
    add_json = writer.add_json
    for text in texts:
        try:
            add_json(text)
        except ValueError as error:
            if not str(error).startswith(_BAD_DOCUMENT):
                raise
            refused += 1
    return refused
