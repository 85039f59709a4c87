"""How much there is in a request in protobuf, counted before any of it is made: an empty message has two bytes there and hundreds in work.

Source: protobuf's encoding (tags, lengths, varints).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kit.errors import InvalidArgument
from services.ingest.receivers.bodies import BodyTooLarge

MAX_DEPTH: Final = 120
"""Messages inside each other that are looked into; protobuf itself reads 100."""
MALFORMED: Final = "the body is not valid protobuf"


class Part(NamedTuple):
    """A field that holds a message: whether that is counted, and which fields of its own are looked at, by number."""

    counted: bool
    fields: dict[int, Part]


class PartCount:
    """Messages of a kind of request that are counted together, and how many there may be."""

    def __init__(self, largest: int, name: str, fields: dict[int, Part]) -> None:
        """`fields` are those of the request, by numbers below 16; `name` is what they hold, for who sends too many."""
        self.largest = largest
        self._name = name
        self.fields = fields
        tags = {number << 3 | 2 for number in _counted_numbers(fields, [])}
        # A tag may be written longer than it must be: its first byte has the eighth bit then.
        self._other_bytes = bytes(byte for byte in range(256) if byte & 0x7F not in tags)

    def check(self, body: bytes) -> None:
        """Raises BodyTooLarge when a request holds more than it may, InvalidArgument when it is no protobuf as far as that is looked at.

        The count is exact, and made only when more bytes than that could begin one.
        """
        if len(body) > 2 * self.largest and len(body.translate(None, self._other_bytes)) > self.largest:
            try:
                self._count(body)
            except IndexError:
                raise InvalidArgument(MALFORMED) from None

    def _count(self, body: bytes) -> None:
        around: list[tuple[int, dict[int, Part]]] = []
        position, end, fields, left = 0, len(body), self.fields, self.largest
        while True:
            if position >= end:
                if position > end:
                    raise InvalidArgument(MALFORMED)
                if not around:
                    return
                end, fields = around.pop()
                continue
            tag, position = (byte, position + 1) if (byte := body[position]) < 0x80 else read_varint(body, position)
            kind = tag & 7
            if kind == 2:
                length, position = (byte, position + 1) if (byte := body[position]) < 0x80 else read_varint(body, position)
                part = fields.get(tag >> 3)
                if part is not None:
                    left -= part.counted
                    if left < 0:
                        raise BodyTooLarge(f"the request has more than {self.largest} {self._name}")
                    if length and part.fields:
                        if position + length > end or len(around) == MAX_DEPTH:
                            raise InvalidArgument(MALFORMED)
                        around.append((end, fields))
                        end, fields = position + length, part.fields
                        continue
                position += length
            elif kind == 0:
                position = position + 1 if body[position] < 0x80 else read_varint(body, position)[1]
            elif kind == 1:
                position += 8
            elif kind == 5:
                position += 4
            elif kind > 5:
                raise InvalidArgument(MALFORMED)
            # Where groups begin and end is passed over: no request has any, and what is in one counts as beside it.


def _counted_numbers(fields: dict[int, Part], seen: list[dict[int, Part]]) -> set[int]:
    """Returns the numbers of the fields that are counted, at any depth; values may be inside values."""
    numbers: set[int] = set()
    seen.append(fields)
    for number, part in fields.items():
        if part.counted:
            numbers.add(number)
        if not any(part.fields is known for known in seen):
            numbers |= _counted_numbers(part.fields, seen)
    return numbers


def read_varint(body: bytes | memoryview, position: int) -> tuple[int, int]:
    """Returns a number and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = body[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise InvalidArgument(MALFORMED)
