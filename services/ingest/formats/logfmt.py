"""logfmt: `time=… level=info msg="order placed" order_id=17`, as Go services and Heroku write it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Any

from services.ingest.batch import Batch
from services.ingest.formats.base import single_lines
from services.ingest.formats.fields import add_pair, join_clock, spread_fields, typed_value

_PAIR = r'[A-Za-z_@][\w.@/-]*=(?:"[^"\\]*(?:\\.[^"\\]*)*"|[^\s"]*)'
_LINE = re.compile(rf"\s*{_PAIR}(?:\s+(?:{_PAIR}|[A-Za-z_][\w.-]*(?=\s|$)))+\s*$")
_FIELD = re.compile(r'([A-Za-z_@][\w.@/-]*)=(?:"([^"\\]*(?:\\.[^"\\]*)*)"|([^\s"]*))|([A-Za-z_][\w.-]*)(?=\s|$)')
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


class Logfmt:
    """Lines of nothing but `key=value` pairs, at least two."""

    name = "logfmt"
    system = ""

    def detect(self, lines: Sequence[str]) -> float:
        """Returns the share of lines that are pairs from end to end."""
        filled = [line for line in lines if line and not line.isspace()]
        return 0.9 * sum(1 for line in filled if _LINE.match(line)) / len(filled) if filled else 0.0

    def split(self, lines: Iterable[str]) -> list[str]:
        """Returns one record for each line that is not blank."""
        return single_lines(lines)

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Spreads the pairs of each line over the columns and attributes; bare numbers become numbers."""
        matched = 0
        for row in rows:
            body = batch.body[row]
            fields = read_fields(body)
            if not fields:
                continue
            if "date" in fields and "time" in fields:
                join_clock(fields)
            spread_fields(batch, row, fields, zone)
            matched += 1
        return matched


def read_fields(line: str) -> dict[str, Any]:
    """Returns the pairs of a line that holds nothing else, or {}. A flag without a value is true; a key that comes again has a list of values."""
    if _LINE.match(line) is None:
        return {}
    if '"' not in line:
        pairs = [(key, typed_value(value) if equals else True) for key, equals, value in (word.partition("=") for word in line.split())]
    else:
        pairs = [(key, typed_value(bare) if bare else unescape(quoted)) if key else (flag, True) for key, quoted, bare, flag in _FIELD.findall(line)]
    fields: dict[str, Any] = dict(pairs)
    if len(fields) < len(pairs):
        fields = {}
        for key, value in pairs:
            add_pair(fields, key, value)
    return fields


def unescape(text: str) -> str:
    """Resolves the backslash escapes of a quoted value."""
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match.group(1), match.group(1)), text) if "\\" in text else text
