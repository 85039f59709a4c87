"""SAP system log (SM21) as a key=value export: a stamp, `saphost`, `sysname`, `sysnr`, then the fields of the message.

The syntax is that of the Splunk-for-SAP dataset guide (`<MM/DD/YYYY HH:MM:SS> <key>=<value>[;<key>=<value>]`). Exports name
the fields of a message differently; the names taken are those of the RSLG tables (AREA, SUBID, CLASID …) and of the
tables that other systems keep SM21 in (MessageNumber, MessageText …), in any case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Final

from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.formats.base import add_attributes, single_lines
from services.ingest.formats.sap_dev_trace import is_log_error
from services.ingest.timestamps import LAYOUTS, parse_layout

_SLASH = LAYOUTS["slash"]
_HEAD = re.compile(rf"(?P<stamp>{_SLASH.embedded})\s+(?=saphost=|sysname=)", re.ASCII)
_KEY = re.compile(r"\s*([A-Za-z_][\w.]{0,63})=", re.ASCII)

CLASSES: Final = {"K": severity.ERROR, "T": severity.ERROR, "W": severity.WARN, "S": severity.INFO, "X": severity.INFO}
"""Severity by message class: K basis problem, T transaction problem, W warning, S operation trace, X other."""

_NAMES: Final = {
    "messagenumber": "sap.message.id",
    "messageid": "sap.message.id",
    "msgid": "sap.message.id",
    "msgno": "sap.message.id",
    "area": "area",
    "subid": "subid",
    "messagetext": "text",
    "msgtext": "text",
    "message": "text",
    "text": "text",
    "clasid": "class",
    "class": "class",
    "msgclass": "class",
    "messageclass": "class",
    "severity": "severity",
    "saphost": "host",
    "sysname": "sap.sid",
    "systemid": "sap.sid",
    "sysnr": "number",
    "systemnumber": "number",
    "instance": "sap.instance",
    "client": "sap.client",
    "clientid": "sap.client",
    "mandt": "sap.client",
    "user": "sap.user",
    "username": "sap.user",
    "tcode": "sap.tcode",
    "transaction": "sap.tcode",
    "transactioncode": "sap.tcode",
    "program": "sap.program",
    "repname": "sap.program",
    "terminal": "sap.terminal",
    "wpno": "sap.wp.no",
    "type": "sap.wp.type",
    "pid": "sap.wp.pid",
}
"""What a key means, by its lower-case name without underscores and points. Others become `sap.syslog.<key>`."""
_NUMBERS: Final = frozenset(("sap.wp.no", "sap.wp.pid"))


class SapSystemLog:
    """One line for each message of the system log."""

    name = "sap_system_log"
    system = "sap"

    def detect(self, lines: Sequence[str]) -> float:
        """Returns the share of lines with the head of the export that name a message or its class."""
        filled = [line for line in lines if line and not line.isspace()]
        if not filled:
            return 0.0
        return 0.96 * sum(1 for line in filled if (head := _HEAD.match(line)) and _is_message(read_fields(line[head.end() :]))) / len(filled)

    def split(self, lines: Iterable[str]) -> list[str]:
        """Returns one record for each line that is not blank."""
        return single_lines(lines)

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Names the fields of each message; the body is its id and text, the severity comes from its class."""
        matched = 0
        for row in rows:
            record = batch.body[row]
            head = _HEAD.match(record)
            fields = read_fields(record[head.end() :]) if head else {}
            if head is None or not _is_message(fields):
                continue
            matched += 1
            message = fields.get("sap.message.id") or fields.pop("area", "") + fields.pop("subid", "")
            text, kind, level = fields.pop("text", ""), fields.pop("class", ""), fields.pop("severity", "")
            if not batch.timestamp[row]:
                batch.timestamp[row] = parse_layout(head["stamp"], _SLASH, zone)
            if not batch.severity_number[row]:
                batch.severity_number[row] = _severity_of(message, kind, level)
                batch.severity_text[row] = batch.severity_text[row] or kind or level
            if not batch.service[row]:
                batch.service[row] = "system_log"
            host, number = fields.pop("host", ""), fields.pop("number", "")
            if host and not batch.host[row]:
                batch.host[row] = host
            if message:
                fields["sap.message.id"] = message
            if host and number and "sap.sid" in fields:
                fields.setdefault("sap.instance", f"{host}_{fields['sap.sid']}_{number.zfill(2)}")
            if kind:
                fields["sap.message.class"] = kind
            batch.body[row] = f"{message} {text}".strip() or record
            add_attributes(
                batch,
                row,
                {name: int(value) if name in _NUMBERS and len(value) < 10 and value.isascii() and value.isdigit() else value for name, value in fields.items()},
            )
        return matched


def read_fields(text: str) -> dict[str, str]:
    """Returns the fields by what they mean. A piece between semicolons that has no key belongs to the value before it."""
    fields: dict[str, str] = {}
    name = ""
    for piece in text.split(";"):
        key = _KEY.match(piece)
        if key is not None:
            lower = key.group(1).lower()
            name = _NAMES.get(lower.replace("_", "").replace(".", ""), f"sap.syslog.{lower}")
            fields[name] = piece[key.end() :].strip()
        elif name and piece and not piece.isspace():
            fields[name] = f"{fields[name]};{piece.rstrip()}"
    return {name: value for name, value in fields.items() if value}


def _is_message(fields: dict[str, str]) -> bool:
    return "sap.message.id" in fields or "class" in fields or ("area" in fields and "subid" in fields)


def _severity_of(message: str, kind: str, level: str) -> int:
    number = CLASSES.get(kind[:1].upper()) if kind else None
    return number or severity.severity_of_word(level) or (severity.ERROR if is_log_error(message) else severity.INFO)
