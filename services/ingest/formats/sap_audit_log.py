"""SAP security audit log (SM20): fixed records of 200 characters, written one after the other without line ends."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Final

from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.formats.base import add_attributes
from services.ingest.formats.sap_audit_texts import MESSAGES
from services.ingest.timestamps import LAYOUTS, parse_layout

RECORD: Final = 200
"""Characters of one record."""

_COMPACT = LAYOUTS["compact"]
# version, message id, stamp, OS process id, work process number, type and (hexadecimal) number, short terminal;
# then user 12, transaction 20, program 40, client 3, session 1, variables 64, terminal 20.
_HEAD = re.compile(r"[2-9][A-Z]{2}[A-Z0-9](?:19|20)\d{12}[0-9 ]{12}[A-Z ][0-9A-Fa-f ]", re.ASCII)
_PLACEHOLDER = re.compile(r"&([A-F])")


class SapAuditLog:
    """Records of the file that the profile parameter rsau/local/file names, or one record a line."""

    name = "sap_audit_log"
    system = "sap"
    record_characters = RECORD

    def detect(self, lines: Sequence[str]) -> float:
        """Returns the share of lines that start with version, message id and stamp in their columns."""
        filled = [line for line in lines if line and not line.isspace()]
        return sum(1 for line in filled if _HEAD.match(line) and len(line) > 112) / len(filled) if filled else 0.0

    def split(self, lines: Iterable[str]) -> list[str]:
        """Cuts what is longer than one record into records; a record that lost its trailing blanks is one line."""
        records: list[str] = []
        for raw in lines:
            line = raw.rstrip("\r\n")
            if len(line) <= RECORD or _HEAD.match(line) is None:
                if line and not line.isspace():
                    records.append(line)
                continue
            records.extend(line[start : start + RECORD] for start in range(0, len(line), RECORD) if not line[start : start + RECORD].isspace())
        return records

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Cuts the columns of each record and renders the message text of its id."""
        matched = 0
        for row in rows:
            record = batch.body[row]
            if _HEAD.match(record) is None or len(record) > RECORD:
                continue
            matched += 1
            message = record[1:4]
            text, number = MESSAGES.get(message, ("", severity.INFO))
            variables = record[116:180].rstrip(" ")
            if not batch.timestamp[row]:
                batch.timestamp[row] = parse_layout(record[4:18], _COMPACT, zone)
            if not batch.severity_number[row]:
                batch.severity_number[row] = number
            if not batch.service[row]:
                batch.service[row] = "security_audit"
            batch.body[row] = render_message(message, text, variables)
            add_attributes(batch, row, _read_columns(record, message, variables))
        return matched


def render_message(message: str, text: str, variables: str) -> str:
    """Puts the `&`-separated variables into the text; an unknown id is shown with its variables."""
    if not text:
        return f"{message} {variables}".rstrip()
    values = variables.split("&")
    return f"{message} " + _PLACEHOLDER.sub(lambda match: values[index] if (index := ord(match.group(1)) - 65) < len(values) else "", text)


def _read_columns(record: str, message: str, variables: str) -> dict[str, object]:
    found: dict[str, object] = {"sap.message.id": message}
    for key, start, end in (
        ("sap.wp.pid", 18, 25),
        ("sap.wp.no", 25, 30),
        ("sap.wp.type", 30, 31),
        ("sap.user", 40, 52),
        ("sap.tcode", 52, 72),
        ("sap.program", 72, 112),
        ("sap.client", 112, 115),
        ("sap.session", 115, 116),
    ):
        value = record[start:end].strip()
        if value:
            found[key] = int(value) if key in ("sap.wp.pid", "sap.wp.no") and value.isdigit() else value
    terminal = record[180:200].strip() or record[32:40].strip()
    if terminal:
        found["sap.terminal"] = terminal
    if variables.strip("&"):
        found["sap.audit.variables"] = variables
    return found
