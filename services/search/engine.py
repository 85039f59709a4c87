"""What search asks of an engine. Nothing above this interface knows which engine runs.

An engine holds canonical lines by UTC day and knows up to which position of the feed it has them. Blocks may come
more than once and in any order: an event is in the engine once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.search.selection import Selection

MILLISECOND = 1_000_000
DAY = 86_400_000_000_000
MAX_PAGE_BYTES = 16 * 1024 * 1024
"""Lines of a page; a first line of any size is given."""


@dataclass(frozen=True, slots=True)
class LineBlock:
    """A block of the feed: events of one day."""

    id: int
    day: int
    """Days since 1970."""
    lines: bytes
    """zstd of the canonical lines, LF after each."""


@dataclass(frozen=True, slots=True)
class Hit:
    """An event that was found."""

    timestamp: int
    event_id: int
    line: bytes


@dataclass(frozen=True, slots=True)
class Hits:
    """A page of events in order, and whether there are more after it."""

    events: list[Hit]
    more: bool


@dataclass(frozen=True, slots=True)
class Key:
    """Place of an event in every order that pages have."""

    timestamp: int
    event_id: int


@dataclass(frozen=True, slots=True)
class Grid:
    """Equal steps of time: bucket n covers [origin + n * width, origin + (n + 1) * width), nanoseconds, whole milliseconds."""

    origin: int
    width: int
    count: int

    @property
    def end(self) -> int:
        """End of the last bucket."""
        return self.origin + self.width * self.count


@dataclass(frozen=True, slots=True)
class ValueCounts:
    """Values of a field with their counts: most frequent first, equal counts by value; `other` counts the values left out."""

    values: tuple[tuple[str, int], ...]
    other: int


@dataclass(frozen=True, slots=True)
class DayState:
    """How many events of a day an engine holds."""

    day: int
    events: int


class Engine(Protocol):
    """A store of lines that answers selections."""

    @property
    def name(self) -> str:
        """Name of the engine."""

    @property
    def position(self) -> str:
        """Cursor of the feed up to which everything is durable and visible; empty before the first commit."""

    async def index(self, blocks: Sequence[LineBlock]) -> int:
        """Takes blocks in; returns how many events are new. They become durable and visible with `commit`."""

    async def commit(self, position: str) -> None:
        """Makes everything taken in so far durable and visible and remembers the position."""

    async def rollback(self) -> None:
        """Forgets what was taken in since the last commit."""

    async def delete_day(self, day: int) -> None:
        """Deletes the events of a day."""

    async def forget(self, day: int, sources: Sequence[str], observed_before: int) -> None:
        """Deletes the events of a day that came from these sources and were observed before a moment, nanoseconds since 1970."""

    async def days(self) -> list[DayState]:
        """Returns the days held, oldest first."""

    async def search(self, selection: Selection, *, newest_first: bool, limit: int, after: Key | None = None) -> Hits:
        """Returns events beyond `after`, ordered by (timestamp, event id).

        A page has at most `limit` of them, and fewer when their lines together would exceed MAX_PAGE_BYTES.
        """

    async def count(self, selection: Selection) -> int:
        """Returns how many events are selected."""

    async def get(self, event_id: int) -> bytes | None:
        """Returns the line of an event."""

    async def extent(self, selection: Selection) -> tuple[int, int] | None:
        """Returns the first and last timestamp of the selected events; None when there are none."""

    async def histogram(self, selection: Selection, grid: Grid) -> Mapping[int, int]:
        """Returns the counts of the buckets that are not empty, by bucket number. The selection lies inside the grid."""

    async def split_histogram(self, selection: Selection, grid: Grid, field: str, values: Sequence[str]) -> Mapping[str, Mapping[int, int]]:
        """Returns a histogram for each of the given values of a text field."""

    async def facets(self, selection: Selection, fields: Sequence[str], size: int) -> Mapping[str, ValueCounts]:
        """Returns the `size` most frequent values of each field (text fields, `attributes.PATH`).

        Counts are exact for fields of up to 1000 distinct values; of more, rare values may be missed.
        """
