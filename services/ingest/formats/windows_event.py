"""Windows events: the XML of the event log, and the JSON that winlogbeat and NXLog make of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import tzinfo
from typing import Any, Final

from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.formats.base import add_attributes
from services.ingest.formats.continuation import MAX_BYTES, MAX_LINES
from services.ingest.formats.fields import spread_fields, typed_value
from services.ingest.formats.json_lines import decode_object
from services.ingest.formats.windows_xml import read_event
from services.ingest.timestamps import parse_timestamp

LEVELS: Final = {"1": severity.FATAL, "2": severity.ERROR, "3": severity.WARN, "4": severity.INFO, "5": severity.DEBUG}
"""Severity number by the event's level: critical, error, warning, information, verbose (OpenTelemetry, log data model, appendix B)."""
LEVEL_NAMES: Final = {"1": "Critical", "2": "Error", "3": "Warning", "4": "Information", "5": "Verbose"}
AUDIT_FAILURE: Final = 1 << 52
AUDIT_SUCCESS: Final = 1 << 53
"""Keywords of the security log, whose events have level 0."""
MAX_BODY_VALUES: Final = 1_000
"""Characters of the values in the body of an event that comes without its rendered message."""
EVENT_DATA: Final = "winlog.event_data"

_OPENING = re.compile(r"<Event(?=[\s>])")
_CLOSING: Final = "</Event>"
_WRAPPER = re.compile(r"(?:\s*(?:<\?xml[^<>]*\?>|</?Events(?:\s[^<>]*)?>))+\s*")
_XML_EVENT = re.compile(r"(?:\s*(?:<\?xml[^<>]*\?>|<Events(?:\s[^<>]*)?>))*\s*<Event(?=[\s>])")
_SYSTEM_NAMES: Final = {
    "channel": "winlog.channel",
    "provider_name": "winlog.provider_name",
    "provider_guid": "winlog.provider_guid",
    "provider_source": "winlog.provider_source",
    "activity_id": "winlog.activity_id",
    "related_activity_id": "winlog.related_activity_id",
    "user_id": "winlog.user_id",
    "keywords": "winlog.keywords",
    "event_id": "winlog.event_id",
    "qualifiers": "winlog.qualifiers",
    "version": "winlog.version",
    "task": "winlog.task",
    "opcode": "winlog.opcode",
    "record_id": "winlog.record_id",
    "process_id": "process.pid",
    "thread_id": "thread.id",
}
_NUMBERS: Final = frozenset({"event_id", "qualifiers", "version", "record_id", "process_id", "thread_id"})
_NXLOG_NAMES: Final = {
    "EventID": "winlog.event_id",
    "Channel": "winlog.channel",
    "SourceName": "winlog.provider_name",
    "ProviderGuid": "winlog.provider_guid",
    "RecordNumber": "winlog.record_id",
    "ActivityID": "winlog.activity_id",
    "Keywords": "winlog.keywords",
    "Version": "winlog.version",
    "Task": "winlog.task",
    "Category": "winlog.task_name",
    "OpcodeValue": "winlog.opcode",
    "Opcode": "winlog.opcode_name",
    "EventType": "winlog.event_type",
    "ProcessID": "process.pid",
    "ThreadID": "thread.id",
    "ExecutionProcessID": "process.pid",
    "ExecutionThreadID": "thread.id",
    "UserID": "winlog.user_id",
    "AccountName": "user.name",
    "Domain": "user.domain",
}


