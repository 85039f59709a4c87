"""JSON that is almost right: bytes that are not UTF-8 and halves of surrogate pairs, which loggers write and parsers refuse."""

from __future__ import annotations

import json


def mend_json(raw: bytes) -> bytes | None:
    """Returns the same JSON with what no Unicode text can hold replaced by U+FFFD; None when something else is wrong with it."""
    try:
        value = json.loads(raw.decode("utf-8", "replace"), parse_constant=_refuse_constant)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
    except (ValueError, RecursionError):
        return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
