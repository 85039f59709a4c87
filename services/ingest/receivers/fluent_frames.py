"""Messages in a stream of MessagePack: where each one ends, found without building anything of it.

Source: MessagePack specification (formats by first byte). A decoder makes room for as many elements as a header declares;
here every declared size is checked against what has really come, so that a few bytes cannot claim gigabytes.
"""

from __future__ import annotations

MAX_DEPTH = 48
"""Nesting of a message; records are kept by stages that bound it themselves (64)."""


def _forms() -> list[tuple[int, int, int, int] | None]:
    """Returns, by first byte: bytes of the length field, fixed bytes behind it, bytes per length, elements per length.

    A form without a length field counts as one of length 1.
    """
    forms: list[tuple[int, int, int, int] | None] = [(0, 0, 0, 0)] * 256
    for size in range(16):
        forms[0x80 + size] = (0, 0, 0, 2 * size)
        forms[0x90 + size] = (0, 0, 0, size)
    for size in range(32):
        forms[0xA0 + size] = (0, 0, size, 0)
    forms[0xC1] = None
    for step, width in enumerate((1, 2, 4)):
        forms[0xC4 + step] = (width, 0, 1, 0)  # bin
        forms[0xC7 + step] = (width, 1, 1, 0)  # ext
        forms[0xD9 + step] = (width, 0, 1, 0)  # str
    for first, size in ((0xCA, 4), (0xCB, 8), (0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8), (0xD0, 1), (0xD1, 2), (0xD2, 4), (0xD3, 8)):
        forms[first] = (0, 0, size, 0)
    for step in range(5):
        forms[0xD4 + step] = (0, 1, 1 << step, 0)  # fixext
    for step, width in enumerate((2, 4)):
        forms[0xDC + step] = (width, 0, 0, 1)  # array
        forms[0xDE + step] = (width, 0, 0, 2)  # map
    return forms


_FORMS = _forms()


class MessageReader:
    """Cuts a stream into messages of at most `limit` bytes; holds no more than one unfinished message.

    What is no message, too large or nested too deeply ends it: where the next message would begin is not known.
    """

    def __init__(self, limit: int) -> None:
        self.problem = ""
        """What is wrong with the stream; empty while nothing is. Nothing is read behind it."""
        self._limit = limit
        self._buffer = bytearray()
        self._position = 0
        """Where the next value begins."""
        self._open: list[int] = []
        """How many values each open array and map still waits for, outermost first."""

    @property
    def held(self) -> int:
        """Bytes of the message that is not complete yet."""
        return len(self._buffer)

    @property
    def head(self) -> bytes:
        """The beginning of the message that is not complete, as much as a rejected record may have."""
        return bytes(self._buffer[: 64 * 1024])

    def feed(self, data: bytes) -> list[bytes]:
        """Returns the messages that end in `data`, up to the first problem."""
        messages: list[bytes] = []
        if self.problem:
            return messages
        buffer, waiting = self._buffer, self._open
        buffer += data
        position, start, size = self._position, 0, len(buffer)
        while position < size:
            form = _FORMS[buffer[position]]
            if form is None:
                self.problem = f"byte {position - start} of the message is not MessagePack"
                break
            width, extra, per_byte, per_element = form
            body = position + 1 + width
            if body > size:
                break
            length = int.from_bytes(buffer[position + 1 : body]) if width else 1
            end = body + extra + per_byte * length
            elements = per_element * length
            if end - start + elements > self._limit:
                self.problem = f"the message declares {end - start + elements} bytes or more, more than {self._limit}"
                break
            if end > size:
                break
            position = end
            if elements:
                waiting.append(elements)
                if len(waiting) > MAX_DEPTH:
                    self.problem = f"the message is nested deeper than {MAX_DEPTH}"
                    break
                continue
            while waiting:
                if waiting[-1] > 1:
                    waiting[-1] -= 1
                    break
                waiting.pop()
            if not waiting:
                messages.append(bytes(buffer[start:position]))
                start = position
        del buffer[:start]
        self._position = position - start
        return messages
