"""Frames of syslog over TCP and TLS: octet counting and line ends, told apart frame by frame.

Source: RFC 6587 §3.4 (both framings; LF, also NUL), RFC 5425 §4.3 (octet counting), reference wire-formats §5.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_SKIPPED = 64 * 1024 * 1024
"""A counted frame that is too long, but not longer than this, is passed over by its count; a larger count is not believed."""
_COUNT = re.compile(rb"[1-9]\d{0,19} ")
_COUNT_START = re.compile(rb"[1-9]\d{0,19}\Z")
_LINE_END = re.compile(rb"[\n\0]")
_ENDS = b"\r\n\0"


@dataclass(frozen=True, slots=True)
class BrokenFrame:
    """Bytes of which no message can be cut: at most as many as a message may have are kept."""

    raw: bytes
    detail: str


class FrameReader:
    """Cuts a stream into messages of at most `limit` bytes; holds no more than one unfinished message.

    A frame that opens with a count and a space is octet-counted; any other, also a line that opens with a digit, ends at the
    next LF or NUL. A frame that is too long is reported once and passed over: by its count, or up to the next line end.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = b""
        self._skip = 0
        """Bytes of a counted frame that are still to be passed over."""
        self._lost = False
        """Whether everything up to the next line end is passed over."""

    def feed(self, data: bytes) -> tuple[list[bytes], list[BrokenFrame]]:
        """Returns the messages that end in `data`, and what was broken, each in their order."""
        messages: list[bytes] = []
        broken: list[BrokenFrame] = []
        buffer = self._rest + data if self._rest else data
        position, size = 0, len(buffer)
        while position < size:
            if self._skip or self._lost:
                position = self._pass_over(buffer, position)
                continue
            first = buffer[position]
            if first in _ENDS:
                position += 1
                continue
            count = _COUNT.match(buffer, position) if 0x31 <= first <= 0x39 else None
            if count is not None:
                start, length = count.end(), int(count[0])
                if length > self._limit:
                    broken.append(self._refuse_count(buffer[position : position + self._limit], length))
                    position = start
                    continue
                if start + length > size:
                    break
                position = start + length
                # rsyslog counts the line end of its template too.
                message = buffer[start:position].rstrip(_ENDS)
                if message:
                    messages.append(message)
                continue
            end = _LINE_END.search(buffer, position)
            if end is None:
                if size - position <= self._limit:
                    break
                broken.append(self._refuse_line(buffer[position : position + self._limit]))
                self._lost = True
                continue
            message = buffer[position : end.start()].rstrip(b"\r")
            position = end.end()
            if len(message) > self._limit:
                broken.append(self._refuse_line(message[: self._limit]))
            else:
                messages.append(message)
        self._rest = buffer[position:]
        return messages, broken

    def finish(self) -> tuple[list[bytes], list[BrokenFrame]]:
        """Returns what the end of the stream leaves: a last line without its end is a message, a counted frame that is cut off is not."""
        rest, self._rest, self._skip, self._lost = self._rest, b"", 0, False
        if not rest:
            return [], []
        count = _COUNT.match(rest)
        if count is None and _COUNT_START.match(rest) is None:
            return [rest.rstrip(b"\r")], []
        declared = f"a frame of {int(count[0])} bytes" if count is not None else "a count"
        return [], [BrokenFrame(rest, f"the connection ended inside {declared}")]

    def _pass_over(self, buffer: bytes, position: int) -> int:
        """Returns where the part that is passed over ends in the buffer."""
        if self._skip:
            step = min(self._skip, len(buffer) - position)
            self._skip -= step
            return position + step
        end = _LINE_END.search(buffer, position)
        self._lost = end is None
        return len(buffer) if end is None else end.end()

    def _refuse_count(self, head: bytes, length: int) -> BrokenFrame:
        if length <= MAX_SKIPPED:
            self._skip = length
        else:
            self._lost = True
        return BrokenFrame(head, f"a frame declares {length} bytes, more than {self._limit}; only its beginning is kept")

    def _refuse_line(self, head: bytes) -> BrokenFrame:
        return BrokenFrame(head, f"a line has more than {self._limit} bytes; only its beginning is kept")


def without_count(datagram: bytes) -> bytes:
    """Returns a datagram without the octet count that Telegraf also puts before messages over UDP; one that does not fit is kept."""
    count = _COUNT.match(datagram)
    return datagram[count.end() :] if count is not None and int(count[0]) == len(datagram) - count.end() else datagram
