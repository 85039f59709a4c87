"""Which files are text, and in which encoding."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.ingest.logfile import NotText, open_log_file

TEXT = "2026-11-24 06:00:00 INFO order 4711 accepted\n" * 3


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_text_is_read_in_its_encoding(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(TEXT.encode(encoding))
    records = [record for piece in open_log_file(path).pieces() for record in piece.records]
    assert records == TEXT.splitlines()


@pytest.mark.parametrize("content", [bytes(1000), bytes(range(256)) * 20], ids=["only zeros", "every byte"])
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(content)
    with pytest.raises(NotText, match="is a binary file"):
        open_log_file(path)
