"""Opaque keyset page tokens."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from kit.errors import InvalidArgument


def encode_token(*key: Any) -> str:
    """Returns a page token for the key of the last row (text, numbers)."""
    return urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).decode().rstrip("=")


def decode_token(token: str, *types: type) -> tuple[Any, ...] | None:
    """Returns the key in a token, checked against the types; None for the empty token.

    Raises InvalidArgument for anything that `encode_token` did not write.
    """
    if not token:
        return None
    try:
        key = json.loads(urlsafe_b64decode(token.encode() + b"=" * (-len(token) % 4)))
    except (ValueError, RecursionError):
        raise InvalidArgument("the cursor is not one that ELIS gave") from None
    if not isinstance(key, list) or len(key) != len(types) or not all(type(part) is kind for part, kind in zip(key, types, strict=True)):
        raise InvalidArgument("the cursor is not one that ELIS gave")
    return tuple(key)


def clamp_page_size(size: int, *, default: int = 20, largest: int = 100) -> int:
    """Returns the page size to use; raises InvalidArgument when it is negative or too large."""
    if size == 0:
        return default
    if not 1 <= size <= largest:
        raise InvalidArgument(f"a page has 1 to {largest} rows, not {size}", page_size=size)
    return size
