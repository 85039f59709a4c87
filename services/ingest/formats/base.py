"""What a log format is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Any, Protocol, runtime_checkable

from services.ingest.batch import Batch
from services.ingest.timestamps import Layout, parse_stamps


class Format(Protocol):
    """One log format: recognises its text, cuts it into records, and turns records into columns.

    Formats hold no state between calls and read no settings, so that every replica gives the same answer.
    """

    name: str
    """Name in settings, `sourcetype` and GraphQL, for example `hana_trace`."""
    system: str
    """System kind that this format implies (`sap`), or empty when it says nothing about it."""

    def detect(self, lines: Sequence[str]) -> float:
        """Returns how sure the format is that these raw lines are its own, 0 to 1."""
        ...

    def split(self, lines: Iterable[str]) -> list[str]:
        """Joins raw lines into records.

        Each record stands alone: a stateful format (a stamp line that holds for the lines below it) repeats
        the stamp in front of each record. Single-line formats return the lines that are not blank.
        """
        ...

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Moves what it understands of `batch.body[row]` into the other columns, for the given rows.

        Columns that the sender filled itself (a non-zero timestamp, a non-empty host) are kept.
        Local times are taken in `zone`. A row that does not match is left as it is.
        Returns the number of rows that matched.
        """
        ...


def single_lines(lines: Iterable[str]) -> list[str]:
    """Returns the lines that are not blank, without their line ends: the records of a single-line format."""
    return [line.rstrip("\r\n") for line in lines if line and not line.isspace()]


def matching_share(lines: Sequence[str], pattern: re.Pattern[str]) -> float:
    """Returns the share of the non-blank lines at whose start `pattern` matches, 0 to 1."""
    filled = [line for line in lines if line and not line.isspace()]
    if not filled:
        return 0.0
    match = pattern.match
    return sum(1 for line in filled if match(line)) / len(filled)


def add_attributes(batch: Batch, row: int, found: dict[str, Any]) -> None:
    """Adds attributes that a format found; what the sender set itself under the same name stays. `found` becomes the batch's own."""
    present = batch.attributes[row]
    if present:
        found |= present
    if found:
        batch.attributes[row] = found


def fill_times(batch: Batch, rows: Sequence[int], lines: Sequence[tuple[str, ...]], group: int, layout: Layout, zone: tzinfo) -> None:
    """Fills the times of the rows that have none from a group of their lines, a text of the given layout; an empty text is none."""
    column = batch.timestamp
    blank = [number for number, row in enumerate(rows) if not column[row]]
    if blank:
        for number, nanos in zip(blank, parse_stamps([lines[number][group] for number in blank], layout, zone), strict=True):
            column[rows[number]] = nanos


def parse_rows(log_format: Format, rest: Format, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
    """Parses rows by a format, and by `rest` those that it leaves as they are: a line of another kind keeps its time and level too.

    Returns the number of rows that the format itself understood.
    """
    columns: tuple[list[Any], ...] = (batch.body, batch.attributes, batch.timestamp, batch.severity_number)
    before = [[column[row] for row in rows] for column in columns]
    understood = log_format.parse(batch, rows, zone)
    if understood < len(rows) and log_format is not rest:
        left = [row for row, *values in zip(rows, *before, strict=True) if all(column[row] is value for column, value in zip(columns, values, strict=True))]
        rest.parse(batch, left, zone)
    return understood


@runtime_checkable
class FixedRecords(Protocol):
    """A format whose records have a fixed length and need no line ends between them."""

    record_characters: int
