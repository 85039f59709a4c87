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
        return _mend(message, kind.DESCRIPTOR, 0)
    except IndexError:
        raise InvalidArgument(MALFORMED) from None


def _mend(message: bytes, descriptor: Any, depth: int) -> bytes:
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
            if field is not None and field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE):
                content = message[start:end]
                inner = field.message_type
                new = content.decode("utf-8", "replace").encode() if inner is None else _mend(content, inner, depth + 1)
                if new != content:
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
        return message
    mended += message[copied:]
    return bytes(mended)


def _write_varint(number: int) -> bytes:
    written = bytearray()
    while number >= 0x80:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
