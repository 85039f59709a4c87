"""Which encoding the bytes of a log are in."""

from __future__ import annotations

import codecs

BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_HEAD_BYTES = 4_096


def marked_encoding(head: bytes) -> str:
    """Returns the encoding that a byte order mark names; empty when there is none."""
    return next((name for mark, name in BYTE_ORDER_MARKS.items() if head.startswith(mark)), "")


def wide_encoding(head: bytes) -> str:
    """Returns utf-16-le or utf-16-be for text of that kind without a mark, as SAP's Unicode systems write it; else empty.

    Every second byte of Latin text is zero then, the others are not.
    """
    half = len(head) / 2
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if odd > half * 0.8 and even < half * 0.2:
        return "utf-16-le"
    if even > half * 0.8 and odd < half * 0.2:
        return "utf-16-be"
    return ""


def decode_text(body: bytes) -> str:
    """Returns the text of a body in the encoding that its head shows, UTF-8 unless something else; what is invalid is replaced."""
    head = body[:_HEAD_BYTES]
    encoding = marked_encoding(head) or (wide_encoding(head) if b"\0" in head else "") or "utf-8"
    return body.decode(encoding, "replace").removeprefix("\ufeff")
