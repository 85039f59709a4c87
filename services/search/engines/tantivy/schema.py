"""The schema of a day's index, and what stands in it otherwise than in canonical lines: times, and texts that look like times.

Nothing is stored in the index: the lines lie beside it (`lines_file`), found by the id of the event. Every field exists
to be searched, sorted by or counted.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from tantivy import Index, Schema, SchemaBuilder

from services.search.words import create_indexing_analyzer

SCHEMA_VERSION = 3
"""Part of the folder's name: an index of another version is made anew from the feed."""
ATTRIBUTES = "attributes"
BODY = "body"
_WORDS = "words"
_COUNTED = ("source", "system", "environment", "host", "service", "severity_text", "fingerprint")
COLUMNS = ("trace_id", "span_id")
"""Text fields without terms: nearly every event has its own value, and a column's dictionary costs a third of that of terms."""

_DATE_TEXT = re.compile(r'"[0-9]{4}-[0-9]{2}-[0-9]{2}')
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ATTRIBUTES_KEY = f'"{ATTRIBUTES}":{{'
_QUOTE, _DASH, _LINE_END = 0x22, 0x2D, 0x0A
TEXT_MARK = "\u2060"
"""Precedes attribute texts that start with a date: were they RFC 3339 times, Tantivy would read them as times of its own, cut to seconds."""


def create_schema(*, with_all_terms: bool = False) -> Schema:
    """Returns the schema; `with_all_terms` as the parser wants to see it, which makes ranges only of texts that have terms.

    Times of events count from the start of the day. Histograms calculate in 64-bit floats, which hold whole numbers up to
    2^53 exactly: enough for the nanoseconds of a day, not for those since 1970.
    """
    builder = SchemaBuilder()
    builder.add_unsigned_field("event_id", fast=True)
    builder.add_integer_field("timestamp", fast=True)
    builder.add_integer_field("observed_at", fast=True)
    builder.add_unsigned_field("severity_number", fast=True)
    for name in (*_COUNTED, *COLUMNS):
        builder.add_text_field(name, fast=True, tokenizer_name="raw", index_option="basic")
    builder.add_text_field(BODY, tokenizer_name=_WORDS, index_option="position")
    builder.add_json_field(ATTRIBUTES, fast=True, tokenizer_name="raw", index_option="basic", expand_dots_enabled=True)
    return _refine(builder.build(), () if with_all_terms else COLUMNS)


def _refine(schema: Schema, columns: Collection[str]) -> Schema:
    """Returns the schema without what the builder always adds to texts: terms of columns, and lengths, which only a ranking by relevance needs.

    The builder has no parameters for that; the pickled form of a schema, which is Tantivy's own description of it, has.
    """
    pickled: Any = schema.__reduce__()
    rebuild, (description,) = pickled
    for field in description["inner"]:
        indexing = field["options"].get("indexing")
        if field["name"] in columns:
            field["options"]["indexing"] = None
        elif indexing is not None:
            indexing["fieldnorms"] = False
    built: Schema = rebuild(description)
    return built


def open_index(schema: Schema, path: Path | None) -> Index:
    """Opens or creates the index in a folder; without one, an empty index in memory. Raises ValueError or OSError when it is damaged."""
    index = Index(schema, path=str(path)) if path is not None else Index(schema)
    index.register_tokenizer(_WORDS, create_indexing_analyzer())
    index.config_reader(reload_policy="manual", num_warmers=0)
    return index


def lines_with_dates(content: bytes) -> frozenset[int]:
    """Returns the numbers of the lines in which a text that starts with a date may stand. Costs next to nothing for an event."""
    characters = np.frombuffer(content, dtype=np.uint8)
    dashes = np.flatnonzero(characters[5:-3] == _DASH) + 5
    places = dashes[(characters[dashes - 5] == _QUOTE) & (characters[dashes + 3] == _DASH)]
    if not len(places):
        return frozenset()
    return frozenset(np.searchsorted(np.flatnonzero(characters == _LINE_END), places).tolist())


def mark_dates(line: str) -> str:
    """Returns a line whose attributes have marks where Tantivy would read a text as a time."""
    start = line.find(_ATTRIBUTES_KEY)
    if start < 0 or not _DATE_TEXT.search(line, start):
        return line
    event = orjson.loads(line)
    if ATTRIBUTES in event:
        event[ATTRIBUTES] = _mark_all(event[ATTRIBUTES])
    return orjson.dumps(event).decode()


def mark_text(value: str) -> str:
    """Returns an attribute text as it stands in the index."""
    return TEXT_MARK + value if _DATE.match(value) else value


def unmark_text(value: str) -> str:
    """Returns the attribute text of a term."""
    return value[1:] if value.startswith(TEXT_MARK) and _DATE.match(value, 1) else value


def _mark_all(value: Any) -> Any:
    if isinstance(value, str):
        return mark_text(value)
    if isinstance(value, dict):
        return {key: _mark_all(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_mark_all(element) for element in value]
    return value
