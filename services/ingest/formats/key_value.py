"""Splunk's key=value: a stamp, then pairs split by semicolons, commas or blanks, values quoted or not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Any, Final

from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.formats.base import single_lines
from services.ingest.formats.fields import add_pair, join_clock, spread_fields, typed_value
from services.ingest.formats.logfmt import unescape
from services.ingest.timestamps import LAYOUTS, parse_timestamp

_STAMP = "|".join(LAYOUTS[name].embedded for name in ("iso", "slash", "clf", "ctime", "dotted", "epoch"))
_KEY = r"[A-Za-z_][\w.:-]*"
# Behind the stamp: nothing, a dash, or level and component as Splunk's own logs have them (`INFO  Metrics - group=…`).
_HEAD = re.compile(
    rf"\[?(?P<stamp>{_STAMP})\]?[,;|]?\s+(?:(?P<level>{severity.LEVEL_PATTERN})\s+(?P<component>[\w.:]{{1,80}})\s+-\s+|-\s+)?(?={_KEY}=)", re.ASCII
)
_LEVELLED: Final = _HEAD.groupindex["component"]
"""The last group of a head that has level and component."""
_NUMERIC: Final = "-0123456789"
"""What a number begins with."""
_QUOTED = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_SEMICOLON = re.compile(rf"\s*({_KEY})=(?:({_QUOTED})|([^;]*))(?:;|$)")
_BLANK = re.compile(rf"[\s,]*({_KEY})=(?:({_QUOTED})|([^\s,\"]*))(?=[\s,]|$)")

CIM_NAMES: Final[tuple[str, ...]] = ("app", "dvc", "vendor_product")
"""Names of Splunk's common information model that give a column and stay attributes too: searches of Splunk users ask for them."""


class KeyValue:
    """An optional stamp, perhaps level and component, and then `key=value` pairs that fill the line."""

    name = "key_value"
    system = "splunk"

    def detect(self, lines: Sequence[str]) -> float:
        """Returns the share of lines that open with (a stamp and) pairs."""
        filled = [line for line in lines if line and not line.isspace()]
        if not filled:
            return 0.0
        heads = [_HEAD.match(line) for line in filled]
        pairs = sum(1 for line, head in zip(filled, heads, strict=True) if len(read_pairs(line.strip(), head.end() if head else 0)) > 1)
        return pairs / len(filled) * (0.92 if sum(1 for head in heads if head) > len(filled) / 2 else 0.85)

    def split(self, lines: Iterable[str]) -> list[str]:
        """Returns one record for each line that is not blank."""
        return single_lines(lines)

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Spreads stamp and pairs over the columns and attributes; the body stays the line unless a pair is its message."""
        matched = 0
        for row in rows:
            body = batch.body[row]
            head = _HEAD.match(body)
            start = head.end() if head else 0
            fields = read_pairs(body, start)
            if len(fields) < 2:
                continue
            if head and not batch.timestamp[row]:
                batch.timestamp[row] = parse_timestamp(head["stamp"], zone)
            if "date" in fields and "time" in fields:
                join_clock(fields)
            if "saphost" in fields:
                _name_sap_instance(fields)
            if head and head.lastindex == _LEVELLED:
                fields.setdefault("level", head["level"])
                fields.setdefault("component", head["component"])
            kept = {name: fields[name] for name in CIM_NAMES if name in fields}
            spread_fields(batch, row, fields, zone)
            if kept:
                batch.attributes[row] = {**kept, **(batch.attributes[row] or {})}
            matched += 1
        return matched


def read_pairs(text: str, start: int) -> dict[str, Any]:
    """Returns the pairs that fill `text` from `start`, or {} when they do not reach the end. A key that comes again has a list of values."""
    if ";" not in text:
        return _read_by(_BLANK, text, start)
    fields = _read_by(_SEMICOLON, text, start)
    if len(fields) == text.count("=", start):
        return fields
    # The semicolon may be one inside of a value.
    others = _read_by(_BLANK, text, start)
    return others if len(others) > len(fields) else fields


def _read_by(pattern: re.Pattern[str], text: str, start: int) -> dict[str, Any]:
    """Returns the pairs that fill `text` from `start` as the pattern cuts them, or {}."""
    fields: dict[str, Any] = {}
    position = start
    while (pair := pattern.match(text, position)) is not None:
        key, quoted, bare = pair.groups()
        if quoted:
            value: Any = unescape(quoted[1:-1]) if "\\" in quoted else quoted[1:-1]
        else:
            bare = bare.strip()
            value = typed_value(bare) if bare[:1] in _NUMERIC else bare
        if key in fields:
            add_pair(fields, key, value)
        else:
            fields[key] = value
        position = pair.end()
    return {} if text[position:].strip(" \t,;") else fields


def _name_sap_instance(fields: dict[str, Any]) -> None:
    """Gives the names of the SAP export (`saphost`, `sysname`, `sysnr`) their ELIS names."""
    sid, number = fields.pop("sysname", None), fields.pop("sysnr", None)
    if sid is not None:
        fields["sap.sid"] = str(sid)
    if sid is not None and number is not None:
        fields["sap.instance"] = f"{fields['saphost']}_{sid}_{str(number).zfill(2)}"
