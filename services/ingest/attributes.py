"""Bounds the number of attributes of an event: what is beyond goes into one field, so that fields cannot explode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from services.ingest.batch import Batch

OVERFLOW: Final = "elis.overflow"
"""Attribute that holds the attributes beyond the limit, as the text of a JSON object."""


def bound_attributes(batch: Batch, rows: Sequence[int], limit: int) -> list[int]:
    """Moves all but the first `limit` attributes of an event into one; returns the rows that had more. Nothing is dropped."""
    column = batch.attributes
    overflowing: list[int] = []
    if max(map(len, filter(None, column)), default=0) <= limit:
        return overflowing
    for row in rows:
        attributes = column[row]
        if attributes is None or len(attributes) <= limit:
            continue
        overflowing.append(row)
        names = list(attributes)
        kept: dict[str, Any] = {name: attributes[name] for name in names[:limit]}
        rest = {name: attributes[name] for name in names[limit:]}
        kept[OVERFLOW] = orjson.dumps(rest, option=orjson.OPT_NON_STR_KEYS).decode()
        column[row] = kept
    return overflowing
