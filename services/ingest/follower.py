"""Follows a growing log file through rotation, truncation and restarts, and cuts what is new into records."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from time import monotonic

from kit.errors import InvalidArgument, NotFound
from services.ingest.formats import FORMATS
from services.ingest.formats.base import FixedRecords
from services.ingest.logfile import open_log_file
from services.ingest.positions import Position, PositionFile

PIECE_BYTES = 1024 * 1024
HEAD_BYTES = 256
QUIET_SECONDS = 1.0
"""The last record is complete when nothing came for so long; until then a stack trace may go on."""
ROTATED_SECONDS = 2.0
"""How long a file that was renamed is still read: its writer may not have noticed."""
MAX_CARRIED_CHARACTERS = 256 * 1024
_COMPRESSED = frozenset((".gz", ".bz2", ".xz", ".zst"))
_WIDE = {"utf-16-le": b"\n\x00", "utf-16-be": b"\x00\n"}


@dataclass(frozen=True, slots=True)
class Portion:
    """Records that are ready to be sent, and the position once they are acknowledged."""

    records: list[str]
    scope: bytes
    """Names the place they come from: with it a resend is recognised."""
    format: str
    after: Position


class Follower:
    """One followed file. Reads only on request, in bounded pieces; the caller says when a portion was acknowledged."""

    def __init__(self, path: Path, positions: PositionFile, format_name: str = "") -> None:
        self.path = path
        self.notes: list[str] = []
        self._positions = positions
        self._format_name = format_name
        self._file = -1
        self._position = Position(str(path))
        self._grown_at = monotonic()
        self._rotated = False
        self._missed: list[Path] = []
        """Files that were filled and renamed while nobody followed, the oldest first."""

    def close(self) -> None:
        """Closes the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def read(self) -> Portion | None:
        """Returns what is new, or None. Raises InvalidArgument when the file is no text or its position cannot be kept.

        The same portion is returned until `acknowledge` is called; what it holds is noted on disk before it is returned.
        """
        if self._file < 0 and not self._open():
            return None
        if self._position.pending_end >= 0:
            return self._portion(self._position.pending_end, flush=self._position.pending_flush)
        if self._was_truncated():
            if self._unsent():
                return self._expect(self._position.offset, flush=True)
            self._begin(self._file, self._position.format, self._position.encoding)
        self._look_for_rotation()
        data = os.pread(self._file, PIECE_BYTES, self._position.offset)
        end = self._position.offset + self._whole_bytes(data)
        now = monotonic()
        if end > self._position.offset:
            self._grown_at = now
            return self._expect(end, flush=sum(map(len, self._position.carried)) > MAX_CARRIED_CHARACTERS)
        quiet = now - self._grown_at
        if self._rotated and quiet > ROTATED_SECONDS:
            rest = self._position.offset + len(data)  # a last line without its end
            if rest > self._position.offset or self._unsent():
                return self._expect(rest, flush=True)
            self._move_on()
            return self.read() if self._open() else None  # the next one is known from now on
        if quiet > QUIET_SECONDS and self._unsent():
            return self._expect(self._position.offset, flush=True)
        return None

    def acknowledge(self, portion: Portion) -> None:
        """Notes that the records of a portion are safe."""
        self._position = portion.after
        self._keep()

    def _unsent(self) -> bool:
        return bool(self._position.carried) and not self._position.carried_sent

    def _expect(self, end: int, *, flush: bool) -> Portion:
        """Notes what is about to be sent, so that after a crash the same records are sent under the same keys."""
        self._position.pending_end, self._position.pending_flush = end, flush
        portion = self._portion(end, flush=flush)
        if portion.records:
            self._keep()
        return portion

    def _portion(self, end: int, *, flush: bool) -> Portion:
        position = self._position
        log_format = FORMATS[position.format]
        text = os.pread(self._file, end - position.offset, position.offset).decode(position.encoding, "replace")
        length = log_format.record_characters if isinstance(log_format, FixedRecords) and "\n" not in text else 0
        lines = [text[start : start + length] for start in range(0, len(text), length)] if length else text.split("\n")
        lines = [line.removesuffix("\r").removeprefix("\ufeff") for line in lines if line]
        records = log_format.split([*position.carried, *lines])
        carried, sent = position.carried, position.carried_sent
        if sent and records:
            before = "\n".join(carried)
            if records[0] == before:
                del records[0]
            elif records[0].startswith(before + "\n"):
                records[0] = records[0][len(before) + 1 :]  # it went on after all
        if records:
            carried, sent = records[-1].split("\n"), flush
            if not flush:
                records.pop()
        after = Position(
            position.path,
            position.device,
            position.inode,
            position.head,
            position.head_bytes,
            position.generation,
            position.format,
            position.encoding,
            end,
            carried,
            sent,
        )
        return Portion(records, f"{position.generation} {position.offset} {end} {flush}\n".encode(), position.format, after)

    def _whole_bytes(self, data: bytes) -> int:
        """Returns how many of the bytes are whole lines, or whole records where they have a fixed length."""
        mark = _WIDE.get(self._position.encoding, b"\n")
        place = data.rfind(mark)
        while place >= 0 and (place % len(mark) or self._position.offset % len(mark)):
            place = data.rfind(mark, 0, place + len(mark) - 1)
        if place >= 0:
            return place + len(mark)
        log_format = FORMATS[self._position.format]
        if isinstance(log_format, FixedRecords):
            length = log_format.record_characters * len(mark)
            return len(data) - len(data) % length
        return PIECE_BYTES if len(data) == PIECE_BYTES else 0  # a line without an end is sent in pieces

    def _open(self) -> bool:
        """Opens the file, or the one that it was renamed to; returns False while there is none or it is empty."""
        known = self._positions.of(self.path)
        if known is not None:
            for place in (self.path, *sorted(self.path.parent.glob(f"{self.path.name}*"))):
                if self._open_known(place, known):
                    self._rotated = place != self.path
                    return True
            if known.offset and self.path.exists():
                self.notes.append(f"{self.path} is another file than before, and the old one is not beside it: it is read from its start")
        place = self._missed.pop(0) if self._missed else self.path
        try:
            if not place.stat().st_size:
                return False
            found = open_log_file(place, self._format_name)
            if found.compressed:
                raise InvalidArgument(f"{place} is compressed; a file that is followed is text")
            file = os.open(place, os.O_RDONLY)
        except (FileNotFoundError, NotFound):
            return False
        self._begin(file, found.format.name, found.encoding)
        self._rotated = place != self.path
        return True

    def _begin(self, file: int, format_name: str, encoding: str) -> None:
        """Starts at the first byte of an open file."""
        status = os.fstat(file)
        self._file, self._grown_at = file, monotonic()
        self._position = Position(str(self.path), status.st_dev, status.st_ino, format=format_name, encoding=encoding)
        self._note_head()
        self._keep()  # from here on the file is known, whatever its name will be

    def _open_known(self, place: Path, known: Position) -> bool:
        try:
            file = os.open(place, os.O_RDONLY)
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            return False
        status = os.fstat(file)
        same = (status.st_dev, status.st_ino) == (known.device, known.inode) and status.st_size >= known.offset
        if not same or _hash_head(file, known.head_bytes) != known.head or known.format not in FORMATS:
            os.close(file)
            return False
        self._file, self._position, self._grown_at = file, known, monotonic()
        return True

    def _was_truncated(self) -> bool:
        """Says whether the file was copied and emptied: what is in it now begins at its start."""
        size = os.fstat(self._file).st_size
        return bool(size) and (size < self._position.offset or _hash_head(self._file, self._position.head_bytes) != self._position.head)

    def _look_for_rotation(self) -> None:
        status = os.fstat(self._file)
        if self._position.head_bytes < HEAD_BYTES and status.st_size > self._position.head_bytes:
            self._note_head()
        if not self._rotated:
            try:
                named = self.path.stat()
            except FileNotFoundError:
                # Renamed, and the new one is not there yet: its writer may still write to this one, unless it rotated again.
                self._rotated = bool(self._filled_since(status))
                return
            self._rotated = (named.st_dev, named.st_ino) != (status.st_dev, status.st_ino)

    def _move_on(self) -> None:
        """Leaves a file that was renamed and read to its end, for those that were filled since, and then for the one with its name."""
        if not self._missed:
            self._missed = self._filled_since(os.fstat(self._file))
        self.close()
        self._rotated = False
        self._position = Position(str(self.path))
        self._keep()

    def _filled_since(self, left: os.stat_result) -> list[Path]:
        """Returns the renamed files that were written after another, the oldest first."""
        found = []
        for place in self.path.parent.glob(f"{self.path.name}[.-]*"):
            status = place.stat()
            if status.st_mtime_ns > left.st_mtime_ns and status.st_ino != left.st_ino and place.suffix not in _COMPRESSED:
                found.append((status.st_mtime_ns, place))
        return [place for _, place in sorted(found)]

    def _note_head(self) -> None:
        self._position.head_bytes = min(HEAD_BYTES, os.fstat(self._file).st_size)
        self._position.head = _hash_head(self._file, self._position.head_bytes)

    def _keep(self) -> None:
        self._positions.keep(self.path, self._position)


def _hash_head(file: int, count: int) -> str:
    return blake2b(os.pread(file, count, 0), digest_size=16).hexdigest()
