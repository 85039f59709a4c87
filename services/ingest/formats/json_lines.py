"""JSON, one object a line: flat, ECS, OpenTelemetry, GELF, bunyan, Serilog, journald and their relatives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Any

import orjson

from services.ingest.batch import Batch
from services.ingest.formats.continuation import join_continuations
from services.ingest.formats.fields import spread_fields

MAX_DEPTH = 64
"""Nesting beyond this is kept as text: later stages encode the attributes again, and encoders bound their depth."""


class JsonLines:
    """One JSON object a line; a stack trace below it belongs to it."""

    name = "json_lines"
    system = ""

    def detect(self, lines: Sequence[str]) -> float:
        """Returns the share of objects among the lines that do not continue another."""
        records = join_continuations(lines)
        if not records:
            return 0.0
        return 0.95 * sum(1 for record in records if decode_object(record.partition("\n")[0]) is not None) / len(records)

    def split(self, lines: Iterable[str]) -> list[str]:
        """Returns one record for each line, with the stack trace lines that follow it."""
        return join_continuations(lines)

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Spreads the members of each object over the columns and attributes."""
        matched = 0
        bodies = batch.body
        for row in rows:
            body = bodies[row]
            fields = decode_object(body)
            trace = ""
            if fields is None:
                head, newline, trace = body.partition("\n")
                fields = decode_object(head) if newline else None
                if fields is None:
                    continue
            spread_fields(batch, row, fields, zone)
            if trace and bodies[row] is not body:
                bodies[row] = f"{bodies[row]}\n{trace}"
            matched += 1
        return matched


def decode_object(text: str) -> dict[str, Any] | None:
    """Returns the JSON object that the text is, or None when it is none, or one that is nested too deeply."""
    if text[:1] != "{" and not text.lstrip().startswith("{"):
        return None
    if text.count("{") + text.count("[") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        return None
    try:
        value = orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return None
    return value if type(value) is dict else None


def _depth(text: str) -> int:
    """Returns an upper bound of the nesting depth (brackets inside strings count too)."""
    depth = deepest = 0
    for character in text:
        if character in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "}]":
            depth -= 1
    return deepest
