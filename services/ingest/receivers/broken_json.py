"""JSON that is almost right: bytes that are not UTF-8 and halves of surrogate pairs, which loggers write and parsers refuse."""

from __future__ import annotations

import re
from typing import Final

import orjson

_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_LOW: Final = re.compile(rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_HIGH: Final = b"89abAB"
_BACKSLASH: Final = 0x5C


def mend_texts(raw: bytes) -> bytes:
    """Returns the same with what no Unicode text can hold replaced by U+FFFD; whether it is JSON is not looked at."""
    plain = raw.decode("utf-8", "replace").encode()
    if _SURROGATE.search(plain) is None:
        return plain
    mended = bytearray(plain)
    pair_end = 0
    for match in _SURROGATE.finditer(plain):
        start, end = match.span()
        if start < pair_end or _is_escaped(plain, start):
            continue
        if plain[start + 3] in _HIGH and _LOW.match(plain, end):
            pair_end = end + 6
        else:
            mended[start:end] = rb"\ufffd"
    return bytes(mended)


def _is_escaped(text: bytes, position: int) -> bool:
    """Says whether the backslash at a position is one that another backslash stands before."""
    first = position
    while first and text[first - 1] == _BACKSLASH:
        first -= 1
    return (position - first) % 2 == 1


def mend_json(raw: bytes) -> bytes | None:
    """Returns the same JSON with what no Unicode text can hold replaced by U+FFFD; None when something else is wrong with it."""
    mended = mend_texts(raw)
    try:
        orjson.loads(mended)
    except orjson.JSONDecodeError:
        return None
    return mended
