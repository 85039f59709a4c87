"""IDoc status records (table EDIDS) as JSON, one a line, with the field names of the table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Any, Final

from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.formats.base import add_attributes
from services.ingest.formats.json_lines import decode_object
from services.ingest.formats.odata import entity_lines
from services.ingest.formats.sap_idoc_texts import ERRORS, STATUSES, WAITING
from services.ingest.timestamps import epoch_nanos, parse_compact

_STATUS_TYPES: Final = {"A": severity.ERROR, "E": severity.ERROR, "W": severity.WARN, "S": severity.INFO, "I": severity.INFO}
_NAMES: Final = {
    "MANDT": "sap.client",
    "DOCNUM": "sap.idoc.docnum",
    "STATUS": "sap.idoc.status",
    "UNAME": "sap.user",
    "REPID": "sap.program",
    "TID": "sap.idoc.tid",
    "SYSID": "sap.sid",
    "SID": "sap.sid",
}
_USED: Final = frozenset(("LOGDAT", "LOGTIM", "STATXT", "STAPA1", "STAPA2", "STAPA3", "STAPA4", "CREDAT", "CRETIM"))
_VARIABLES: Final = ("STAPA1", "STAPA2", "STAPA3", "STAPA4")
MAX_REMEMBERED: Final = 8_192
"""Characters of a record whose names are remembered."""
_PLACEHOLDER = re.compile(r"&([1-4&])?")
_KEYS = re.compile(r'"DOCNUM"\s*:')
_STATUS = re.compile(r'"STATUS"\s*:')
_ODATA_DATE = re.compile(r"/Date\((-?\d{1,16})(?:[+-]\d{4})?\)/")
_ODATA_TIME = re.compile(r"PT(\d{1,2})H(\d{1,2})M(\d{1,2})S")
_DIGITS = re.compile(r"\D")


class SapIdoc:
    """One JSON object for each status that an IDoc reached."""

    name = "sap_idoc"
    system = "sap"

    def detect(self, lines: Sequence[str]) -> float:
        """Returns the share of lines that are objects with DOCNUM and STATUS."""
        filled = [line for line in lines if line and not line.isspace()]
        return sum(1 for line in filled if line.lstrip()[:1] == "{" and _KEYS.search(line) and _STATUS.search(line)) / len(filled) if filled else 0.0

    def split(self, lines: Iterable[str]) -> list[str]:
        """Returns one record for each line that is not blank, and for each entity of a page of OData."""
        return entity_lines(lines)

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Renders the status text of each record and names its fields."""
        matched = 0
        times: dict[tuple[str, str], int] = {}
        for row in rows:
            fields = decode_object(batch.body[row])
            if fields is None or "DOCNUM" not in fields or "STATUS" not in fields:
                continue
            matched += 1
            status = str(fields["STATUS"]).strip().zfill(2)
            kind = fields.get("STATYP")
            if not batch.timestamp[row]:
                batch.timestamp[row] = _read_time(fields, zone, times)
            if not batch.severity_number[row]:
                batch.severity_number[row] = severity_of_status(status, kind)
                batch.severity_text[row] = str(kind or "")
            if not batch.service[row]:
                batch.service[row] = "idoc"
            add_attributes(batch, row, _read_fields(fields, status, short=len(batch.body[row]) <= MAX_REMEMBERED))
            batch.body[row] = f"IDoc status {status}: {render_text(fields) or STATUSES.get(status, 'no text')}"
        return matched


def severity_of_status(status: str, kind: Any) -> int:
    """Returns the severity number of an IDoc status: errors by its number, else by the type of its message (STATYP)."""
    if status in ERRORS:
        return severity.ERROR
    if status in WAITING:
        return severity.NOTICE
    return _STATUS_TYPES.get(kind, severity.INFO) if isinstance(kind, str) else severity.INFO


def render_text(fields: dict[str, Any]) -> str:
    """Puts STAPA1 … STAPA4 into the placeholders of STATXT: `&1` by its number, a bare `&` in turn."""
    text = str(fields.get("STATXT") or "")
    if "&" not in text:
        return text.strip()
    values = [str(fields.get(key) or "").strip() for key in _VARIABLES]
    turn = 0
    parts = _PLACEHOLDER.split(text)  # text, mark, text, mark, … text
    for position in range(1, len(parts), 2):
        mark = parts[position]
        if mark == "&":
            continue
        if mark is None:
            turn += 1
        index = int(mark) if mark else turn
        parts[position] = values[index - 1] if index <= 4 else ""
    return " ".join("".join(parts).split())


def _read_fields(fields: dict[str, Any], status: str, *, short: bool) -> dict[str, object]:
    """Returns the attributes of a record. `short`: whether its names may be remembered."""
    found: dict[str, object] = {}
    message, number = fields.get("STAMID"), fields.get("STAMNO")
    if message:
        found["sap.message.id"] = f"{message}{number or ''}"
    if fields["STATUS"] not in (None, ""):
        fields["STATUS"] = status
    keys = tuple(fields)
    for key, name in _recall_names(keys) if short else _names_of(keys):
        value = fields[key]
        if value or (value is not None and value != ""):
            found[name] = value
    return found


def _names_of(keys: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Returns those fields of a record that become attributes, and the names of these."""
    return tuple((key, _NAMES.get(key, f"sap.idoc.{key.lower()}")) for key in keys if key not in _USED)


_recall_names = lru_cache(maxsize=1_024)(_names_of)


def _read_time(fields: dict[str, Any], zone: tzinfo, known: dict[tuple[str, str], int]) -> int:
    """Reads LOGDAT and LOGTIM, else CREDAT and CRETIM. `known` are moments that were read before: IDocs are posted together."""
    for date_key, time_key in (("LOGDAT", "LOGTIM"), ("CREDAT", "CRETIM")):
        moment = (str(fields.get(date_key) or ""), str(fields.get(time_key) or ""))
        nanos = known.get(moment)
        if nanos is None:
            nanos = known[moment] = _read_moment(*moment, zone)
        if nanos:
            return nanos
    return 0


def _read_moment(date: str, clock: str, zone: tzinfo) -> int:
    """Reads a date and a time of day: `20240102` and `030405`, with marks between, or as OData writes them."""
    if len(date) == 8 and len(clock) == 6 and date.isdecimal() and clock.isdecimal():
        return parse_compact(date + clock, zone)
    odata_time = _ODATA_TIME.fullmatch(clock)
    if odata_time is not None:
        clock = "".join(part.zfill(2) for part in odata_time.groups())
    odata_date = _ODATA_DATE.fullmatch(date)
    digits = _DIGITS.sub("", clock).zfill(6)[:6]
    midnight = epoch_nanos(odata_date.group(1)) if odata_date else 0
    if midnight:
        date = f"{datetime.fromtimestamp(midnight // 10**9, UTC):%Y%m%d}"
    return parse_compact(_DIGITS.sub("", date)[:8] + digits, zone)
