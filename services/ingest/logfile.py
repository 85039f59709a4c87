"""Log files on disk, read in bounded pieces and cut into whole records."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kit.errors import InvalidArgument, NotFound
from services.ingest.encodings import marked_encoding, wide_encoding
from services.ingest.formats import FORMATS, detect_format
from services.ingest.formats.base import FixedRecords, Format

PIECE_BYTES = 4 * 1024 * 1024
MAX_LINE_CHARACTERS = 1024 * 1024
HEAD_BYTES = 64 * 1024
DETECTION_LINES = 200
GZIP_MAGIC = b"\x1f\x8b"


class NotText(InvalidArgument):
    """A file is not text."""


@dataclass(slots=True)
class Piece:
    """Whole records from a file."""

    records: list[str]
    oversize: int
    """Lines that were left out because they are longer than a record may be."""
    bytes_read: int
    problem: str = ""
    """Why nothing behind it can be read; empty when something can, or nothing is there."""


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file that is ready to be read."""

    path: Path
    size: int
    encoding: str
    compressed: bool
    format: Format
    confidence: float

    def pieces(self) -> Iterator[Piece]:
        """Yields the file's records, a few megabytes at a time; a record never spans two pieces."""
        decoder = codecs.getincrementaldecoder(self.encoding)("replace")
        rest = ""
        carried: list[str] = []
        dropping = False
        length = self.format.record_characters if isinstance(self.format, FixedRecords) else 0
        with self.path.open("rb") as raw:
            stream = gzip.GzipFile(fileobj=raw) if self.compressed else raw
            while True:
                data, problem = _read_bytes(stream, PIECE_BYTES)
                ended = bool(problem) or not data
                text = rest + decoder.decode(data, final=ended)
                lines, rest = _cut_lines(text, at_end=ended, record_characters=length)
                oversize = 0
                if dropping and lines:
                    lines, dropping = lines[1:], False
                kept = [line for line in lines if len(line) <= MAX_LINE_CHARACTERS]
                oversize += len(lines) - len(kept)
                if len(rest) > MAX_LINE_CHARACTERS:
                    oversize += 0 if dropping else 1
                    rest, dropping = "", True
                records = self.format.split([*carried, *kept])
                if records and not ended:
                    # The last one may go on in the next piece.
                    carried = records.pop().split("\n")
                yield Piece(records, oversize, raw.tell(), problem)
                if ended:
                    return


def open_log_file(path: Path, format_name: str = "") -> LogFile:
    """Looks at the head of a file; raises NotFound, NotText or InvalidArgument when it cannot be read as a log."""
    if not path.exists():
        raise NotFound(f"there is no file {path}")
    if path.is_dir():
        raise InvalidArgument(f"{path} is a folder; name the files in it")
    try:
        with path.open("rb") as raw:
            head = raw.read(HEAD_BYTES)
            compressed = head.startswith(GZIP_MAGIC)
            if compressed:
                raw.seek(0)
                head, problem = _read_bytes(gzip.GzipFile(fileobj=raw), HEAD_BYTES)
                if problem and not head:
                    raise InvalidArgument(f"{path} cannot be read ({problem})")
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read ({error.strerror})") from None
    encoding = marked_encoding(head) or _guess_encoding(head)
    if not encoding:
        raise NotText(f"{path} is a binary file; ELIS takes text")
    lines = head.decode(encoding, "ignore").splitlines()[:DETECTION_LINES]
    log_format, confidence = (FORMATS[format_name], 1.0) if format_name else detect_format(lines)
    return LogFile(path, path.stat().st_size, encoding, compressed, log_format, confidence)


def _read_bytes(stream: io.BufferedReader | gzip.GzipFile, count: int) -> tuple[bytes, str]:
    """Returns the next bytes of a file, fewer than asked for only at its end, and why it cannot be read any further."""
    parts: list[bytes] = []
    try:
        while count and (data := stream.read1(count)):
            parts.append(data)
            count -= len(data)
    except (EOFError, OSError, zlib.error) as error:
        return b"".join(parts), str(error).rstrip(".").lower()
    return b"".join(parts), ""


def _guess_encoding(head: bytes) -> str:
    """Returns the encoding of text without a byte order mark; empty when it is none."""
    nulls = head.count(0)
    if not nulls:
        control = sum(head.count(byte) for byte in range(32) if byte not in b"\t\n\r\x0b\x0c\x1b")
        return "utf-8" if control <= len(head) // 20 else ""
    return wide_encoding(head)


def _cut_lines(text: str, *, at_end: bool, record_characters: int) -> tuple[list[str], str]:
    """Returns whole lines and the begun one; a format of fixed records without line ends is cut by length."""
    lines = text.split("\n")
    rest = lines.pop()
    if record_characters and len(rest) > record_characters:
        whole = len(rest) - len(rest) % record_characters
        lines.extend(rest[start : start + record_characters] for start in range(0, whole, record_characters))
        rest = rest[whole:]
    if at_end and rest:
        lines.append(rest)
        rest = ""
    return [line.removesuffix("\r").removeprefix("\ufeff") for line in lines], rest
