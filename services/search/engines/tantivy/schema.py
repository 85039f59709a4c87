"""The schema of a day's index, and canonical lines as documents of it.

Only the line itself is stored; every other field exists to be searched, sorted by or counted.
"""

from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import orjson
from tantivy import Index, Schema, SchemaBuilder

from services.search.words import create_indexing_analyzer

SCHEMA_VERSION = 1
"""Part of the folder's name: an index of another version is made anew from the feed."""
ATTRIBUTES = "attributes"
BODY = "body"
LINE = "line"
MILLISECOND = "millisecond"
"""timestamp in whole milliseconds: histograms calculate in 64-bit floats, which cannot hold nanoseconds."""
_WORDS = "words"
_COUNTED = ("source", "system", "environment", "host", "service", "severity_text", "fingerprint")
_COMPARED = ("trace_id", "span_id")

_HEAD = re.compile(rb'\{"event_id":(\d+),"timestamp":(-?\d+),')
_DATE_TEXT = re.compile(r'"[0-9]{4}-[0-9]{2}-[0-9]{2}')
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
TEXT_MARK = "\u2060"
"""Precedes attribute texts that start with a date: were they RFC 3339 times, Tantivy would read them as times of its own, cut to seconds."""


def create_schema() -> Schema:
    """Returns the schema."""
    builder = SchemaBuilder()
    builder.add_bytes_field(LINE, stored=True)
    builder.add_unsigned_field("event_id", indexed=True, fast=True)
    builder.add_integer_field("timestamp", indexed=True, fast=True)
    builder.add_integer_field("observed_at", fast=True)
    builder.add_integer_field(MILLISECOND, fast=True)
    builder.add_unsigned_field("severity_number", indexed=True, fast=True)
    for name in _COUNTED:
        builder.add_text_field(name, fast=True, tokenizer_name="raw", index_option="basic")
    for name in _COMPARED:
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    builder.add_text_field(BODY, tokenizer_name=_WORDS, index_option="position")
    builder.add_json_field(ATTRIBUTES, fast=True, tokenizer_name="raw", index_option="basic", expand_dots_enabled=True)
    return builder.build()


def open_index(schema: Schema, path: Path | None) -> Index:
    """Opens or creates the index in a folder; without one, an empty index in memory. Raises ValueError or OSError when it is damaged."""
    index = Index(schema, path=str(path)) if path is not None else Index(schema)
    index.register_tokenizer(_WORDS, create_indexing_analyzer())
    index.config_reader(reload_policy="manual", num_warmers=0)
    return index


def read_head(line: bytes) -> tuple[int, int] | None:
    """Returns (event id, timestamp) of a canonical line; None when it is none."""
    head = _HEAD.match(line)
    return (int(head[1]), int(head[2])) if head else None


def to_document(line: bytes, timestamp: int) -> str:
    """Returns the JSON document of a canonical line."""
    text = line.decode()
    if ATTRIBUTES in text and _DATE_TEXT.search(text):
        text = _mark_dates(line)
    return f'{text[:-1]},"{MILLISECOND}":{timestamp // 1_000_000},"{LINE}":"{b64encode(line).decode()}"}}'


def mark_text(value: str) -> str:
    """Returns an attribute text as it stands in the index."""
    return TEXT_MARK + value if _DATE.match(value) else value


def unmark_text(value: str) -> str:
    """Returns the attribute text of a term."""
    return value[1:] if value.startswith(TEXT_MARK) and _DATE.match(value, 1) else value


def _mark_dates(line: bytes) -> str:
    event = orjson.loads(line)
    if ATTRIBUTES in event:
        event[ATTRIBUTES] = _mark_all(event[ATTRIBUTES])
    return orjson.dumps(event).decode()


def _mark_all(value: Any) -> Any:
    if isinstance(value, str):
        return mark_text(value)
    if isinstance(value, dict):
        return {key: _mark_all(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_mark_all(element) for element in value]
    return value
