"""Follows a growing log file through rotation, truncation and restarts, and cuts what is new into records."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from time import monotonic

from kit.errors import InvalidArgument, NotFound
from services.ingest.formats import FORMATS
from services.ingest.formats.base import FixedRecords
from services.ingest.logfile import open_log_file
from services.ingest.positions import Position, PositionFolder

PIECE_BYTES = 1024 * 1024
HEAD_BYTES = 256
QUIET_SECONDS = 1.0
"""The last record is complete when nothing came for so long; until then a stack trace may go on."""
ROTATED_SECONDS = 2.0
"""How long a file that was renamed is still read: its writer may not have noticed."""
MAX_CARRIED_CHARACTERS = 256 * 1024
_WIDE = {"utf-16-le": b"\n\x00", "utf-16-be": b"\x00\n"}
_ROTATED_NAME = re.compile(r"[.-](?:[\dTZ._:-]*\d[\dTZ._:-]*|old|prev|bak)")
"""What log rotation puts behind the name of a file: a number or a date, or a word. Other names beside it are other logs; so are compressed files."""


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

    def __init__(self, path: Path, positions: PositionFolder, format_name: str = "") -> None:
        self.path = path
        self.notes: list[str] = []
        self._positions = positions
        self._format_name = format_name
        self._file = -1
        self._position = Position(str(path))
        self._grown_at = monotonic()
        self._rotated = False

    def close(self) -> None:
        """Closes the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def read(self) -> Portion | None:
        """Returns what is new, or None. Raises InvalidArgument when the file is no text, or it or its position cannot be read or written.

        The same portion is returned until `acknowledge` is called; what it holds is noted on disk before it is returned.
        """
        try:
            return self._read()
        except OSError as error:
            raise InvalidArgument(f"{self.path} cannot be read ({error.strerror})") from None

    def acknowledge(self, portion: Portion) -> None:
        """Notes that the records of a portion are safe; raises InvalidArgument when that cannot be written, and knows it all the same."""
        self._position = portion.after
        self._keep()

    def _read(self) -> Portion | None:
        if self._file < 0 and not self._open():
            return None
        if not _holds(self._file, self._position) and not self._return_to(self._position):
            # It was emptied, and no copy of what was in it is beside it.
            self._position.pending_end = -1
            if self._unsent():
                return self._expect(self._position.offset, flush=True)
            self._begin(self._file, self._position.format, self._position.encoding)
        if self._position.pending_end >= 0:
            return self._portion(self._position.pending_end, flush=self._position.pending_flush)
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
            return self._read() if self._open() else None  # the next one is known from now on
        if quiet > QUIET_SECONDS and self._unsent():
            return self._expect(self._position.offset, flush=True)
        return None

    def _unsent(self) -> bool:
        return bool(self._position.carried) and not self._position.carried_sent

    def _expect(self, end: int, *, flush: bool) -> Portion:
        """Notes what is about to be sent, so that after a crash the same records are sent under the same keys."""
        self._position.pending_end, self._position.pending_flush = end, flush
        portion = self._portion(end, flush=flush)
        if portion.records:
            try:
                self._keep()
            except InvalidArgument:
                self._position.pending_end = -1
                raise
        return portion

    def _portion(self, end: int, *, flush: bool) -> Portion:
        position = self._position
        log_format = FORMATS[position.format]
        text = os.pread(self._file, end - position.offset, position.offset).decode(position.encoding, "replace")
        length = log_format.record_characters if isinstance(log_format, FixedRecords) and "\n" not in text else 0
        lines = [text[start : start + length] for start in range(0, len(text), length)] if length else text.split("\n")
        # A writer that does not notice that its file was emptied goes on at its old place: the system fills what is in front with zeros.
        lines = [line.removesuffix("\r").removeprefix("\ufeff").lstrip("\0") for line in lines if line]
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
            position.inode,
            position.head,
            position.head_bytes,
            _hash_bytes(self._file, max(0, end - HEAD_BYTES), end),
            position.modified,
            False,
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
        return _whole_characters(data, len(mark)) if len(data) == PIECE_BYTES else 0  # a line without an end is sent in pieces

    def _open(self) -> bool:
        """Opens the file, or the one that it was renamed or copied to; returns False while there is none or it is empty."""
        known = self._positions.of(self.path)
        if known is not None and not known.left:
            if self._return_to(known):
                return True
            if known.offset and self.path.exists():
                self.notes.append(f"{self.path} is another file than before and the old one is not beside it: what that had and was not read is not sent")
        place = next(self._filled_since(known), self.path) if known is not None else self.path
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
        self._position = Position(str(self.path), status.st_ino, modified=status.st_mtime_ns, format=format_name, encoding=encoding)
        self._position.tail = _hash_bytes(file, 0, 0)
        self._note_head()
        self._keep()  # from here on the file is known, whatever its name will be

    def _return_to(self, known: Position) -> bool:
        """Opens the file of a position where it is now, be it renamed or copied; returns False when it is not there."""
        if known.format not in FORMATS:
            return False
        for place in self._places(known):
            try:
                file = os.open(place, os.O_RDONLY)
            except OSError:
                continue
            inode = os.fstat(file).st_ino
            if not _holds(file, known) or (place == self.path and inode != known.inode):
                os.close(file)
                continue
            self.close()
            self._file, self._position, self._grown_at = file, known, monotonic()
            self._rotated = place != self.path
            known.inode = inode
            return True
        return False

    def _places(self, known: Position) -> Iterator[Path]:
        """Yields where the file of a position may be: at its name, at another, or as a copy, the newest first."""
        yield self.path
        beside = sorted(self._beside(), key=lambda found: -found[1].st_mtime_ns)
        yield from (place for place, status in beside if status.st_ino == known.inode)
        if known.head_bytes:
            yield from (place for place, status in beside if status.st_mtime_ns >= known.modified and self._is_rotated(place))

    def _look_for_rotation(self) -> None:
        status = os.fstat(self._file)
        self._position.modified = status.st_mtime_ns
        if self._position.head_bytes < HEAD_BYTES and status.st_size > self._position.head_bytes:
            self._note_head()
        if not self._rotated:
            try:
                named = self.path.stat()
            except FileNotFoundError:
                # Renamed, and the new one is not there yet: its writer may still write to this one, unless it rotated again.
                self._rotated = next(self._filled_since(self._position), None) is not None
                return
            self._rotated = (named.st_dev, named.st_ino) != (status.st_dev, status.st_ino)

    def _move_on(self) -> None:
        """Leaves a file that was renamed and read to its end, for those that were filled since, and then for the one with its name."""
        self.close()
        self._rotated = False
        self._position.left = True
        self._keep()

    def _filled_since(self, known: Position) -> Iterator[Path]:
        """Yields the rotated files that were written after another and are no copies of it, the oldest first."""
        found = [(status.st_mtime_ns, place) for place, status in self._beside() if status.st_mtime_ns > known.modified and self._is_rotated(place)]
        for _, place in sorted(found):
            with suppress(FileNotFoundError), place.open("rb") as file:
                if not known.head_bytes or not _holds(file.fileno(), known):
                    yield place

    def _is_rotated(self, place: Path) -> bool:
        """Returns whether a name says that the file is the followed one, rotated."""
        name = self.path.resolve().name
        return place.name.startswith(name) and _ROTATED_NAME.fullmatch(place.name, len(name)) is not None

    def _beside(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yields the files in the folder of the followed one, which a link may lead to, with what the system says about them."""
        try:
            with os.scandir(self.path.resolve().parent) as entries:
                for entry in entries:
                    try:
                        if entry.is_file(follow_symlinks=False):
                            yield Path(entry.path), entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue  # renamed or removed since the folder was read
        except FileNotFoundError:
            return

    def _note_head(self) -> None:
        self._position.head_bytes = min(HEAD_BYTES, os.fstat(self._file).st_size)
        self._position.head = _hash_bytes(self._file, 0, self._position.head_bytes)

    def _keep(self) -> None:
        self._positions.keep(self.path, self._position)


def _holds(file: int, position: Position) -> bool:
    """Returns whether an open file has what was read up to a position, and what was on its way."""
    return (
        os.fstat(file).st_size >= max(position.offset, position.pending_end)
        and _hash_bytes(file, 0, position.head_bytes) == position.head
        and _hash_bytes(file, max(0, position.offset - HEAD_BYTES), position.offset) == position.tail
    )


def _hash_bytes(file: int, start: int, end: int) -> str:
    return blake2b(os.pread(file, end - start, start), digest_size=16).hexdigest()


def _whole_characters(data: bytes, width: int) -> int:
    """Returns how many bytes of text in UTF-8 (width 1) or UTF-16 (2) do not cut its last character."""
    if width == 2:
        return len(data) - len(data) % 2
    end = len(data)
    while end > len(data) - 3 and data[end - 1] & 0xC0 == 0x80:
        end -= 1
    return end - 1 if data[end - 1] >= 0xC0 else end
