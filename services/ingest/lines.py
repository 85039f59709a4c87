"""The canonical line: one event as one JSON object, encoded once and passed on as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from services.ingest.pipeline import Prepared

ORDINAL_BITS = 20
"""event_id = (block id << ORDINAL_BITS) + ordinal in the block."""


class _Line(msgspec.Struct, omit_defaults=True, gc=False):
    """The keys of a line in their order; those from `environment` on are left out when their value is unknown."""

    event_id: int
    timestamp: int
    observed_at: int
    source: str
    system: str
    severity_number: int
    fingerprint: str
    body: str
    environment: str = ""
    host: str = ""
    service: str = ""
    severity_text: str = ""
    attributes: dict[str, Any] | None = None
    trace_id: str = ""
    span_id: str = ""


_CHUNK = 250
"""Lines that are made and encoded at once."""
_ENCODER = msgspec.json.Encoder()


def encode_lines(prepared: Prepared, rows: Sequence[int], block_id: int, buffer: bytearray) -> int:
    """Writes the content of a block, a line for each of the rows with LF after each, to the start of a buffer; returns its length.

    The buffer grows as it must. Objects are made and encoded by C code, a column at a time: no Python statement runs per
    event. They are encoded some at a time, into memory that was used just before: fresh pages for all of them cost half as
    much again.
    """
    batch = prepared.batch
    columns: tuple[Sequence[Any], ...] = (
        prepared.timestamps,
        prepared.observed_at,
        batch.source,
        prepared.systems,
        batch.severity_number,
        prepared.fingerprint_texts,
        batch.body,
        prepared.environments,
        batch.host,
        batch.service,
        batch.severity_text,
        [attributes or None for attributes in batch.attributes],
        batch.trace_id,
        batch.span_id,
    )
    if len(rows) != len(batch):
        columns = tuple([column[row] for row in rows] for column in columns)
    first = block_id << ORDINAL_BITS
    lines = map(_Line, range(first, first + len(rows)), *columns)
    end = 0
    # A list: msgspec 0.22 keeps the iterators that it is handed for ever, and with them the columns.
    while chunk := list(islice(lines, _CHUNK)):
        encoded = _ENCODER.encode_lines(chunk)
        buffer[end : end + len(encoded)] = encoded
        end += len(encoded)
    return end
