"""SAP HANA audit trail: semicolon-separated lines, from the CSV file or carried by syslog (process `HDB…`).

The order of fields is that of Google's parser (SAP_HANA_AUDIT, 1 to 9) and of the messages that IBM Guardium's HANA filter
is tested with (10 to 31). Only the statement may hold semicolons and line ends: what follows it is found from the session id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Final

from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.formats.base import add_attributes, matching_share
from services.ingest.formats.continuation import MAX_BYTES, MAX_LINES
from services.ingest.timestamps import parse_iso

_HEAD = re.compile(
    r"(?:[^;\n]{1,160}?\sHDB[^;\s]{0,64}:? (?:- ){0,3})?"
    r"(?P<stamp>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,9})?Z?);(?P<service>\w{1,32});(?P<host>[^;\s]{0,255});(?P<sid>[A-Z][A-Z0-9]{2});(?P<number>\d\d);",
    re.ASCII,
)
_FIELDS: Final = (
    "sap.hana.port",
    "sap.hana.database",
    "client.address",
    "sap.terminal",
    "client.process.pid",
    "client.port",
    "sap.hana.audit.policy",
    "",  # level
    "sap.hana.audit.action",
    "sap.user",
    "sap.hana.audit.schema",
    "sap.hana.audit.object",
    "sap.hana.audit.privilege",
    "sap.hana.audit.grantable",
    "sap.hana.audit.role",
    "sap.hana.audit.target",
    "sap.hana.audit.status",
    "sap.hana.audit.component",
    "sap.hana.audit.section",
    "sap.hana.audit.parameter",
    "sap.hana.audit.old_value",
    "sap.hana.audit.new_value",
    "sap.hana.audit.comment",
)
"""Attributes of fields 6 to 28."""
_LEVEL: Final = 7
_LEVELS: Final = {
    "EMERGENCY": severity.FATAL,
    "ALERT": severity.ALERT,
    "CRITICAL": severity.CRITICAL,
    "WARNING": severity.WARN,
    "INFO": severity.INFO,
}
_NUMBERS: Final = frozenset(("sap.hana.port", "client.process.pid", "client.port"))
_SECRET = re.compile(r"(?i)\b(PASSWORD|IDENTIFIED BY|USING)(\s+)(?:\"(?:[^\"]|\"\")*\"?|'(?:[^']|'')*'?|[^\s;,)]+)")


class HanaAudit:
    """One record for each audited action."""

    name = "hana_audit"
    system = "sap"

    def detect(self, lines: Sequence[str]) -> float:
        """Returns near certainty when the first line is a record, else the share of lines that are."""
        filled = [line for line in lines if line and not line.isspace()]
        share = matching_share(filled, _HEAD)
        return 0.9 + 0.09 * share if filled and _HEAD.match(filled[0]) else share

    def split(self, lines: Iterable[str]) -> list[str]:
        """Joins each line that does not start a record to the record above it: statements go on over lines."""
        records: list[str] = []
        parts: list[str] = []
        size = 0
        for raw in lines:
            line = raw.rstrip("\r\n")
            if not line or line.isspace():
                continue
            if parts and _HEAD.match(line) is None and len(parts) < MAX_LINES and size + len(line) <= MAX_BYTES:
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
        """Names the fields of each record; passwords in its statement are blanked before anything else sees them."""
        matched = 0
        for row in rows:
            record = batch.body[row]
            head = _HEAD.match(record)
            if head is None:
                continue
            matched += 1
            host, sid, number = head.group("host", "sid", "number")
            fields = record[head.end() :].split(";", len(_FIELDS))
            found: dict[str, object] = {"sap.sid": sid, "sap.hana.service": head["service"]}
            if host:
                found["sap.instance"] = f"{host}_{sid}_{number}"
            for name, value in zip(_FIELDS, fields, strict=False):
                if value and name:
                    found[name] = int(value) if name in _NUMBERS and value.isascii() and value.isdigit() and len(value) < 10 else value
            if len(fields) > len(_FIELDS):
                _read_statement(fields[-1], found)
            level = fields[_LEVEL] if len(fields) > _LEVEL else ""
            failed = str(found.get("sap.hana.audit.status", "")).upper() == "UNSUCCESSFUL"
            if not batch.timestamp[row]:
                batch.timestamp[row] = parse_iso(head["stamp"], zone)
            if not batch.severity_number[row]:
                known = _LEVELS.get(level.upper(), severity.INFO)
                batch.severity_number[row] = max(known, severity.WARN) if failed else known
                batch.severity_text[row] = batch.severity_text[row] or level
            if not batch.service[row]:
                batch.service[row] = "hana_audit"
            if host and not batch.host[row]:
                batch.host[row] = host
            batch.body[row] = _describe(found)
            add_attributes(batch, row, found)
        return matched


def _read_statement(text: str, found: dict[str, object]) -> None:
    """Reads statement, session id and application user: the session id is the last field that is a number."""
    parts = text.split(";")
    session = next((index for index in range(len(parts) - 1, 0, -1) if parts[index].isascii() and parts[index].isdigit()), 0)
    statement = ";".join(parts[:session] if session else parts).strip(" ;\n")
    if statement:
        found["sap.hana.audit.statement"] = _SECRET.sub(r"\1\2***", statement)
    if session:
        found["sap.hana.audit.session"] = parts[session]
        if len(parts) > session + 1 and parts[session + 1].strip():
            found["sap.hana.application_user"] = parts[session + 1].strip()
        more = ";".join(parts[session + 2 :]).strip(";\n ")
        if more:
            found["sap.hana.audit.more"] = more


def _describe(found: dict[str, object]) -> str:
    action, user, status = (found.get(name, "") for name in ("sap.hana.audit.action", "sap.user", "sap.hana.audit.status"))
    parts = [str(found[name]) for name in ("sap.hana.audit.schema", "sap.hana.audit.object") if name in found]
    target = found.get("sap.hana.audit.target")
    text = f"{action or 'audited action'}" + (f" on {'.'.join(parts)}" if parts else "") + (f" for {target}" if target else "")
    return text + (f" by {user}" if user else "") + (f": {status}" if status else "")
