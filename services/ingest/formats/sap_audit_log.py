"""SAP security audit log (SM20): fixed records of 200 characters, written one after the other without line ends."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from functools import lru_cache
from typing import Final

from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.formats.base import add_attributes
from services.ingest.formats.sap_audit_texts import MESSAGES
from services.ingest.formats.sap_instance import add_instance, paths_of
from services.ingest.timestamps import parse_compact

RECORD: Final = 200
"""Characters of one record."""

# version, message id, stamp, OS process id, work process number, type and (hexadecimal) number, short terminal;
# then user 12, transaction 20, program 40, client 3, session 1, variables 64, terminal 20.
_HEAD = re.compile(r"[2-9][A-Z]{2}[A-Z0-9](?:19|20)\d{12}[0-9 ]{12}[A-Z ][0-9A-Fa-f ]", re.ASCII)
_HEAD_LENGTH = 33
_PLACEHOLDER = re.compile(r"&([A-F])")


class SapAuditLog:
    """Records of the file that the profile parameter rsau/local/file names, or one record a line."""

    name = "sap_audit_log"
    system = "sap"
    record_characters = RECORD

    def detect(self, lines: Sequence[str]) -> float:
        """Returns the share of lines that start with version, message id and stamp in their columns, or hold records behind the rest of one."""
        filled = [line for line in lines if line and not line.isspace()]
        return sum(1 for line in filled if len(line) > 112 and _find_head(_narrow(line))) / len(filled) if filled else 0.0

    def split(self, lines: Iterable[str]) -> list[str]:
        """Cuts what is longer than one record into records; a record that lost its trailing blanks is one line.

        What comes in front of the first head (a file read from its middle) and what is cut off at the end are records too.
        """
        records: list[str] = []
        for raw in lines:
            line = raw.rstrip("\r\n")
            if line and not line.isspace():
                records.extend(cut_records(line))
        return records

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Cuts the columns of each record and renders the message text of its id.

        A body that holds several records, from a sender that does not cut them, becomes one event with a line for each.
        """
        matched = 0
        for row, path in zip(rows, paths_of(batch, rows), strict=True):
            record = _narrow(batch.body[row])
            if _HEAD.match(record) is None:
                continue
            matched += 1
            found: dict[str, object]
            if len(record) > RECORD:
                pieces = [piece for piece in cut_records(record) if _HEAD.match(piece)]
                read = [_read_record(piece) for piece in pieces]
                found = {**read[0][2], "sap.audit.records": len(read)}
                text, number = "\n".join(text for text, _, _ in read), max(number for _, number, _ in read)
            else:
                text, number, found = _read_record(record)
            if not batch.timestamp[row]:
                batch.timestamp[row] = parse_compact(record[4:18], zone)
            if not batch.severity_number[row]:
                batch.severity_number[row] = number
            if not batch.service[row]:
                batch.service[row] = "security_audit"
            batch.body[row] = text
            add_instance(batch, row, found, path)
            add_attributes(batch, row, found)
        return matched


def cut_records(text: str) -> list[str]:
    """Returns the records in a text: as it is when it holds one, or none at all."""
    narrow = _narrow(text)
    head = _find_head(narrow)
    if head is None:
        return [text]
    start = head.start()
    pieces = [narrow[:start]] if start else []
    pieces.extend(narrow[position : position + RECORD] for position in range(start, len(narrow), RECORD))
    return [piece for piece in pieces if piece and not piece.isspace()]


def _find_head(text: str) -> re.Match[str] | None:
    """Returns the first head: at the start, or behind the rest of one record when the text goes on for another."""
    return _HEAD.match(text) or (_HEAD.search(text, 0, RECORD + _HEAD_LENGTH) if len(text) > RECORD else None)


def _narrow(text: str) -> str:
    """Takes out the zero bytes of UTF-16 that was read as text of one byte a character."""
    return text.replace("\0", "") if "\0" in text[:4] and _HEAD.match(text.replace("\0", "")) else text


def _read_record(record: str) -> tuple[str, int, dict[str, object]]:
    """Returns text, severity number and attributes of one record."""
    message = record[1:4]
    text, number = MESSAGES.get(message, ("", severity.INFO))
    variables = record[116:180].rstrip(" ")
    return render_message(message, text, variables), number, _read_columns(record, message, variables)


@lru_cache(maxsize=8_192)
def render_message(message: str, text: str, variables: str) -> str:
    """Puts the `&`-separated variables into the text; an unknown id is shown with its variables."""
    if not text:
        return f"{message} {variables}".rstrip()
    values = variables.split("&")
    return f"{message} " + _PLACEHOLDER.sub(lambda match: values[index] if (index := ord(match.group(1)) - 65) < len(values) else "", text)


def _read_columns(record: str, message: str, variables: str) -> dict[str, object]:
    found: dict[str, object] = {"sap.message.id": message, **_read_process(record[18:31]), **_read_session(record[40:116])}
    terminal = record[180:200].strip() or record[32:40].strip()
    if terminal:
        found["sap.terminal"] = terminal
    if variables.strip("&"):
        found["sap.audit.variables"] = variables
    return found


@lru_cache(maxsize=4_096)
def _read_process(text: str) -> dict[str, object]:
    """Reads the columns of the work process that wrote the record. Not to be changed by the caller."""
    found: dict[str, object] = {}
    for key, value in (("sap.wp.pid", text[:7].strip()), ("sap.wp.no", text[7:12].strip())):
        if value:
            found[key] = int(value) if value.isascii() and value.isdigit() else value
    if text[12:].strip():
        found["sap.wp.type"] = text[12:].strip()
    return found


@lru_cache(maxsize=4_096)
def _read_session(text: str) -> dict[str, object]:
    """Reads the columns that say who did it, and in which program. Not to be changed by the caller."""
    found: dict[str, object] = {}
    for key, value in (
        ("sap.user", text[:12]),
        ("sap.tcode", text[12:32]),
        ("sap.program", text[32:72]),
        ("sap.client", text[72:75]),
        ("sap.session", text[75:]),
    ):
        value = value.strip()
        if value:
            found[key] = value
    return found
