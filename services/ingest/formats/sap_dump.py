"""ABAP short dumps (ST22) as the text export writes them: header lines, then titled boxes. One dump is one event."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from functools import lru_cache
from typing import Final

from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.formats.base import add_attributes
from services.ingest.timestamps import civil_seconds, parse_timestamp

MAX_LINES: Final = 5_000
"""Lines of one dump: list of calls, source extract and chosen variables make dumps long."""
MAX_BYTES: Final = 1_000_000
MAX_SECTION: Final = 4_000
"""Characters kept of each section, from its start."""

_HEADER = re.compile(
    r"\|?\s*(?P<key>Category|Runtime Errors?|Except(?:ion|\.)|ABAP Program|Application Component|Date and Time|Short Text)"
    r"(?=[\s.:|]|$)[ .:]*+"
)
_START = re.compile(r"\|?\s*Category\b|\|?\s*Runtime Errors?\b")
_RULE = re.compile(r"[|\s]*-{5,}[|\s]*$")
_TITLES: Final = {
    "short text": "short_text",
    "what happened?": "what_happened",
    "what can you do?": "what_can_you_do",
    "error analysis": "error_analysis",
    "how to correct the error": "how_to_correct",
    "system environment": "system_environment",
    "user and transaction": "user_and_transaction",
    "information on where terminated": "where_terminated",
    "source code extract": "source_code",
    "contents of system fields": "system_fields",
    "active calls/events": "active_calls",
    "active calls in sap kernel": "kernel_calls",
    "chosen variables": "chosen_variables",
    "missing rfc authorization": "missing_authorization",
    "internal notes": "internal_notes",
}
"""Titles of the boxes, lower case, and the attribute each becomes."""

_LEADER = re.compile(r"\s*+(?P<key>[A-Za-z][A-Za-z ]*+)\.{2,}+:?+\s*+\"?+(?P<value>[^\"]*+)\"?\s*+$")
_LEADERS: Final = {
    "client": "sap.client",
    "user": "sap.user",
    "transaction": "sap.tcode",
    "transactions id": "sap.transaction.id",
    "program": "sap.program",
    "application server": "sap.application_server",
    "sap release": "sap.release",
    "database name": "sap.database",
    "kernel release": "sap.kernel.release",
    "screen": "sap.screen",
}
# A user's own date layout (DATFM 1 to 6) and clock: 03.05.2014 · 05/03/2014 · 05-03-2014 · 2014.05.03 · 2014/05/03 · 2014-05-03, 24 or 12 hours.
_DATE = re.compile(r"(\d{1,4})([./-])(\d{1,2})\2(\d{1,4})[ ,T]{1,3}(\d{1,2}):(\d{2}):(\d{2})(?:\.\d{1,9})?(?: ?([AaPp])\.?[Mm]\.?)?", re.ASCII)
_INSTANCE = re.compile(r"(?P<host>[\w.-]+)_(?P<sid>[A-Z][A-Z0-9]{2})_(?P<number>\d{2})", re.ASCII)
_INCLUDE = re.compile(r"line\s+(\d{1,9})\s+of\s+(?:the\s+)?(?:\(?[Ii]nclude\)?\s+)?program\s+\"?([\w/<>=-]+)\"?")


class SapDump:
    """Short dumps, one after the other."""

    name = "sap_dump"
    system = "sap"

    def detect(self, lines: Sequence[str]) -> float:
        """Returns near certainty when the text opens like a dump, and a runtime error and a date follow in the words of the export."""
        first = next((line for line in lines if line and not line.isspace() and not _RULE.match(line)), "")
        if _HEADER.match(first) is None:
            return 0.0
        keys = {match["key"] for line in lines if (match := _HEADER.match(line))}
        if not any(key.startswith("Runtime Error") for key in keys):
            return 0.0
        return 0.98 if "Date and Time" in keys else 0.6

    def split(self, lines: Iterable[str]) -> list[str]:
        """Joins everything from one header to the next."""
        records: list[str] = []
        parts: list[str] = []
        keys: set[str] = set()
        size = 0
        for raw in lines:
            line = raw.rstrip()
            if not line:
                continue
            header = _HEADER.match(line)
            key = header["key"] if header else ""
            starts = bool(_START.match(line)) and (key in keys or key == "Category")
            if parts and (starts or len(parts) >= MAX_LINES or size + len(line) > MAX_BYTES):
                records.append("\n".join(parts))
                parts, size, keys = [], 0, set()
            if key:
                keys.add(key)
            parts.append(line)
            size += len(line) + 1
        if parts:
            records.append("\n".join(parts))
        return records

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Reads header and boxes; the body becomes runtime error, short text and program."""
        matched = 0
        for row in rows:
            header, sections = read_dump(batch.body[row])
            error = header.get("Runtime Error")
            if not error:
                continue
            matched += 1
            found = _read_sections(sections)
            program = header.get("ABAP Program") or found.get("sap.program")
            short_text = " ".join(sections.get("short_text", "").split()) or header.get("Short Text", "")
            found["sap.dump.runtime_error"] = error
            for key, name in (
                ("Category", "sap.dump.category"),
                ("Exception", "sap.dump.exception"),
                ("Application Component", "sap.dump.application_component"),
                ("ABAP Program", "sap.program"),
            ):
                if header.get(key):
                    found[name] = header[key]
            if not batch.timestamp[row]:
                batch.timestamp[row] = read_date(header.get("Date and Time", "").split(" (")[0], zone)
            if not batch.severity_number[row]:
                batch.severity_number[row] = severity.ERROR
            if not batch.service[row]:
                batch.service[row] = "abap"
            server = found.get("sap.application_server")
            instance = _INSTANCE.fullmatch(server) if isinstance(server, str) else None
            if instance is not None:
                found["sap.instance"], found["sap.sid"] = instance.group(), instance["sid"]
                if not batch.host[row]:
                    batch.host[row] = instance["host"]
            exception = header.get("Exception")
            name = f"{error} ({exception})" if exception else error
            batch.body[row] = name + (f": {short_text}" if short_text else "") + (f" (program {program})" if program else "")
            add_attributes(batch, row, found)
        return matched


