"""SAP gateway log (`gw_log-<date>`, profile parameter gw/logging): what was let in, what was refused, by which rule."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Final

from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.formats.base import add_attributes, matching_share, single_lines
from services.ingest.formats.sap_instance import add_instance, path_of
from services.ingest.timestamps import LAYOUTS, parse_layout

_STAMP = LAYOUTS["ctime_year_first"]
_LINE = re.compile(rf"(?P<action>[TXSsZMPOCERV]) (?P<stamp>{_STAMP.embedded}) (?P<text>\S.*)", re.ASCII | re.DOTALL)
_PAIR = re.compile(r"(?:^|[,:]\s{1,4})([A-Z][A-Z-]{1,30})=([^,]*)", re.ASCII)
_OUTCOME = re.compile(r"\b(accepted|denied|rejected)\b", re.IGNORECASE)

ACTIONS: Final = {
    "T": "network",
    "X": "start_stop",
    "S": "security",
    "s": "security",
    "Z": "no_rule",
    "M": "monitor",
    "P": "parameter",
    "O": "rfc_open",
    "C": "rfc",
    "E": "external_program",
    "R": "registered_program",
    "V": "conversation",
}
"""What the letter in front of a line means. `s` logs only what was refused."""
_NAMES: Final = {"USER": "sap.user", "TP": "sap.program"}


class SapGatewayLog:
    """One line for each action of the gateway."""

    name = "sap_gateway_log"
    system = "sap"

    def detect(self, lines: Sequence[str]) -> float:
        """Returns the share of lines with an action letter and a stamp whose milliseconds stand behind a colon."""
        return 0.98 * matching_share(lines, _LINE)

    def split(self, lines: Iterable[str]) -> list[str]:
        """Returns one record for each line that is not blank."""
        return single_lines(lines)

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Takes letter and stamp off each line and names its pairs; what was denied is a warning."""
        matched = 0
        for row in rows:
            match = _LINE.match(batch.body[row])
            if match is None:
                continue
            matched += 1
            action, text = match["action"], match["text"]
            found: dict[str, object] = {"sap.gateway.action": ACTIONS[action]}
            outcome = _OUTCOME.search(text)
            denied = outcome is not None and outcome.group(1).lower() != "accepted"
            if outcome is not None:
                found["sap.gateway.outcome"] = "denied" if denied else "accepted"
            if not batch.timestamp[row]:
                batch.timestamp[row] = parse_layout(match["stamp"], _STAMP, zone)
            if not batch.severity_number[row]:
                batch.severity_number[row] = severity.WARN if denied or action == "s" else severity.NOTICE if action == "Z" else severity.INFO
            if not batch.service[row]:
                batch.service[row] = "gateway"
            for pair in _PAIR.finditer(text):
                key, value = pair.group(1), pair.group(2).strip()
                if value:
                    found[_NAMES.get(key, f"sap.gateway.{key.lower().replace('-', '_')}")] = value
            add_instance(batch, row, found, path_of(batch, row))
            batch.body[row] = text
            add_attributes(batch, row, found)
        return matched
