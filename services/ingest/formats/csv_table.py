"""CSV with a header line: RFC 4180 quoting, columns separated by comma, semicolon, tab or bar.

A record is the header line and one row below it, so that it stands alone: `time,level\\n10:00,INFO`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from functools import lru_cache
from typing import Any, Final

from services.ingest.batch import Batch
from services.ingest.formats.base import single_lines
from services.ingest.formats.continuation import MAX_BYTES
from services.ingest.formats.fields import is_column, spread_fields, typed_value
from services.ingest.formats.plain import Plain
from services.ingest.timestamps import parse_timestamp

DELIMITERS: Final = ",;\t|"
MAX_COLUMNS: Final = 512
MAX_HEADER: Final = 16_384
"""Characters of a header line: it is repeated in front of each row."""
MAX_QUOTED_LINES: Final = 200
"""Lines that one row with line ends inside its quotes may have; beyond it the quote is taken to be text."""
FIRST_CELLS: Final = 4
"""Cells that are looked at for a time when no column is named as one."""
SURPLUS: Final = "csv.surplus"
"""Attribute of the cells of a row that has more of them than the header."""

_NAME = re.compile(r"[A-Za-z_@#][\w@#%/().: -]{0,63}", re.ASCII)
_CELLS: Final = {delimiter: re.compile(rf'(?:"([^"]*+(?:""[^"]*+)*+)"|([^{delimiter}]*))({re.escape(delimiter)}|$)') for delimiter in DELIMITERS}
# The same without the last quote: a cell that is not closed.
_OPEN: Final = {
    delimiter: re.compile(rf'"[^"]*+(?:""[^"]*+)*+\Z|"[^"]*+(?:""[^"]*+)*+"(?:{re.escape(delimiter)}|\Z)|[^{delimiter}]*(?:{re.escape(delimiter)}|\Z)')
    for delimiter in DELIMITERS
}
_VALUE = re.compile(r"[-+]?\d[\d.,:/T Z+-]*", re.ASCII)
_CLOCK = re.compile(r"\d{1,2}:\d{2}:\d{2}\S*", re.ASCII)
_PLAIN: Final = Plain()


class Header:
    """The columns of a table."""

    __slots__ = ("clock", "date", "delimiter", "names")

    def __init__(self, delimiter: str, names: tuple[str, ...]) -> None:
        self.delimiter = delimiter
        self.names = names
        lower = {name.lower(): name for name in names}
        self.date = lower.get("date", "")
        self.clock = lower.get("time", "")


class CsvTable:
    """Rows below a line of column names."""

    name = "csv"
    system = ""

    def detect(self, lines: Sequence[str]) -> float:
        """Returns the share of rows as wide as the header; 0 without a header that names a column or stands above values."""
        filled = [line for line in lines if line and not line.isspace()]
        header = read_header(filled[0]) if filled else None
        if header is None:
            return 0.0
        rows = [line for line in filled if line != filled[0]]
        if not rows:
            return 0.0
        cells = [cut_cells(row, header.delimiter) for row in rows]
        width = len(header.names)
        share = sum(1 for row in cells if len(row) == width) / len(rows)
        if any(is_column(name) for name in header.names):
            return 0.94 * share
        # Without a known name: a column whose cells are all numbers or times tells a header from prose with commas.
        values = any(all(len(row) == width and _VALUE.fullmatch(row[column]) for row in cells) for column in range(width))
        return 0.6 * share if values and width > 2 else 0.0

    def split(self, lines: Iterable[str]) -> list[str]:
        """Returns each row with the header in front of it; without a header, the lines that are not blank.

        A quoted cell may hold line ends. A quote that is not closed within MAX_QUOTED_LINES is text. A header alone is a record.
        """
        rows = single_lines(lines)
        header = read_header(rows[0]) if rows else None
        if header is None:
            return rows
        top = rows[0]
        records: list[str] = []
        position = 1
        while position < len(rows):
            row = rows[position]
            position += 1
            if row == top:
                continue
            if '"' in row and _is_open(row, header.delimiter):
                row, position = _close_quote(rows, position, header)
            records.append(f"{top}\n{row}")
        return records or [top]

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Spreads the cells of each row over the columns and attributes, under the names of the header.

        The body becomes the message column, or the row. A record that has no header is read as plain text.
        """
        matched = 0
        headless: list[int] = []
        bodies = batch.body
        for row in rows:
            top, newline, line = bodies[row].partition("\n")
            header = read_header(top) if newline else None
            if header is None:
                headless.append(row)
                continue
            matched += 1
            bodies[row] = line
            spread_fields(batch, row, _name_cells(header, line), zone)
            if not batch.timestamp[row]:
                batch.timestamp[row] = _find_time(line, header.delimiter, zone)
        if headless:
            matched += _PLAIN.parse(batch, headless, zone)
        return matched


