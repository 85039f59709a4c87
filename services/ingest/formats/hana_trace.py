"""SAP HANA service traces (`indexserver_<host>.<port>.<n>.trc`): one head a record, messages may go on over lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from functools import lru_cache

from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.formats.base import add_attributes, matching_share
from services.ingest.formats.continuation import MAX_BYTES, MAX_LINES
from services.ingest.formats.sap_instance import add_instance, path_of
from services.ingest.timestamps import parse_iso

# [thread]{connection}[transaction/update transaction] date time level component file(line) : text
_HEAD = re.compile(
    r"\[(?P<thread>\d{1,18})\]\{(?P<connection>-?\d{1,18})\}\[(?P<transaction>-?\d{1,18})(?:/(?P<update>-?\d{1,18}))?\] (?P<stamp>\S+ \S+) "
    r"(?P<level>[diwef]) (?P<component>\S+)\s+(?P<source>\S+?)\((?P<line>\d{1,9})\) : ?(?P<message>.*)$",
    re.ASCII | re.DOTALL,
)
# indexserver_<host>.<port>.<counter>.trc
_FILE = re.compile(r"(?:^|[/\\])(?P<service>[a-z]+)_(?P<host>[\w.-]{1,255})\.(?P<port>\d{5})\.\d{3}\.trc$", re.ASCII)
_START = re.compile(r"\[\d+\]\{-?\d+\}\[-?\d+(?:/-?\d+)?\] \d{4}-", re.ASCII)


class HanaTrace:
    """Traces of the indexserver, nameserver and other services of a HANA system."""

    name = "hana_trace"
    system = "sap"

    def detect(self, lines: Sequence[str]) -> float:
        """Returns near certainty when the first line has the head (few lines have it: stacks are long), else the share that do."""
        filled = [line for line in lines if line and not line.isspace()]
        if not filled:
            return 0.0
        share = matching_share(filled, _HEAD)
        return 0.9 + 0.1 * share if _HEAD.match(filled[0]) else share

    def split(self, lines: Iterable[str]) -> list[str]:
        """Joins each line without a head to the record above it."""
        records: list[str] = []
        parts: list[str] = []
        size = 0
        for raw in lines:
            line = raw.rstrip("\r\n")
            if not line or line.isspace():
                continue
            if parts and _START.match(line) is None and len(parts) < MAX_LINES and size + len(line) <= MAX_BYTES:
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
        """Moves the head of each record into columns and attributes; the body is the message with its further lines."""
        matched = 0
        for row in rows:
            match = _HEAD.match(batch.body[row])
            if match is None:
                continue
            nanos = parse_iso(match["stamp"], zone)
            if not nanos:
                continue
            matched += 1
            if not batch.timestamp[row]:
                batch.timestamp[row] = nanos
            if not batch.severity_number[row]:
                batch.severity_number[row] = severity.severity_of_word(match["level"])
                batch.severity_text[row] = match["level"]
            if not batch.service[row]:
                batch.service[row] = "hana"
            found: dict[str, object] = {
                "component": match["component"],
                "thread.id": int(match["thread"]),
                "code.file": match["source"],
                "code.line": int(match["line"]),
            }
            for key, value in (("connection", match["connection"]), ("transaction", match["transaction"]), ("update_transaction", match["update"])):
                if value is not None and value != "-1":
                    found[f"sap.hana.{key}"] = int(value)
            path = path_of(batch, row)
            if path.endswith(".trc"):
                _add_process(batch, row, path, found)
            batch.body[row] = match["message"].strip() or batch.body[row]
            add_attributes(batch, row, found)
        return matched


def _add_process(batch: Batch, row: int, path: str, found: dict[str, object]) -> None:
    """Adds what the path of the trace says: host, service and port of the process, SID and instance."""
    file = _read_name(path)
    if file is not None:
        service, host, port = file
        found["sap.hana.service"], found["sap.hana.port"] = service, port
        if not batch.host[row]:
            batch.host[row] = host
    add_instance(batch, row, found, path)


@lru_cache(maxsize=4_096)
def _read_name(path: str) -> tuple[str, str, int] | None:
    """Returns service, host and port that the name of a trace file holds, or None."""
    match = _FILE.search(path[-400:])
    return (match["service"], match["host"], int(match["port"])) if match else None
