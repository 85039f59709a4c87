"""Lines beside the index come back as they were, also after a crash in the middle of writing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.search.engines.tantivy.lines_file import CHUNK_BYTES, LinesFile, LinesReader, LinesWriter


def numbered(first: int, count: int) -> list[str]:
    return [f'{{"number":{number},"text":"{"ü" * (number % 300)}"}}' for number in range(first, first + count)]


def add(writer: LinesWriter, lines: list[str]) -> int:
    row = writer.rows
    writer.add(lines, sum(len(line.encode()) for line in lines))
    return row


def read_all(folder: Path, rows: int) -> list[str]:
    reader = LinesReader(LinesFile(folder))
    return [reader.get(row).decode() for row in range(rows)]


def test_rows_are_given_one_after_the_other_over_frames_and_restarts(tmp_path: Path) -> None:
    lines = numbered(0, 2_000)
    writer = LinesWriter(tmp_path)
    assert [add(writer, lines[start : start + 70]) for start in range(0, 1_400, 70)] == list(range(0, 1_400, 70))
    writer.sync()
    assert read_all(tmp_path, 1_400) == lines[:1_400]
    writer = LinesWriter(tmp_path)
    assert add(writer, lines[1_400:]) == 1_400
    writer.sync()
    assert read_all(tmp_path, 2_000) == lines
    assert (tmp_path / "lines").stat().st_size < sum(map(len, lines)) / 2


def test_a_line_larger_than_a_frame_is_kept(tmp_path: Path) -> None:
    lines = ["a", "b" * (5 * CHUNK_BYTES), "c"]
    writer = LinesWriter(tmp_path)
    add(writer, lines)
    writer.sync()
    assert read_all(tmp_path, 3) == lines


def test_a_row_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    LinesWriter(tmp_path).sync()
    with pytest.raises(ValueError, match="end before row 0"):
        LinesReader(LinesFile(tmp_path)).get(0)


@pytest.mark.parametrize(("file", "lost"), [("lines", 7), ("lines.table", 5), ("lines.table", 16), ("lines", -7), ("lines.table", -5)])
def test_a_torn_end_is_cut_off_and_what_was_synced_before_stays(tmp_path: Path, file: str, lost: int) -> None:
    lines = numbered(0, 900)
    writer = LinesWriter(tmp_path)
    add(writer, lines[:300])
    writer.sync()
    add(writer, lines[300:600])
    writer.sync()
    path = tmp_path / file
    if lost > 0:
        os.truncate(path, path.stat().st_size - lost)
    else:
        path.write_bytes(path.read_bytes() + b"x" * -lost)
    writer = LinesWriter(tmp_path)
    row = add(writer, lines[600:])
    writer.sync()
    assert 300 <= row <= 600
    assert read_all(tmp_path, row + 300) == [*lines[:row], *lines[600:]]
    assert (row == 600) == (lost < 0)


def test_a_damaged_frame_is_an_error_and_not_other_lines(tmp_path: Path) -> None:
    writer = LinesWriter(tmp_path)
    add(writer, numbered(0, 50))
    writer.sync()
    path = tmp_path / "lines"
    path.write_bytes(b"\x00" * path.stat().st_size)
    with pytest.raises(ValueError, match="damaged"):
        LinesReader(LinesFile(tmp_path)).get(3)
