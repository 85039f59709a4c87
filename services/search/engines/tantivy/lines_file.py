"""The canonical lines of a day beside its index: frames of compressed lines, found by the ids of their events.

Tantivy would keep a line as a stored field: encoded as base64 inside of JSON, compressed in small pieces, and copied by
every merge. Here a line is written once. `lines` holds zstd frames of about 32 KiB of lines each; `lines.table` has two
64-bit numbers for each run of lines of one block: the id of its first event and the end of the frame that it is in.

Frames this small share little. They are therefore compressed with a dictionary that is made from lines of the day
(`lines.dictionary.N`; a frame names the one it needs, or none), and now and then made anew, because sources come and go.

Lines are durable before the commit of the index that refers to them. A crash in between leaves lines that nothing
refers to, and may leave a torn end, which the next writer cuts off.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
import weakref
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import zstandard

from services.search.lines import ORDINAL_BITS

CHUNK_BYTES = 32 * 1024
"""Of lines in a frame: larger frames take less space, smaller ones less time to read one line."""
MAX_CHUNK_BYTES = 512 * 1024 * 1024
SAMPLE_BYTES = 1024 * 1024
"""Lines that a dictionary is made from."""
DICTIONARY_BYTES = 64 * 1024
RENEWAL_BYTES = 64 * 1024 * 1024
"""Lines for which a dictionary serves."""
LEVEL = 1
_LINES = "lines"
_TABLE = "lines.table"
_DICTIONARY = "lines.dictionary."
_ENTRY = struct.Struct("@QQ")
_FIRST_EVENT = re.compile(rb'^\{"event_id":(\d+),', re.MULTILINE)
_KEPT_CHUNKS = 32
"""Decompressed frames that one page keeps: events that are neighbours in time are near each other here too."""


class LinesWriter:
    """Appends lines of a day. There is one for a day at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines = os.open(folder / _LINES, os.O_RDWR | os.O_CREAT, 0o600)
        self._table = os.open(folder / _TABLE, os.O_RDWR | os.O_CREAT, 0o600)
        weakref.finalize(self, os.close, self._lines)
        weakref.finalize(self, os.close, self._table)
        self._pending: list[tuple[int, bytes]] = []
        self._pending_bytes = 0
        self._table_size = os.fstat(self._table).st_size // _ENTRY.size * _ENTRY.size
        self._size = self._last_end()
        os.ftruncate(self._table, self._table_size)
        os.ftruncate(self._lines, self._size)
        self._dictionary = max((int(path.name.removeprefix(_DICTIONARY)) for path in folder.glob(f"{_DICTIONARY}[0-9]*")), default=0)
        self._compressor = _create_compressor(_read_dictionary(folder, self._dictionary))
        self._sample: list[bytes] = []
        self._bytes_to_sample = -RENEWAL_BYTES if self._dictionary else 0
        """Bytes of the sample; as long as they are negative, how many bytes of lines are passed over before it."""

    def add(self, content: bytes) -> None:
        """Appends lines of one block, LF after each, or of a part of it."""
        start = 0
        while start < len(content):
            end = content.find(b"\n", start + CHUNK_BYTES - self._pending_bytes) + 1 or len(content)
            run = content[start:end]
            first = _FIRST_EVENT.search(run)
            if first is not None:  # nothing refers to lines that are not canonical
                self._pending.append((int(first[1]), run))
                self._pending_bytes += len(run)
                if self._pending_bytes >= CHUNK_BYTES:
                    self._write()
            start = end

    def sync(self) -> None:
        """Makes everything durable that was added."""
        if self._pending:
            self._write()
        os.fsync(self._lines)
        os.fsync(self._table)

    def _write(self) -> None:
        chunk = b"".join([run for _, run in self._pending])
        frame = self._compressor.compress(chunk)
        _write_at(self._lines, frame, self._size)
        self._size += len(frame)
        table = b"".join([_ENTRY.pack(first, self._size) for first, _ in self._pending])
        _write_at(self._table, table, self._table_size)
        self._table_size += len(table)
        self._pending, self._pending_bytes = [], 0
        self._learn(chunk)

    def _learn(self, chunk: bytes) -> None:
        """Takes lines as part of a sample; makes a dictionary when the sample is large enough."""
        self._bytes_to_sample += len(chunk)
        if self._bytes_to_sample <= 0:
            return
        self._sample.append(chunk)
        if self._bytes_to_sample < SAMPLE_BYTES:
            return
        lines: list[bytes | bytearray | memoryview] = [*b"".join(self._sample).splitlines()]
        self._sample, self._bytes_to_sample = [], -RENEWAL_BYTES
        try:
            # Parameters that need no search for better ones: 9 ms instead of 60 for frames of the same size.
            dictionary = zstandard.train_dictionary(DICTIONARY_BYTES, lines, k=1024, d=6, f=18, accel=1, level=LEVEL, dict_id=self._dictionary + 1)
        except zstandard.ZstdError:
            return  # few and long lines: frames as large as they make need no dictionary
        self._dictionary += 1
        _write_durably(self._folder / f"{_DICTIONARY}{self._dictionary}", dictionary.as_bytes())
        self._compressor = _create_compressor(dictionary)

    def _last_end(self) -> int:
        """Returns the bytes of lines that are whole; cuts the table where the lines did not get as far."""
        written = os.fstat(self._lines).st_size
        while self._table_size:
            _, end = _ENTRY.unpack(os.pread(self._table, _ENTRY.size, self._table_size - _ENTRY.size))
            if end <= written:
                return int(end)
            self._table_size -= _ENTRY.size
        return 0


