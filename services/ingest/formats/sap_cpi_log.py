"""Message processing logs of SAP Cloud Integration (CPI) as JSON, one entity of `/api/v1/MessageProcessingLogs` a line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Any, Final

from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.formats.base import add_attributes
from services.ingest.formats.json_lines import decode_object
from services.ingest.formats.odata import entity_lines
from services.ingest.timestamps import epoch_nanos, parse_timestamp

STATUSES: Final = {
    "COMPLETED": severity.INFO,
    "PROCESSING": severity.INFO,
    "DISCARDED": severity.WARN,
    "RETRY": severity.WARN,
    "ABANDONED": severity.ERROR,
    "ESCALATED": severity.ERROR,
    "FAILED": severity.ERROR,
}
_NAMES: Final = {
    "MessageGuid": "sap.cpi.message_guid",
    "CorrelationId": "correlation_id",
    "ApplicationMessageId": "sap.cpi.application_message_id",
    "ApplicationMessageType": "sap.cpi.application_message_type",
    "IntegrationFlowName": "sap.cpi.flow",
    "Sender": "sap.cpi.sender",
    "Receiver": "sap.cpi.receiver",
    "Status": "sap.cpi.status",
    "LogLevel": "sap.cpi.log_level",
}
_GUID = re.compile(r'"MessageGuid"\s*:')
_FLOW = re.compile(r'"(?:IntegrationFlowName|Status)"\s*:')
_DATE = re.compile(r"/Date\((-?\d{1,16})(?:[+-]\d{4})?\)/", re.ASCII)
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class SapCpiLog:
    """One JSON object for each message that an integration flow handled."""

    name = "sap_cpi_log"
    system = "sap"

    def detect(self, lines: Sequence[str]) -> float:
        """Returns the share of lines that are objects with MessageGuid and a flow or status."""
        filled = [line for line in lines if line and not line.isspace()]
        return sum(1 for line in filled if line.lstrip()[:1] == "{" and _GUID.search(line) and _FLOW.search(line)) / len(filled) if filled else 0.0

    def split(self, lines: Iterable[str]) -> list[str]:
        """Returns one record for each line that is not blank, and for each entity of a page of OData."""
        return entity_lines(lines)

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Names the fields of each log; its time is when processing ended, or began when it has not ended."""
        matched = 0
        for row in rows:
            fields = decode_object(batch.body[row])
            if fields is None or not fields.get("MessageGuid") or not (fields.get("Status") or fields.get("IntegrationFlowName")):
                continue
            matched += 1
            started, ended = read_time(fields.pop("LogStart", None), zone), read_time(fields.pop("LogEnd", None), zone)
            status = str(fields.get("Status") or "").upper()
            if not batch.timestamp[row]:
                batch.timestamp[row] = ended or started
            if not batch.severity_number[row]:
                batch.severity_number[row] = STATUSES.get(status, severity.INFO)
                batch.severity_text[row] = batch.severity_text[row] or status
            if not batch.service[row]:
                batch.service[row] = "cpi"
            found = _read_fields(fields)
            if started and ended >= started:
                found["duration_ms"] = (ended - started) // 1_000_000
            batch.body[row] = _describe(fields, status)
            add_attributes(batch, row, found)
        return matched


def read_time(value: Any, zone: tzinfo) -> int:
    """Returns nanoseconds of a time as OData writes it (`/Date(ms)/`, ISO), or 0."""
    if not isinstance(value, str):
        return epoch_nanos(value)
    date = _DATE.fullmatch(value)
    return epoch_nanos(date.group(1)) if date else parse_timestamp(value, zone)


def _describe(fields: dict[str, Any], status: str) -> str:
    flow, sender, receiver = (str(fields.get(key) or "") for key in ("IntegrationFlowName", "Sender", "Receiver"))
    route = f" from {sender}" * bool(sender) + f" to {receiver}" * bool(receiver)
    return f"Integration flow {flow or 'without name'}: message{route} {status or 'without status'}"


def _read_fields(fields: dict[str, Any]) -> dict[str, object]:
    """Returns the fields by their ELIS names, without OData's links to other entities."""
    found: dict[str, object] = {}
    for key, value in fields.items():
        if value in (None, "") or key == "__metadata" or (isinstance(value, dict) and "__deferred" in value):
            continue
        found[_NAMES.get(key) or f"sap.cpi.{_WORD.sub('_', key).lower()}"] = value
    return found
