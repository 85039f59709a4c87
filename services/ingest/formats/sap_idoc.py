"""IDoc status records (table EDIDS) as JSON, one a line, with the field names of the table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.formats.base import add_attributes
from services.ingest.formats.json_lines import decode_object
from services.ingest.formats.odata import entity_lines
from services.ingest.formats.sap_idoc_texts import ERRORS, STATUSES, WAITING
from services.ingest.timestamps import epoch_nanos, parse_timestamp

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
        for row in rows:
            fields = decode_object(batch.body[row])
            if fields is None or "DOCNUM" not in fields or "STATUS" not in fields:
                continue
            matched += 1
            status = str(fields["STATUS"]).strip().zfill(2)
            if not batch.timestamp[row]:
                batch.timestamp[row] = _read_time(fields, zone)
            if not batch.severity_number[row]:
                batch.severity_number[row] = severity_of_status(status, fields.get("STATYP"))
                batch.severity_text[row] = str(fields.get("STATYP") or "")
            if not batch.service[row]:
                batch.service[row] = "idoc"
            add_attributes(batch, row, _read_fields(fields, status))
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
    values = [str(fields.get(f"STAPA{number}") or "").strip() for number in range(1, 5)]
    turn = 0

    def value_of(match: re.Match[str]) -> str:
        nonlocal turn
        mark = match.group(1)
        if mark == "&":
            return "&"
        if mark is None:
            turn += 1
        index = int(mark) if mark else turn
        return values[index - 1] if index <= 4 else ""

    return " ".join(_PLACEHOLDER.sub(value_of, text).split())


def _read_fields(fields: dict[str, Any], status: str) -> dict[str, object]:
    found: dict[str, object] = {}
    message, number = fields.get("STAMID"), fields.get("STAMNO")
    if message:
        found["sap.message.id"] = f"{message}{number or ''}"
    for key, value in fields.items():
        if value in (None, "") or key in _USED:
            continue
        name = _NAMES.get(key, f"sap.idoc.{key.lower()}")
        found[name] = status if key == "STATUS" else value
    return found


def _read_time(fields: dict[str, Any], zone: tzinfo) -> int:
    """Reads LOGDAT and LOGTIM (else CREDAT and CRETIM): `20240102` and `030405`, with marks between, or as OData writes them."""
    for date_key, time_key in (("LOGDAT", "LOGTIM"), ("CREDAT", "CRETIM")):
        date, clock = str(fields.get(date_key) or ""), str(fields.get(time_key) or "")
        odata_time = _ODATA_TIME.fullmatch(clock)
        if odata_time is not None:
            clock = "".join(part.zfill(2) for part in odata_time.groups())
        odata_date = _ODATA_DATE.fullmatch(date)
        digits = _DIGITS.sub("", clock).zfill(6)[:6]
        midnight = epoch_nanos(odata_date.group(1)) if odata_date else 0
        if midnight:
            date = f"{datetime.fromtimestamp(midnight // 10**9, UTC):%Y%m%d}"
        nanos = parse_timestamp(_DIGITS.sub("", date)[:8] + digits, zone)
        if nanos:
            return nanos
    return 0