class LinesFile:
    """The lines of a day as of some commit, for reading. Safe to use from several threads."""

    def __init__(self, folder: Path, before: LinesFile | None = None) -> None:
        """Opens the lines; takes over the dictionaries that were read for the commit before."""
        self._folder = folder
        self._lines = os.open(folder / _LINES, os.O_RDONLY)
        weakref.finalize(self, os.close, self._lines)
        self._dictionaries: dict[int, zstandard.ZstdCompressionDict | None] = before._dictionaries if before else {}
        with (folder / _TABLE).open("rb") as file:
            size = os.fstat(file.fileno()).st_size // _ENTRY.size * _ENTRY.size
            # An empty file cannot be mapped.
            self._table = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) if size else b""

    @cached_property
    def _runs(self) -> tuple[memoryview, memoryview, memoryview]:
        """The runs of lines by id, those of one id in the order in which they were written: first ids, starts and ends of their frames."""
        table = np.frombuffer(self._table, dtype=np.uint64)
        ids, ends = table[::2], table[1::2]
        before = np.concatenate((np.zeros(1, np.uint64), ends))[:-1]
        starts = np.maximum.accumulate(np.where(before < ends, before, 0))  # runs of one frame have one end
        order = np.argsort(ids, kind="stable")
        return ids[order].data, starts[order].data, ends[order].data

    def locate(self, event_id: int) -> Iterator[tuple[int, int, int]]:
        """Yields first ids of runs that may have an event, and the starts and ends of their frames, the likeliest first.

        It is in the first, unless a crash made its block come twice.
        """
        ids, starts, ends = self._runs
        place = bisect_right(ids, event_id) - 1
        while place >= 0 and ids[place] >> ORDINAL_BITS == event_id >> ORDINAL_BITS:
            yield ids[place], starts[place], ends[place]
            place -= 1

    def read(self, start: int, end: int) -> bytes:
        """Returns a frame as it is stored."""
        return os.pread(self._lines, end - start, start)

    def dictionary(self, number: int) -> zstandard.ZstdCompressionDict | None:
        """Returns the dictionary of a number; 0 is none."""
        if number not in self._dictionaries:
            self._dictionaries[number] = _read_dictionary(self._folder, number)
        return self._dictionaries[number]


class LinesReader:
    """Reads lines for one page."""

    def __init__(self, file: LinesFile) -> None:
        self._file = file
        self._decompressors: dict[int, zstandard.ZstdDecompressor] = {}
        self._chunks: OrderedDict[int, list[bytes]] = OrderedDict()

    def get(self, event_id: int) -> bytes:
        """Returns the line of an event; raises ValueError when it is not there or damaged, OSError when a file is missing."""
        head = b'{"event_id":%d,' % event_id
        for first_id, start, end in self._file.locate(event_id):
            lines = self._chunks.get(start)
            if lines is None:
                lines = self._chunks[start] = self._read(start, end)
                if len(self._chunks) > _KEPT_CHUNKS:
                    self._chunks.popitem(last=False)
            likely = event_id - first_id
            if likely < len(lines) and lines[likely].startswith(head):
                return lines[likely]
            line = next((line for line in lines if line.startswith(head)), None)
            if line is not None:
                return line
        raise ValueError(f"the lines of the day do not have event {event_id}")

    def _read(self, start: int, end: int) -> list[bytes]:
        """Returns the lines of a frame."""
        frame = self._file.read(start, end)
        try:
            number = zstandard.get_frame_parameters(frame).dict_id
            decompressor = self._decompressors.get(number)
            if decompressor is None:
                dictionary = self._file.dictionary(number)
                decompressor = self._decompressors[number] = zstandard.ZstdDecompressor(dict_data=dictionary)
            return decompressor.decompress(frame, max_output_size=MAX_CHUNK_BYTES).split(b"\n")
        except zstandard.ZstdError as error:
            raise ValueError(f"the lines of the day are damaged at byte {start}: {error}") from error


def _create_compressor(dictionary: zstandard.ZstdCompressionDict | None) -> zstandard.ZstdCompressor:
    if dictionary is not None:
        dictionary.precompute_compress(level=LEVEL)
    return zstandard.ZstdCompressor(level=LEVEL, dict_data=dictionary)


def _read_dictionary(folder: Path, number: int) -> zstandard.ZstdCompressionDict | None:
    """Returns a dictionary of a day; None for number 0."""
    return zstandard.ZstdCompressionDict((folder / f"{_DICTIONARY}{number}").read_bytes()) if number else None


def _write_at(descriptor: int, content: bytes, offset: int) -> None:
    """Writes all of it; raises OSError when the disk does not take it."""
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _write_durably(path: Path, content: bytes) -> None:
    """Writes a file that is whole when it is there; the commit of the index syncs the folder."""
    fresh = path.with_name(f"new.{path.name}")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
