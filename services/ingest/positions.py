"""Positions in followed files, kept on disk: what was acknowledged, and what was on its way when the program ended."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from uuid import uuid4

import msgspec

from kit.errors import InvalidArgument


class Position(msgspec.Struct):
    """How far one file was read. A file is known by its inode and its bytes, since names move when logs rotate."""

    path: str
    inode: int = 0
    head: str = ""
    """Hash of the first `head_bytes` bytes."""
    head_bytes: int = 0
    tail: str = ""
    """Hash of the last bytes in front of `offset`."""
    modified: int = 0
    """When the file was written last, as far as was seen; nanoseconds since 1970."""
    left: bool = False
    """Whether it was read to its end after it had been rotated: what was written later is in other files."""
    generation: str = msgspec.field(default_factory=lambda: uuid4().hex)
    """Names this content of the file: a part of every key under which its records are recognised when they are sent again."""
    format: str = ""
    encoding: str = "utf-8"
    offset: int = 0
    """Everything in front of this byte was acknowledged, but for the carried lines."""
    carried: list[str] = []
    """The lines of the last record: more lines may belong to it, or need what it says (a stamp that holds for them)."""
    carried_sent: bool = False
    pending_end: int = -1
    """The byte up to which records were on their way; -1: none were."""
    pending_flush: bool = False
    """Whether the last record was on its way too."""


class PositionFolder:
    """A folder with a file for each followed one, so that programs can share it. Each is written as a whole and moved into place: never half."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder; raises InvalidArgument when it cannot be used."""
        self._folder = folder
        self._locks = -1
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise InvalidArgument(f"{folder} is no folder; name a folder with --positions") from None
        except OSError as error:
            raise self._unwritable(error) from None

    def claim(self, path: Path) -> None:
        """Raises InvalidArgument when another program follows the file with this folder of positions: both would send everything."""
        place = int.from_bytes(_digest(path)[:7])  # a byte of the lock file for each path; the system unlocks it when the program ends
        try:
            if self._locks < 0:
                self._locks = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except BlockingIOError:
            raise InvalidArgument(f"{path} is followed by another program already; name another folder with --positions to send it twice") from None
        except OSError as error:
            raise self._unwritable(error) from None

    def of(self, path: Path) -> Position | None:
        """Returns the position in the file that had this name when it was last read; raises InvalidArgument when it cannot be read."""
        place = self._place(path)
        try:
            return msgspec.json.decode(place.read_bytes(), type=Position)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InvalidArgument(f"the position {place} cannot be read ({error.strerror})") from None
        except msgspec.DecodeError as error:
            raise InvalidArgument(f"{place} is no position in a file ({error}); name another folder with --positions") from None

    def keep(self, path: Path, position: Position) -> None:
        """Writes a position; returns when it is on the disk. Raises InvalidArgument when it cannot be written."""
        place = self._place(path)
        fresh = place.with_suffix(".new")
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(msgspec.json.encode(position))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(place)
            directory = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise self._unwritable(error) from None

    def _place(self, path: Path) -> Path:
        return self._folder / f"{_digest(path).hex()}.json"

    def _unwritable(self, error: OSError) -> InvalidArgument:
        return InvalidArgument(f"the positions cannot be written to {self._folder} ({error.strerror}); name another folder with --positions")


def _digest(path: Path) -> bytes:
    return blake2b(os.fsencode(path.absolute()), digest_size=16).digest()
