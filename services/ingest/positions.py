"""Positions in followed files, kept on disk: what was acknowledged, and what was on its way when the program ended."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import msgspec

from kit.errors import InvalidArgument


class Position(msgspec.Struct):
    """How far one file was read. A file is known by device, inode and its first bytes, since names move when logs rotate."""

    path: str
    device: int = 0
    inode: int = 0
    head: str = ""
    """Hash of the first `head_bytes` bytes."""
    head_bytes: int = 0
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


class PositionFile:
    """A file of positions. Written as a whole and moved into place, so that it is never half."""

    def __init__(self, path: Path) -> None:
        """Reads the file if there is one; raises InvalidArgument when it is none."""
        self._path = path
        self._positions: dict[str, Position] = {}
        try:
            self._positions = msgspec.json.decode(path.read_bytes(), type=dict[str, Position])
        except FileNotFoundError:
            pass
        except OSError as error:
            raise InvalidArgument(f"the file of positions {path} cannot be read ({error.strerror})") from None
        except msgspec.DecodeError as error:
            raise InvalidArgument(f"{path} is not a file of positions ({error}); name another with --positions") from None

    def of(self, path: Path) -> Position | None:
        """Returns the position in the file that had this name when it was last read."""
        return self._positions.get(str(path.absolute()))

    def keep(self, path: Path, position: Position) -> None:
        """Writes a position; returns when it is on the disk. Raises InvalidArgument when it cannot be written."""
        self._positions[str(path.absolute())] = position
        fresh = self._path.with_name(f"{self._path.name}.new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(msgspec.json.encode(self._positions))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
        except OSError as error:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise InvalidArgument(f"the positions cannot be written to {self._path} ({error.strerror}); name another file with --positions") from None
