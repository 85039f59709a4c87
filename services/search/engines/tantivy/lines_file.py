"""The canonical lines of a day beside its index: chunks of compressed lines, each line known by its row.

Tantivy would keep a line as a stored field: encoded as base64 inside of JSON, compressed in small pieces, and copied by
every merge. Here a line is written once. `lines` holds zstd frames of about 32 KiB of lines each; `lines.table` has two
64-bit numbers for each frame: the rows and the bytes up to its end.

Lines are durable before the commit of the index that refers to them. A crash in between leaves rows that nothing refers
to, and may leave a torn end, which the next writer cuts off.
"""

from __future__ import annotations

import mmap
import os
import struct
import weakref
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import zstandard

CHUNK_BYTES = 32 * 1024
"""Of lines in a frame: larger frames take less space, smaller ones less time to read one line."""
MAX_CHUNK_BYTES = 512 * 1024 * 1024
LEVEL = 1
_LINES = "lines"
_TABLE = "lines.table"
_ENTRY = struct.Struct("@QQ")
_KEPT_CHUNKS = 32
"""Decompressed frames that one page keeps: events that are neighbours in time are near each other here too."""


class LinesWriter:
    """Appends lines of a day. There is one for a day at a time."""

    def __init__(self, folder: Path) -> None:
        self._lines = os.open(folder / _LINES, os.O_RDWR | os.O_CREAT, 0o600)
        self._table = os.open(folder / _TABLE, os.O_RDWR | os.O_CREAT, 0o600)
        weakref.finalize(self, os.close, self._lines)
        weakref.finalize(self, os.close, self._table)
        self._compressor = zstandard.ZstdCompressor(level=LEVEL)
        self._pending: list[str] = []
        self._pending_bytes = 0
        self._table_size = os.fstat(self._table).st_size // _ENTRY.size * _ENTRY.size
        self._rows, self._size = self._last_entry()
        os.ftruncate(self._table, self._table_size)
        os.ftruncate(self._lines, self._size)

    @property
    def rows(self) -> int:
        """Row that the next line gets."""
        return self._rows + len(self._pending)

    def add(self, lines: Sequence[str], size: int) -> None:
        """Appends lines of together about `size` bytes."""
        self._pending += lines
        self._pending_bytes += size
        if self._pending_bytes >= CHUNK_BYTES:
            step = max(1, len(self._pending) * CHUNK_BYTES // self._pending_bytes)
            whole = len(self._pending) // step * step
            self._write([self._pending[start : start + step] for start in range(0, whole, step)])
            self._pending_bytes -= self._pending_bytes * whole // len(self._pending)
            del self._pending[:whole]

    def sync(self) -> None:
        """Makes everything durable that was added."""
        if self._pending:
            self._write([self._pending])
            self._pending, self._pending_bytes = [], 0
        os.fsync(self._lines)
        os.fsync(self._table)

    def _write(self, chunks: Sequence[Sequence[str]]) -> None:
        frames = [self._compressor.compress("\n".join(chunk).encode()) for chunk in chunks]
        _write_at(self._lines, b"".join(frames), self._size)
        table = b""
        for chunk, frame in zip(chunks, frames, strict=True):
            self._rows += len(chunk)
            self._size += len(frame)
            table += _ENTRY.pack(self._rows, self._size)
        _write_at(self._table, table, self._table_size)
        self._table_size += len(table)

    def _last_entry(self) -> tuple[int, int]:
        """Returns the rows and bytes that are whole; cuts the table where the lines did not get as far."""
        written = os.fstat(self._lines).st_size
        while self._table_size:
            rows, size = _ENTRY.unpack(os.pread(self._table, _ENTRY.size, self._table_size - _ENTRY.size))
            if size <= written:
                return rows, size
            self._table_size -= _ENTRY.size
        return 0, 0


class LinesFile:
    """The lines of a day as of some commit, for reading. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self._lines = os.open(folder / _LINES, os.O_RDONLY)
        weakref.finalize(self, os.close, self._lines)
        with (folder / _TABLE).open("rb") as file:
            size = os.fstat(file.fileno()).st_size // _ENTRY.size * _ENTRY.size
            # An empty file cannot be mapped.
            table = memoryview(mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) if size else b"").cast("Q")
        self._row_ends, self._ends = table[::2], table[1::2]

    @property
    def rows(self) -> int:
        """Lines that are whole on disk."""
        size = os.fstat(self._lines).st_size
        whole = bisect_right(self._ends, size)
        return self._row_ends[whole - 1] if whole else 0

    def locate(self, row: int) -> tuple[int, int]:
        """Returns the number of the chunk that has a row, and the place in it; raises ValueError when there is none."""
        chunk = bisect_right(self._row_ends, row)
        if chunk == len(self._ends):
            raise ValueError(f"the lines of the day end before row {row}")
        return chunk, row - (self._row_ends[chunk - 1] if chunk else 0)

    def read(self, chunk: int) -> bytes:
        """Returns a chunk as it is stored."""
        start = self._ends[chunk - 1] if chunk else 0
        return os.pread(self._lines, self._ends[chunk] - start, start)


class LinesReader:
    """Reads lines for one page."""

    def __init__(self, file: LinesFile) -> None:
        self._file = file
        self._decompressor = zstandard.ZstdDecompressor()
        self._chunks: OrderedDict[int, list[bytes]] = OrderedDict()

    def get(self, row: int) -> bytes:
        """Returns the line of a row; raises ValueError when it is not there or damaged."""
        chunk, place = self._file.locate(row)
        lines = self._chunks.get(chunk)
        if lines is None:
            lines = self._chunks[chunk] = self._read(chunk)
            if len(self._chunks) > _KEPT_CHUNKS:
                self._chunks.popitem(last=False)
        return lines[place]

    def _read(self, chunk: int) -> list[bytes]:
        try:
            return self._decompressor.decompress(self._file.read(chunk), max_output_size=MAX_CHUNK_BYTES).split(b"\n")
        except zstandard.ZstdError as error:
            raise ValueError(f"chunk {chunk} of the lines of the day is damaged: {error}") from error


def _write_at(descriptor: int, content: bytes, offset: int) -> None:
    """Writes all of it; raises OSError when the disk does not take it."""
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