def read_dump(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the header values (keys as the export names them, plurals and abbreviations resolved) and the text of each box."""
    header: dict[str, str] = {}
    sections: dict[str, list[str]] = {}
    section = ""
    for line in text.split("\n"):
        if _RULE.match(line):
            continue
        inner = line.strip().strip("|").rstrip()
        title = _TITLES.get(inner.strip().lower())
        if title is not None:
            section = title
            sections.setdefault(section, [])
        elif section:
            sections[section].append(inner)
        elif (match := _HEADER.match(line)) is not None:
            key = {"Runtime Errors": "Runtime Error", "Except.": "Exception"}.get(match["key"], match["key"])
            header.setdefault(key, line[match.end() :].strip().removesuffix("|").rstrip())
    return header, {name: "\n".join(lines).strip("\n")[:MAX_SECTION] for name, lines in sections.items()}


@lru_cache(maxsize=4_096)
def read_date(text: str, zone: tzinfo) -> int:
    """Returns nanoseconds of a date as the settings of any SAP user write it, or 0.

    Points mean day first, slashes and dashes month first, unless the year comes first; where that is no date, the other way.
    """
    match = _DATE.fullmatch(text.strip())
    if match is None:
        return parse_timestamp(text, zone)
    first, mark, second, third, hour, minute, sec, half = match.groups()
    clock = int(hour) % 12 + (12 if half in "Pp" else 0) if half else int(hour)
    orders = [(first, second, third)] if len(first) == 4 else [(third, second, first), (third, first, second)]
    if len(first) != 4 and len(third) != 4:
        return 0
    if mark != ".":
        orders.reverse()
    for year, month, day in orders:
        seconds = civil_seconds(int(year), int(month), int(day), clock, int(minute), int(sec), zone)
        if seconds:
            return seconds * 1_000_000_000
    return 0


def _read_sections(sections: dict[str, str]) -> dict[str, object]:
    """Returns the boxes as attributes, with who, where and which release read out of them."""
    found: dict[str, object] = {}
    for name, text in sections.items():
        if text.strip() and name != "short_text":
            found[f"sap.dump.{name}"] = text
    for line in f"{sections.get('user_and_transaction', '')}\n{sections.get('system_environment', '')}".split("\n"):
        match = _LEADER.match(line)
        leader = _LEADERS.get(match["key"].strip().lower()) if match else None
        if match and leader and match["value"].strip():
            found.setdefault(leader, match["value"].strip())
    place = _INCLUDE.search(" ".join(sections.get("where_terminated", "").split()))
    if place is not None:
        found["sap.dump.line"] = int(place.group(1))
        found["sap.dump.include"] = place.group(2)
    return found
