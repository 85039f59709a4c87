"""The searchable fields of an event: names, aliases, kinds and the words for severities."""

from __future__ import annotations

TEXT_FIELDS = frozenset({"source", "system", "environment", "host", "service", "severity_text", "fingerprint", "trace_id", "span_id"})
"""Fields whose whole value is one term, compared as it is."""
HEXADECIMAL_FIELDS = frozenset({"fingerprint", "trace_id", "span_id"})
"""Text fields whose digits are lower case, however they were sent and are asked for."""
NUMBER_FIELDS = frozenset({"event_id", "timestamp", "observed_at", "severity_number"})
TIME_FIELDS = frozenset({"timestamp", "observed_at"})
"""Number fields in nanoseconds since 1970."""
BODY = "body"
ATTRIBUTES = "attributes"
ALIASES = {
    "env": "environment",
    "severity": "severity_number",
    "trace": "trace_id",
    "span": "span_id",
    "time": "timestamp",
    "id": "event_id",
    "message": BODY,
    "event": BODY,
}
FACET_FIELDS = frozenset({"source", "system", "environment", "host", "service", "severity_text", "fingerprint"})
"""Text fields that values can be counted of, beside attributes."""
SPLIT_FIELDS = frozenset({"source", "system", "environment", "host", "service", "severity_text"})

SEVERITIES: dict[str, tuple[int, int]] = {
    "unknown": (0, 0),
    "trace": (1, 4),
    "debug": (5, 8),
    "info": (9, 12),
    "information": (9, 12),
    "warn": (13, 16),
    "warning": (13, 16),
    "error": (17, 20),
    "err": (17, 20),
    "fatal": (21, 24),
    "critical": (21, 24),
}
"""Severity numbers of each name (OpenTelemetry logs data model, SeverityNumber)."""


def attribute_path(field: str) -> str | None:
    """Returns the path in the attributes that a facet field names; None when it names none."""
    head, dot, path = field.partition(".")
    return path if head == ATTRIBUTES and dot and path else None


def normalise_value(field: str, value: str) -> str:
    """Returns a value of a text field as events have it."""
    return value.lower() if field in HEXADECIMAL_FIELDS else value
