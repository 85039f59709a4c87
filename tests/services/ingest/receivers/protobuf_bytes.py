"""Bytes of protobuf that no library would write."""

from __future__ import annotations


def varint(number: int) -> bytes:
    """Returns a number in as few bytes as it needs."""
    written = b""
    while number >= 0x80:
        written += bytes([number & 0x7F | 0x80])
        number >>= 7
    return written + bytes([number])


def field(number: int, content: bytes) -> bytes:
    """Returns a field that holds bytes, a text or a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content
