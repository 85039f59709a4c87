"""Joins stack traces that came line by line, each line as a record of its own, to one event.

Raw text and files are joined when they are cut into records. Syslog, Loki, container agents and others send each line as a
record; after parsing, the lines of a trace that follow each other in a request become one event again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import product
from typing import Final

from services.ingest.batch import Batch
from services.ingest.formats.continuation import STACK_LINE, TraceJoiner

_FIRST: Final = frozenset(" \taCSTDWgrc.-[#")
"""First characters of the lines that only stack traces have; many other lines begin with them too."""
_OPENINGS: Final = frozenset(
    ("at", "Ca", "Su", "..", "Tr", "Du", "Th", "go", "cr", "--", "[s", "St", "Wr", "ru", *map("".join, product(" \t", " \tabepà.F-/+CS")))
)
"""First two characters of these lines, but for those of PHP, which are a "#" and any digit."""
MAX_BLANK: Final = 4
"""Rows without text that a trace may have between two of its lines."""


def join_rows(batch: Batch, rows: Sequence[int], requests: Sequence[int], apart: Collection[int] = ()) -> list[int]:
    """Appends the lines of stack traces to the body of the row that they belong to; returns the rows that stay.

    `requests` is a column that tells the rows of one request from those of others; only rows of one request are joined. A line
    belongs to the row before it of the same source, host and service, when it has no severity or attribute that the other has
    not, and comes at most QUIET_NANOSECONDS later. `apart` are rows that are never joined. The body of a joined row becomes empty.
    """
    bodies = batch.body
    match = STACK_LINE.match
    telling = [row for row in rows if (first := bodies[row][:1]) in _FIRST and (bodies[row][:2] in _OPENINGS or first == "#") and match(bodies[row])]
    if not telling:
        return list(rows)
    with_trace = {_stream_of(batch, row, requests) for row in telling}
    heads: dict[tuple[int, str, str, str], int] = {}
    joiners: defaultdict[tuple[int, str, str, str], TraceJoiner] = defaultdict(lambda: TraceJoiner(indented=False))
    parts: defaultdict[int, list[str]] = defaultdict(list)
    kept: list[int] = []
    blank: defaultdict[tuple[int, str, str, str], list[int]] = defaultdict(list)  # rows since the last one with a text: a trace may have such lines
    inside: set[int] = set()
    for row in rows:
        stream = _stream_of(batch, row, requests)
        if stream not in with_trace:
            kept.append(row)
            continue
        if not bodies[row] or bodies[row].isspace():
            kept.append(row)
            blank[stream].append(row)
            continue
        head = heads.get(stream)
        between = blank.pop(stream, [])
        if len(between) > MAX_BLANK or head is None or row in apart or head in apart or not _fits(batch, row, head):
            joiners.pop(stream, None)  # what follows belongs to this row or to none
        joiner = joiners[stream]
        joins = joiner.takes(bodies[row], batch.timestamp[row])
        if "\n" in bodies[row]:
            joiner.pass_whole(bodies[row])
        if joins and head is not None:
            inside.update(between)
            parts[head].extend([bodies[empty] for empty in between])
            parts[head].append(bodies[row])
            bodies[row] = ""
            continue
        heads[stream] = row
        kept.append(row)
    for head, texts in parts.items():
        bodies[head] = "\n".join([bodies[head], *texts])
    return [row for row in kept if row not in inside] if inside else kept


def _stream_of(batch: Batch, row: int, requests: Sequence[int]) -> tuple[int, str, str, str]:
    return requests[row], batch.source[row], batch.host[row], batch.service[row]


def _fits(batch: Batch, row: int, head: int) -> bool:
    """Returns whether nothing is said of the row that is not said of the head."""
    number = batch.severity_number[row]
    if number and number != batch.severity_number[head]:
        return False
    if batch.trace_id[row] and batch.trace_id[row] != batch.trace_id[head]:
        return False
    attributes = batch.attributes[row]
    return not attributes or attributes.items() <= (batch.attributes[head] or {}).items()
