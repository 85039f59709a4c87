"""OpenTelemetry log records written as JSON, made flat: OTLP's JSON, the collector's file exporter, the console exporters of the SDKs.

Shapes: opentelemetry-proto (`body`, `severityText`, `attributes` as key and value), the log data model (`Body`, `SeverityText`,
`Attributes`), the Go exporter (`Body: {"Type", "Value"}`, `Severity` as number) and the Python one (snake case, ids with `0x`).
"""

from __future__ import annotations

from typing import Any, Final

import orjson

MAX_RECORDS: Final = 10_000
"""Records that one line of the collector's file exporter is cut into; a longer one stays as it is."""
MAX_DEPTH: Final = 32
"""Nesting of a value that is unwrapped; what is deeper stays as it is written."""
EXPORT_OPENING: Final = '{"resourceLogs"'
"""How a line of the collector's file exporter begins."""

TELLTALES: Final = frozenset({"body", "Body", "severityText", "severityNumber", "SeverityText"})
"""Members that make a record one of OpenTelemetry."""

_HOLDERS: Final = ("attributes", "Attributes", "resource", "Resource")
_SCOPES: Final = ("scope", "Scope", "instrumentationScope", "InstrumentationScope")


def flatten_record(fields: dict[str, Any]) -> None:
    """Lifts attributes, resource and scope of an OpenTelemetry record to the top, in place.

    A name that is there already wins; the other value is kept as `attributes.name` or `resource.name`.
    """
    if type(fields.get("Severity")) is int and "SeverityNumber" not in fields:
        fields["SeverityNumber"] = fields.pop("Severity")
    for holder in _HOLDERS:
        inner = fields.get(holder)
        if type(inner) is dict and holder in ("resource", "Resource") and ("attributes" in inner or "Attributes" in inner):
            inner = inner.get("attributes", inner.get("Attributes"))
        if type(inner) is list:
            inner = _read_pairs(inner)
        if type(inner) is dict:
            del fields[holder]
            for key, value in inner.items():
                if fields.setdefault(key, value) != value:
                    fields[f"{holder.lower()}.{key}"] = value
    for holder in _SCOPES:
        scope = fields.get(holder)
        if type(scope) is dict:
            name = scope.get("name", scope.get("Name"))
            if isinstance(name, str) and name:
                fields.setdefault("otel.scope.name", name)
                del fields[holder]


def plain_value(value: Any, depth: int = 0) -> Any:
    """Unwraps an AnyValue: `{"stringValue": "x"}`, `{"Type": "String", "Value": "x"}`, arrays and lists of pairs of them.

    Anything else is returned as it is.
    """
    if type(value) is not dict or depth > MAX_DEPTH:
        return value
    if len(value) == 1:
        ((kind, inner),) = value.items()
        if kind in ("stringValue", "boolValue", "doubleValue", "bytesValue"):
            return inner
        if kind == "intValue":
            return int(inner) if isinstance(inner, str) and len(inner) < 20 and inner.isascii() and inner.lstrip("-").isdigit() else inner
        if kind == "arrayValue" and type(inner) is dict and type(inner.get("values", [])) is list:
            return [plain_value(item, depth + 1) for item in inner.get("values", [])]
        if kind == "kvlistValue" and type(inner) is dict and type(inner.get("values", [])) is list:
            pairs = _read_pairs(inner.get("values", []), depth + 1)
            return value if pairs is None else pairs
    elif len(value) == 2 and "Type" in value and "Value" in value:
        inner = value["Value"]
        if type(inner) is list:
            pairs = _read_pairs(inner, depth + 1)
            return [plain_value(item, depth + 1) for item in inner] if pairs is None else pairs
        return inner
    return value


def explode_export(line: str, decoded: dict[str, Any]) -> list[str]:
    """Returns the records of a line of the collector's file exporter as one JSON object each, with resource and scope; the line when it is none."""
    try:
        records = [orjson.dumps(record).decode() for record in _records(decoded)]
    except _MisshapenError:
        return [line]
    return records or [line]


def only_record(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the record in an export that holds a single one, with resource and scope; else the fields as they are."""
    try:
        records = _records(fields)
    except _MisshapenError:
        return fields
    return records[0] if len(records) == 1 else fields


class _MisshapenError(Exception):
    """What looked like an export is none: its text stays as it is, so that nothing of it is lost."""


def _records(export: dict[str, Any]) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    if len(export) != 1:
        raise _MisshapenError
    for group in _objects(export, "resourceLogs"):
        for scope in _objects(group, "scopeLogs"):
            shared = {name: part for name, part in (("resource", group.get("resource")), ("scope", scope.get("scope"))) if part}
            records.extend({**shared, **record} for record in _objects(scope, "logRecords"))
            if len(records) > MAX_RECORDS:
                raise _MisshapenError
    return records


def _objects(holder: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = holder.get(name, [])
    if type(value) is not list or not all(type(item) is dict for item in value):
        raise _MisshapenError
    return value


def _read_pairs(pairs: list[Any], depth: int = 0) -> dict[str, Any] | None:
    """Turns `[{"key": …, "value": …}]` (or `Key`, `Value`) into a plain object; None when it is something else."""
    plain: dict[str, Any] = {}
    for pair in pairs:
        if type(pair) is not dict:
            return None
        key, value = (pair["key"], pair.get("value")) if "key" in pair else (pair.get("Key"), pair.get("Value"))
        if not isinstance(key, str):
            return None
        plain[key] = plain_value(value, depth + 1)
    return plain
