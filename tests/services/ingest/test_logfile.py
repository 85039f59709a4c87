"""Log files, read in pieces."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import InvalidArgument, NotFound
from services.ingest import logfile
from services.ingest.logfile import NotText, open_log_file

TRACE = "\n".join(
    f"2026-11-24 06:00:{second:02d},000 ERROR [main] orders: order {second} failed\njava.lang.IllegalStateException: no\n\tat shop.Orders.post(Orders.java:42)"
    for second in range(60)
)


def records_of(path: Path) -> list[str]:
    """Returns every record of a file."""
    return [record for piece in open_log_file(path).pieces() for record in piece.records]


@pytest.mark.parametrize("piece", [10, 100, 1000, 100_000])
def test_a_record_is_whole_wherever_a_piece_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    path = tmp_path / "app.log"
    path.write_text(TRACE)
    monkeypatch.setattr(logfile, "PIECE_BYTES", piece)
    records = records_of(path)
    assert len(records) == 60
    assert "\n".join(records) == TRACE


def test_gzip_and_utf16_are_read_as_their_text(tmp_path: Path) -> None:
    plain, packed, wide = tmp_path / "a.log", tmp_path / "a.log.gz", tmp_path / "wide.log"
    plain.write_text(TRACE)
    packed.write_bytes(gzip.compress(TRACE.encode()))
    wide.write_bytes(TRACE.encode("utf-16"))
    assert records_of(plain) == records_of(packed) == records_of(wide)


@given(
    st.lists(st.text(alphabet=st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1).filter(lambda text: not text.isspace()), max_size=30),
    st.integers(1, 50),
)
def test_single_lines_survive_any_cut(tmp_path_factory: pytest.TempPathFactory, lines: list[str], piece: int) -> None:
    lines = [f"2026-11-24T06:00:00Z INFO {line}" for line in lines]
    path = tmp_path_factory.mktemp("cut") / "a.log"
    path.write_text("\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logfile, "PIECE_BYTES", piece)
        assert records_of(path) == lines


def test_a_line_that_is_too_long_is_counted_and_its_neighbours_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfile, "PIECE_BYTES", 1000)
    monkeypatch.setattr(logfile, "MAX_LINE_CHARACTERS", 2000)
    path = tmp_path / "a.log"
    path.write_text("2026-11-24T06:00:00Z INFO before\n" + "x" * 10_000 + "\n2026-11-24T06:00:01Z INFO after\n")
    pieces = list(open_log_file(path).pieces())
    assert sum(piece.oversize for piece in pieces) == 1
    assert [record[-6:] for piece in pieces for record in piece.records] == ["before", " after"]


def test_sap_audit_records_need_no_line_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = "2AU120211116085901000779800001D1PC-1    SAP*        SESSION_MANAGER     SAPMSYST                                0011A&0".ljust(200)
    path = tmp_path / "audit"
    path.write_bytes((record * 40).encode("utf-16-le"))
    monkeypatch.setattr(logfile, "PIECE_BYTES", 1_111)
    monkeypatch.setattr(logfile, "MAX_LINE_CHARACTERS", 1_500)
    assert open_log_file(path).format.name == "sap_audit_log"
    assert len(records_of(path)) == 40


def test_what_is_no_log_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "a.bin"
    binary.write_bytes(bytes(range(256)) * 10)
    with pytest.raises(NotText, match="binary"):
        open_log_file(binary)
    with pytest.raises(NotFound, match="there is no file"):
        open_log_file(tmp_path / "none")
    with pytest.raises(InvalidArgument, match="folder"):
        open_log_file(tmp_path)
    broken = tmp_path / "a.gz"
    broken.write_bytes(b"\x1f\x8bnonsense")
    with pytest.raises(InvalidArgument, match="cannot be read"):
        open_log_file(broken)