class WindowsEvent:
    """One event of the Windows event log."""

    name = "windows_event"
    system = ""

    def detect(self, lines: Sequence[str]) -> float:
        """Returns the share of the text that is events."""
        filled = [line for line in lines if line and not line.isspace()]
        if not filled:
            return 0.0
        if any(_XML_EVENT.match(line) for line in filled):
            inside = sum(_count_lines(record) for record in self.split(filled) if _XML_EVENT.match(record))
            return 0.97 * min(1.0, inside / len(filled))
        return 0.97 * sum(1 for line in filled if '"winlog"' in line or '"EventID"' in line if _json_reader(decode_object(line) or {})) / len(filled)

    def split(self, lines: Iterable[str]) -> list[str]:
        """Returns one record for each event, however its XML is laid out; `<Events>` around them and XML declarations are left out."""
        records: list[str] = []
        parts: list[str] = []  # the lines of an event that is not closed
        size = 0
        for raw in lines:
            line = raw.rstrip("\r\n")
            if not line or line.isspace():
                continue
            if not parts and (line[0] == "{" or ("<Event" not in line and _CLOSING not in line)):
                if _WRAPPER.fullmatch(line) is None:
                    records.append(line)
                continue
            size += len(line) + 1
            parts.append(line)
            if _CLOSING in line or len(parts) >= MAX_LINES or size > MAX_BYTES // 4 or not _is_open(parts[0]):
                rest = _cut_events("\n".join(parts), records)
                if rest and len(parts) < MAX_LINES and size <= MAX_BYTES // 4 and _is_open(rest):
                    parts, size = [rest], len(rest)
                else:
                    records.extend([rest] if rest else [])
                    parts, size = [], 0
        if parts:
            records.append("\n".join(parts))
        return records

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Moves time, computer, provider and level to their columns, ids and data to attributes; the body becomes the rendered message, or a summary."""
        matched = 0
        bodies = batch.body
        for row in rows:
            body = bodies[row]
            if _XML_EVENT.match(body):
                matched += _parse_xml(batch, row, zone)
                continue
            fields = decode_object(body)
            reader = _json_reader(fields) if fields else None
            if fields is None or reader is None:
                continue
            reader(batch, row, fields)
            spread_fields(batch, row, fields, zone)
            matched += 1
        return matched


def _count_lines(record: str) -> int:
    """Returns the lines of a record; of an event that is not closed only those that are XML, since it may have taken foreign ones."""
    lines = record.split("\n")
    if _CLOSING in record or not _is_open(lines[0]):
        return len(lines)
    return sum(1 for line in lines if line.lstrip()[:1] == "<")


def _is_open(text: str) -> bool:
    return _OPENING.search(text) is not None


def _cut_events(text: str, records: list[str]) -> str:
    """Appends the events in the text, and what stands between them, to the records; returns what follows the last closed event."""
    position = 0
    while (end := text.find(_CLOSING, position)) >= 0:
        end += len(_CLOSING)
        opening = _OPENING.search(text, position, end)
        start = opening.start() if opening else end
        between = text[position:start]
        if between.strip() and _WRAPPER.fullmatch(between) is None:
            records.append(between.strip())
        if opening:
            records.append(text[start:end])
        position = end
    rest = text[position:].strip()
    return "" if not rest or _WRAPPER.fullmatch(rest) else rest


def _parse_xml(batch: Batch, row: int, zone: tzinfo) -> bool:
    event = read_event(batch.body[row])
    if event is None:
        return False
    system, data, rendering = event
    if not batch.timestamp[row] and (time := system.get("time")):
        batch.timestamp[row] = parse_timestamp(time, zone)
    if not batch.host[row]:
        batch.host[row] = system.get("computer", "")
    if not batch.service[row]:
        batch.service[row] = system.get("provider_name", "")
    _set_level(batch, row, system.get("level", ""), rendering.get("Level", ""), system.get("keywords", ""))
    found: dict[str, Any] = {}
    for key, value in system.items():
        name = _SYSTEM_NAMES.get(key)
        if name is not None:
            found[name] = int(value) if key in _NUMBERS and len(value) < 16 and value.isascii() and value.isdigit() else value
    for key, name in (("Task", "winlog.task_name"), ("Opcode", "winlog.opcode_name"), ("Keyword", "winlog.keyword_names")):
        if key in rendering:
            found[name] = rendering[key]
    if data:
        found[EVENT_DATA] = data
    batch.body[row] = rendering.get("Message") or _summarise(system.get("provider_name", ""), system.get("event_id", ""), system.get("channel", ""), data)
    add_attributes(batch, row, found)
    return True


def _summarise(provider: str, event_id: str, channel: str, data: dict[str, Any]) -> str:
    """Returns a body for an event without a rendered message: `provider event 4624 in Security: Name=value, …`."""
    values = ", ".join(f"{name}={value}" for name, value in data.items() if value != "-")
    head = f"{provider or 'unknown provider'} event {event_id}" + (f" in {channel}" if channel else "")
    return f"{head}: {values[:MAX_BODY_VALUES]}" if values else head


def _set_level(batch: Batch, row: int, level: str, rendered: str, keywords: str) -> None:
    """Sets the severity: by the level, and for level 0 by whether the security log says failure. The word is the rendered one."""
    number, word = LEVELS.get(level, 0), rendered or LEVEL_NAMES.get(level, "")
    if not number:
        try:
            mask = int(keywords, 16) if len(keywords) <= 20 else 0
        except ValueError:
            mask = 0
        if mask & AUDIT_FAILURE:
            number, word = severity.WARN, word or "Audit Failure"
        elif mask & AUDIT_SUCCESS:
            number, word = severity.INFO, word or "Audit Success"
        elif level == "0":
            number, word = severity.INFO, word or "LogAlways"
    if not batch.severity_number[row]:
        batch.severity_number[row] = number
    if not batch.severity_text[row]:
        batch.severity_text[row] = word


_Reader = Callable[[Batch, int, dict[str, Any]], None]


def _json_reader(fields: dict[str, Any]) -> _Reader | None:
    """Returns what reads an event of this shape, or None when the object is none."""
    if type(fields.get("winlog")) is dict:
        return _read_winlogbeat
    if isinstance(fields.get("EventID"), (int, str)) and any(isinstance(fields.get(name), str) for name in ("SourceName", "Channel", "ProviderGuid")):
        return _read_nxlog
    return None


def _read_winlogbeat(batch: Batch, row: int, fields: dict[str, Any]) -> None:
    """Flattens `winlog` and `event`, in place; the rest has ECS names, which spread_fields knows."""
    winlog: dict[str, Any] = fields.pop("winlog")
    if not batch.host[row] and isinstance(computer := winlog.pop("computer_name", None), str):
        batch.host[row] = computer
    provider = winlog.get("provider_name")
    if not batch.service[row] and isinstance(provider, str):
        batch.service[row] = provider
    event_id = winlog.get("event_id")
    if isinstance(event_id, str):
        winlog["event_id"] = typed_value(event_id)
    keywords = winlog.get("keywords")
    words = keywords if type(keywords) is list else [keywords]
    _set_level(batch, row, "", "", hex(AUDIT_FAILURE if "Audit Failure" in words else AUDIT_SUCCESS if "Audit Success" in words else 0))
    for key, value in winlog.items():
        fields.setdefault(f"winlog.{key}", value)
    if not isinstance(fields.get("message"), str):
        data = winlog.get("event_data")
        fields["message"] = _summarise(str(provider or ""), str(event_id or ""), str(winlog.get("channel") or ""), data if type(data) is dict else {})


def _read_nxlog(batch: Batch, row: int, fields: dict[str, Any]) -> None:
    """Renames the fields of the im_msvistalog module, in place; those it does not know are the event's data and keep their names."""
    provider = fields.get("SourceName")
    if not batch.service[row] and isinstance(provider, str):
        batch.service[row] = provider
    word, kind = fields.pop("Severity", None), fields.get("EventType")
    if isinstance(kind, str) and kind.startswith("AUDIT_"):
        word = kind
    if isinstance(word, str):
        if not batch.severity_number[row]:
            batch.severity_number[row] = {"AUDIT_FAILURE": severity.WARN, "AUDIT_SUCCESS": severity.INFO}.get(word) or severity.severity_of_word(word)
        if not batch.severity_text[row]:
            batch.severity_text[row] = word
    elif word is not None:
        fields["Severity"] = word
    for name, ours in _NXLOG_NAMES.items():
        if name in fields and ours not in fields:
            value = fields.pop(name)
            fields[ours] = typed_value(value) if ours == "winlog.event_id" and isinstance(value, str) else value
