"""Events that hold several records of a fixed length become an event for each.

Agents that read the security audit log of a Unicode or file-based SAP system line by line see no line ends in it and
send what they have read so far as one event.
"""

from __future__ import annotations

import re
from typing import Final

from services.ingest.formats.sap_audit_log import RECORD, SapAuditLog, cut_records
from services.ingest.receivers.hec_events import HecBatch

_FIRST: Final = frozenset("\x0023456789")
_HEAD: Final = re.compile("\x00?[2-9]\x00?[A-Z]")
"""What a record begins with: its version and the area of its message, as they are or in UTF-16. A date does not."""
_FORMATS: Final = ("", SapAuditLog.name)


def cut_events(decoded: HecBatch) -> HecBatch:
    """Returns the batch with a row for each record. The time of such an event is not that of its records: they have their own."""
    joined = {
        row: pieces
        for row, body in enumerate(decoded.batch.body)
        if body[0] in _FIRST and len(body) > RECORD and _HEAD.match(body) and decoded.formats[row] in _FORMATS and len(pieces := cut_records(body)) > 1
    }
    if not joined:
        return decoded
    origins = [row for row in range(len(decoded.batch)) for _ in joined.get(row, ("",))]
    batch = decoded.batch.pick(origins)
    position = 0
    for row in range(len(decoded.batch)):
        cut = joined.get(row)
        if cut is not None:
            batch.body[position : position + len(cut)] = cut
            batch.timestamp[position : position + len(cut)] = [0] * len(cut)
        position += len(cut) if cut is not None else 1
    return HecBatch(batch, *([column[row] for row in origins] for column in (decoded.systems, decoded.environments, decoded.formats)))
