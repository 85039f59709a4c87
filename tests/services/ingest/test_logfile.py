"""Which files are text, and in which encoding."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from hashlib import blake2b
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


@pytest.mark.parametrize("damage", [lambda body: body[: len(body) // 2], lambda body: body[:-3_000] + b"damaged" * 100], ids=["cut off", "overwritten"])
def test_a_damaged_compressed_file_is_read_as_far_as_it_goes(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    lines = [f"{blake2b(b'%d' % number).hexdigest()} INFO line {number}" for number in range(2_000)]
    path = tmp_path / "a.log.gz"
    path.write_bytes(damage(gzip.compress("\n".join(lines).encode())))
    *_, last = pieces = list(open_log_file(path).pieces())
    assert last.problem
    records = [record for piece in pieces for record in piece.records]
    assert records[:200] == lines[:200]
