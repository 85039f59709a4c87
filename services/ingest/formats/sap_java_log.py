"""Logs and traces of SAP AS Java in list log format 2.0, as Node applications of SAP (approuter, CAP) write it too.

Fields stand between `#`; a record may go on over lines, and its text may hold `#`. Positions 1 to 12 are those of SAP's
documentation: version, time, zone, severity, source, message code, CSN component, DC component, GUID, correlation id,
application, location. 20 (thread), 21 (kind) and 23 (text) are where all records that were found have them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final

from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.formats.base import add_attributes, matching_share
from services.ingest.formats.continuation import MAX_BYTES, MAX_LINES
from services.ingest.formats.sap_instance import add_instance, path_of
from services.ingest.timestamps import civil_seconds

_HEAD = re.compile(
    r"#2\.0#(?P<y>\d{4}) (?P<m>\d\d) (?P<d>\d\d) (?P<H>\d\d):(?P<M>\d\d):(?P<S>\d\d)[:.](?P<f>\d{1,9})#"
    r"(?P<zone>Z|[+-]\d{1,2}:?\d{2})?#(?P<severity>[A-Za-z]{0,16})#",
    re.ASCII,
)
_START = re.compile(r"#2\.0#\d{4} |#1\.\d ?#[^#\s]{8,80}#(?:\d{13}#|[A-Z][a-z]{2} [A-Z][a-z]{2} \d\d )", re.ASCII)
"""Also what starts a record of the list log before 2.0 (GUID and time), which is not read but is one of its own."""
_TEXT: Final = 23
_FIELDS: Final = {
    5: "component",
    6: "sap.message.id",
    7: "sap.java.csn_component",
    8: "sap.java.dc_component",
    9: "sap.java.guid",
    10: "correlation_id",
    11: "sap.java.application",
    12: "sap.java.location",
    20: "thread.name",
}
_KIND: Final = 21


class SapJavaLog:
    """Records of `defaultTrace`, `applications`, `security` and the other logs of an AS Java."""

    name = "sap_java_log"
    system = "sap"

    def detect(self, lines: Sequence[str]) -> float:
        """Returns near certainty when a record starts within the first lines, else the share of lines that start one."""
        share = matching_share(lines, _HEAD)
        return 0.9 + 0.09 * share if any(_HEAD.match(line) for line in lines[:10]) and share > 0.02 else share

    def split(self, lines: Iterable[str]) -> list[str]:
        """Joins each line that does not start a record to the record above it; lines in front of the first stand alone."""
        records: list[str] = []
        parts: list[str] = []
        size = 0
        for raw in lines:
            line = raw.rstrip("\r\n")
            if not line or line.isspace():
                continue
            joins = parts and parts[0].startswith("#2.0#") and not _START.match(line)
            if joins and len(parts) < MAX_LINES and size + len(line) <= MAX_BYTES:
                parts.append(line)
                size += len(line) + 1
                continue
            if parts:
                records.append("\n".join(parts))
            parts, size = [line], len(line)
        if parts:
            records.append("\n".join(parts))
        return records

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Names the fields of each record. Its own zone holds; `zone` is for records that leave it out."""
        matched = 0
        for row in rows:
            record = batch.body[row]
            head = _HEAD.match(record)
            if head is None:
                continue
            matched += 1
            if not batch.timestamp[row]:
                batch.timestamp[row] = _read_time(head, zone)
            if not batch.severity_number[row]:
                batch.severity_number[row] = severity.severity_of_word(head["severity"])
                batch.severity_text[row] = batch.severity_text[row] or head["severity"]
            if not batch.service[row]:
                batch.service[row] = "as_java"
            fields = record.split("#", _TEXT)
            found: dict[str, object] = {}
            for position, value in enumerate(fields[5:_TEXT], start=5):
                text = value.strip()
                if text and position != _KIND:
                    found[_FIELDS.get(position, f"sap.java.field_{position}")] = text
            batch.body[row] = _text_of(fields) or record
            add_instance(batch, row, found, path_of(batch, row))
            if found:
                add_attributes(batch, row, found)
        return matched


def _text_of(fields: list[str]) -> str:
    """Returns the text; of a record that is cut short, the last field that is there."""
    text = fields[_TEXT] if len(fields) > _TEXT else next((field for field in reversed(fields[6:]) if field.strip()), "")
    return text.strip().removesuffix("#").rstrip()


def _read_time(head: re.Match[str], zone: tzinfo) -> int:
    year, month, day, hour, minute, second = map(int, head.group("y", "m", "d", "H", "M", "S"))
    named = _offset(head["zone"]) if head["zone"] else zone
    seconds = civil_seconds(year, month, day, hour, minute, second, named) if named else 0
    return seconds * 1_000_000_000 + int(head["f"].ljust(9, "0")) if seconds else 0


@lru_cache(maxsize=256)
def _offset(text: str) -> tzinfo | None:
    """Returns the zone of `Z`, `+6:30`, `+06:30` or `+0630`, or None."""
    if text == "Z":
        return UTC
    digits = text[1:].replace(":", "").zfill(4)
    minutes = int(digits[:2]) * 60 + int(digits[2:])
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes)) if minutes < 24 * 60 else None
