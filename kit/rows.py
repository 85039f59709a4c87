"""Identity of the rows that ELIS creates."""

from __future__ import annotations

import os
import time
from uuid import UUID


def uuid7() -> UUID:
    """Returns a UUID version 7 (RFC 9562 §5.7): milliseconds since 1970, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    number = (milliseconds & 0xFFFFFFFFFFFF) << 80 | int.from_bytes(os.urandom(10))
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=number)