@lru_cache(maxsize=256)
def read_header(line: str) -> Header | None:
    """Returns the columns that a line names, or None when it is no header: two or more different names, none of them a value."""
    if len(line) > MAX_HEADER:
        return None
    line = line.removeprefix("\ufeff")
    delimiter = max(DELIMITERS, key=line.count)
    if not line.count(delimiter):
        return None
    names = tuple(cut_cells(line, delimiter))
    if not 2 <= len(names) <= MAX_COLUMNS or len({name.lower() for name in names}) < len(names):
        return None
    if not all(_NAME.fullmatch(name) and name[-1] != " " for name in names):
        return None
    return Header(delimiter, names)


def cut_cells(row: str, delimiter: str) -> list[str]:
    """Returns the cells of a row, unquoted; a quote that is not closed is text."""
    if '"' not in row:
        return row.split(delimiter)
    cells: list[str] = []
    match = _CELLS[delimiter].match
    position = 0
    while (cell := match(row, position)) is not None:
        quoted, bare, end = cell.groups()
        cells.append(bare if quoted is None else quoted.replace('""', '"'))
        position = cell.end()
        if not end:
            break
    return cells


def _is_open(row: str, delimiter: str) -> bool:
    """Returns whether the last cell of the text is quoted and not closed."""
    match = _OPEN[delimiter].match
    position = 0
    while position < len(row):
        cell = match(row, position)
        if cell is None or cell.end() == position:
            return False
        if cell.end() == len(row):
            text = cell.group()
            return text[0] == '"' and text.count('"') % 2 == 1
        position = cell.end()
    return False


def _close_quote(rows: Sequence[str], position: int, header: Header) -> tuple[str, int]:
    """Joins the rows from `position` to the one that closes the quote of the row in front of it; returns the row and the next position.

    The last text of the input may go on later, so there the rows stay joined unless each is a whole row of its own.
    """
    first = rows[position - 1]
    size = len(first)
    for end in range(position, min(position + MAX_QUOTED_LINES, len(rows))):
        size += len(rows[end]) + 1
        if size > MAX_BYTES // 4:
            return first, position
        if rows[end].count('"') % 2:
            return "\n".join(rows[position - 1 : end + 1]), end + 1
    following = rows[position:]
    if len(following) >= MAX_QUOTED_LINES or all(len(cut_cells(row, header.delimiter)) == len(header.names) for row in following):
        return first, position
    return "\n".join([first, *following]), len(rows)


def _find_time(line: str, delimiter: str, zone: tzinfo) -> int:
    """Returns the first time of day with its date among the first cells, whatever their columns are called; or 0."""
    for cell in line[:200].split(delimiter)[:FIRST_CELLS]:
        if ":" in cell and (nanos := parse_timestamp(cell.strip('"'), zone)):
            return nanos
    return 0


def _name_cells(header: Header, line: str) -> dict[str, Any]:
    """Returns the filled cells of a row by the names of their columns; a date and a time of day become one `timestamp`."""
    cells = cut_cells(line, header.delimiter)
    fields: dict[str, Any] = {name: typed_value(cell) for name, cell in zip(header.names, cells, strict=False) if cell}
    if len(cells) > len(header.names):
        fields[SURPLUS] = cells[len(header.names) :]
    if header.date and header.clock:
        day, clock = fields.get(header.date), fields.get(header.clock)
        if isinstance(clock, str) and day is not None and _CLOCK.fullmatch(clock):
            del fields[header.date], fields[header.clock]
            fields["timestamp"] = f"{day} {clock}"
    return fields
