"""Lines beside the index come back as they were, also after a crash in the middle of writing."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest
import zstandard

from services.search.engines.tantivy import lines_file
from services.search.engines.tantivy.lines_file import CHUNK_BYTES, SAMPLE_BYTES, LinesFile, LinesReader, LinesWriter

BLOCK = 1 << 20
"""Distance of the ids of two blocks."""


def numbered(block: int, count: int, first: int = 0) -> dict[int, bytes]:
    ids = range(block * BLOCK + first, block * BLOCK + first + count)
    return {event_id: b'{"event_id":%d,"text":"%s"}' % (event_id, "ü".encode() * (event_id % 300)) for event_id in ids}


def similar(block: int, count: int, what: str) -> dict[int, bytes]:
    """Lines of a few hundred kinds, as those of one source are."""
    kinds = [Random(f"{what} {kind}").randbytes(150).hex().encode() for kind in range(300)]
    chance = Random(block)
    return {block * BLOCK + n: b'{"event_id":%d,"body":"%s"}' % (block * BLOCK + n, chance.choice(kinds)) for n in range(count)}


def join(lines: dict[int, bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines.values())


def read_all(folder: Path, lines: dict[int, bytes]) -> dict[int, bytes]:
    reader = LinesReader(LinesFile(folder))
    return {event_id: reader.get(event_id) for event_id in lines}


def test_lines_are_found_by_id_over_frames_blocks_in_any_order_and_restarts(tmp_path: Path) -> None:
    blocks = {block: numbered(block, count) for block, count in ((7, 700), (3, 1), (4, 2), (900, 300), (5, 40))}
    writer = LinesWriter(tmp_path)
    for block in blocks.values():
        writer.add(join(block))
    writer.sync()
    blocks[1] = numbered(1, 500)
    writer = LinesWriter(tmp_path)
    writer.add(join(blocks[1]))
    writer.sync()
    lines = {event_id: line for block in blocks.values() for event_id, line in block.items()}
    assert read_all(tmp_path, lines) == lines
    assert (tmp_path / "lines").stat().st_size < len(join(lines)) / 2


def test_lines_are_found_where_a_block_has_gaps_and_lines_that_are_none(tmp_path: Path) -> None:
    lines = {event_id: line for event_id, line in numbered(2, 900).items() if event_id % 7}
    writer = LinesWriter(tmp_path)
    writer.add(b"{\xff\n\n" + join(lines))
    writer.add(b"nothing\n")
    writer.sync()
    assert read_all(tmp_path, lines) == lines


def test_a_line_larger_than_a_frame_is_kept(tmp_path: Path) -> None:
    lines = {
        BLOCK: b'{"event_id":%d,' % BLOCK,
        BLOCK + 1: b'{"event_id":%d,' % (BLOCK + 1) + b"b" * (5 * CHUNK_BYTES),
        BLOCK + 2: b'{"event_id":%d,' % (BLOCK + 2),
    }
    writer = LinesWriter(tmp_path)
    writer.add(join(lines))
    writer.sync()
    assert read_all(tmp_path, lines) == lines


def test_an_event_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    writer = LinesWriter(tmp_path)
    writer.sync()
    with pytest.raises(ValueError, match="do not have event 5"):
        LinesReader(LinesFile(tmp_path)).get(5)
    writer.add(join(numbered(1, 3)))
    writer.sync()
    for event_id in (BLOCK - 1, BLOCK + 3, 9 * BLOCK):
        with pytest.raises(ValueError, match=f"do not have event {event_id}"):
            LinesReader(LinesFile(tmp_path)).get(event_id)


@pytest.mark.parametrize(("file", "lost"), [("lines", 7), ("lines.table", 5), ("lines.table", 16), ("lines", -7), ("lines.table", -5)])
def test_a_torn_end_is_cut_off_and_what_was_synced_before_stays(tmp_path: Path, file: str, lost: int) -> None:
    blocks = [numbered(block, 300) for block in (1, 2, 3)]
    writer = LinesWriter(tmp_path)
    for block in blocks[:2]:
        writer.add(join(block))
        writer.sync()
    path = tmp_path / file
    if lost > 0:
        os.truncate(path, path.stat().st_size - lost)
    else:
        path.write_bytes(path.read_bytes() + b"x" * -lost)
    writer = LinesWriter(tmp_path)
    writer.add(join(blocks[2]))
    writer.sync()
    for block in (blocks[0], blocks[2], *([blocks[1]] if lost < 0 else [])):
        assert read_all(tmp_path, block) == block
    # What was lost was not committed: its block comes again, in whatever company.
    writer.add(join(numbered(4, 10)))
    writer.add(join(blocks[1]))
    writer.sync()
    assert read_all(tmp_path, blocks[1]) == blocks[1]


def test_a_damaged_frame_is_an_error_and_not_other_lines(tmp_path: Path) -> None:
    writer = LinesWriter(tmp_path)
    writer.add(join(numbered(1, 50)))
    writer.sync()
    path = tmp_path / "lines"
    path.write_bytes(b"\x00" * path.stat().st_size)
    with pytest.raises(ValueError, match="damaged"):
        LinesReader(LinesFile(tmp_path)).get(BLOCK + 3)


def test_dictionaries_make_frames_smaller_serve_after_a_restart_and_are_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_file, "RENEWAL_BYTES", SAMPLE_BYTES)
    written: dict[int, bytes] = {}
    sizes: list[int] = []
    for block, what in enumerate(["ssh"] * 5 + ["sap"] * 6, start=1):
        lines = similar(block, 1_500, what)
        if block in (1, 5):
            writer = LinesWriter(tmp_path)
        before = (tmp_path / "lines").stat().st_size
        writer.add(join(lines))
        writer.sync()
        sizes.append((tmp_path / "lines").stat().st_size - before)
        written |= lines
    assert sizes[4] < 0.7 * sizes[0]
    assert sizes[10] < 0.7 * sizes[5]
    file = LinesFile(tmp_path)
    frames = [next(file.locate(event_id)) for event_id in written]
    (tmp_path / "new.lines.dictionary.9").touch()  # as a crash may leave it
    LinesWriter(tmp_path).sync()
    assert {zstandard.get_frame_parameters(file.read(start, end)).dict_id for _, start, end in frames} >= {0, 1, 2}
    assert read_all(tmp_path, written) == written


def test_a_sample_that_makes_no_dictionary_is_no_error(tmp_path: Path) -> None:
    lines = {BLOCK + n: b'{"event_id":%d,"x":"%s"}' % (BLOCK + n, bytes([65 + n]) * (SAMPLE_BYTES // 3)) for n in range(5)}
    writer = LinesWriter(tmp_path)
    writer.add(join(lines))
    writer.sync()
    assert not list(tmp_path.glob("lines.dictionary.*"))
    assert read_all(tmp_path, lines) == lines
