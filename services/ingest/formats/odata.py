"""Pages of an OData service: the entities in them are the records."""

from __future__ import annotations

import re
from collections.abc import Iterable

import orjson

from services.ingest.formats.json_lines import decode_object

_PAGE = re.compile(r'\{\s*"(?:d|value|@odata\.[^"]{1,64})"\s*:')


def entity_lines(lines: Iterable[str]) -> list[str]:
    """Returns the lines that are not blank; one that is a page (`{"d":{"results":[…]}}`, `{"d":[…]}`, `{"value":[…]}`) gives a line for each entity."""
    records: list[str] = []
    for raw in lines:
        line = raw.strip()
        if line:
            records.extend(_read_page(line) or (raw.rstrip("\r\n"),))
    return records


def _read_page(line: str) -> list[str] | None:
    """Returns the entities of a page, encoded again, or None when the line is none."""
    page = decode_object(line) if _PAGE.match(line) else None
    if page is None or not all(key in ("d", "value") or key.startswith("@odata.") for key in page):
        return None
    inner = page.get("d")
    entities = inner.get("results") if isinstance(inner, dict) else inner if isinstance(inner, list) else page.get("value")
    if not isinstance(entities, list) or not entities or not all(type(entity) is dict for entity in entities):
        return None
    return [orjson.dumps(entity).decode() for entity in entities]
