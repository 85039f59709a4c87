"""JSON, one object a line: flat, ECS, OpenTelemetry, GELF, bunyan, Serilog, journald and their relatives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Any

import orjson

from services.ingest.batch import Batch
from services.ingest.formats.continuation import join_continuations
from services.ingest.formats.fields import spread_fields
from services.ingest.formats.otel_shapes import EXPORT_OPENING, explode_export, only_record

MAX_DEPTH = 64
"""Nesting beyond this is kept as text: later stages encode the attributes again, and encoders bound their depth."""
MAX_INNER = 262_144
"""Characters of a message that is looked into for being a JSON object itself."""
INNER_PREFIX = "message."
"""In front of a member of a message that is an object, where the object around it has a member of the same name."""


class JsonLines:
    """One JSON object a line; a stack trace below it belongs to it."""

    name = "json_lines"
    system = ""

    def detect(self, lines: Sequence[str]) -> float:
        """Returns the share of objects among the lines that do not continue another."""
        records = join_continuations(lines)
        if not records:
            return 0.0
        return 0.95 * sum(1 for record in records if decode_object(record.partition("\n")[0]) or decode_object(record)) / len(records)

    def split(self, lines: Iterable[str]) -> list[str]:
        """Returns one record for each line, with the stack trace lines that follow it; an OTLP export gives one for each of its log records."""
        records = join_continuations(lines)
        if not any(record.startswith(EXPORT_OPENING) for record in records):
            return records
        exploded: list[str] = []
        for record in records:
            export = decode_object(record) if record.startswith(EXPORT_OPENING) else None
            exploded.extend([record] if export is None else explode_export(record, export))
        return exploded

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
            if "resourceLogs" in fields:
                fields = only_record(fields)
            spread_fields(batch, row, fields, zone)
            message = bodies[row]
            if message is not body:
                if message[0] == "{":
                    _spread_inner(batch, row, zone)
                if trace:
                    bodies[row] = f"{bodies[row]}\n{trace}"
            matched += 1
        return matched


def decode_object(text: str) -> dict[str, Any] | None:
    """Returns the JSON object that the text is, or None when it is none, or one that is nested too deeply."""
    if text[:1] != "{" and not text.lstrip().startswith("{"):
        return None
    try:
        value = orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return None
    if type(value) is not dict:
        return None
    # To look for a bracket takes a tenth of the time of counting them: most objects are flat.
    nested = text.find("{", 1) > 0 or "[" in text
    return None if nested and text.count("{") + text.count("[") > MAX_DEPTH and _is_deep(value) else value


def _spread_inner(batch: Batch, row: int, zone: tzinfo) -> None:
    """Spreads the members of a message that is a JSON object itself; what the object around it says wins."""
    message = batch.body[row]
    inner = decode_object(message) if len(message) <= MAX_INNER else None
    if not inner:
        return
    present = batch.attributes[row]
    if present:
        inner = {f"{INNER_PREFIX}{key}" if key in present else key: value for key, value in inner.items()}
    spread_fields(batch, row, inner, zone)


def _is_deep(value: dict[str, Any]) -> bool:
    """Returns whether objects and lists are nested more than MAX_DEPTH deep. orjson itself takes no more than 1,024 levels."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for item in level for inner in (item.values() if type(item) is dict else item) if type(inner) in (dict, list)]
        if not level:
            return False
    return True
