"""Protobuf that is almost right: texts that are not UTF-8. The OpenTelemetry Collector takes them and passes them on; protobuf refuses them."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from kit.errors import InvalidArgument
from services.ingest.receivers.protobuf_parts import MALFORMED, MAX_DEPTH, read_varint

_WIDTHS = {1: 8, 5: 4}
"""Bytes of the kinds of fields that have always as many."""


def mend_texts(message: bytes, kind: type[Message]) -> bytes:
    """Returns a message with what is not UTF-8 in its texts replaced by U+FFFD; raises InvalidArgument when it is no protobuf."""
    try:
        mended = _mend(memoryview(message), kind.DESCRIPTOR, 0)
    except IndexError:
        raise InvalidArgument(MALFORMED) from None
    return message if mended is None else bytes(mended)


def _mend(message: memoryview, descriptor: Any, depth: int) -> bytearray | None:
    """Returns a message mended, None when there is nothing to mend in it. What is inside is looked at in place: it may be all of it, many times."""
    if depth > MAX_DEPTH:
        raise InvalidArgument(MALFORMED)
    fields = descriptor.fields_by_number
    mended = bytearray()
    position = copied = 0
    while position < len(message):
        tag, position = (byte, position + 1) if (byte := message[position]) < 0x80 else read_varint(message, position)
        kind = tag & 7
        if kind == 2:
            length, start = read_varint(message, position)
            end = start + length
            if end > len(message):
                raise InvalidArgument(MALFORMED)
            field = fields.get(tag >> 3)
            new: bytes | bytearray | None = None
            if field is not None and field.type == FieldDescriptor.TYPE_MESSAGE:
                new = _mend(message[start:end], field.message_type, depth + 1)
            elif field is not None and field.type == FieldDescriptor.TYPE_STRING:
                new = _mend_text(message[start:end])
            if new is not None:
                mended += message[copied:position]
                mended += _write_varint(len(new))
                mended += new
                copied = end
            position = end
        elif kind == 0:
            position = position + 1 if message[position] < 0x80 else read_varint(message, position)[1]
        elif kind in _WIDTHS:
            position += _WIDTHS[kind]
        elif kind > 5:
            raise InvalidArgument(MALFORMED)
    if not copied:
        return None
    mended += message[copied:]
    return mended


def _mend_text(text: memoryview) -> bytes | None:
    try:
        str(text, "utf-8")
    except UnicodeDecodeError:
        return str(text, "utf-8", "replace").encode()
    return None


def _write_varint(number: int) -> bytes:
    written = bytearray()
    while number >= 0x80:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
