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
from services.ingest.formats.line_pattern import LinePattern
from services.ingest.formats.sap_instance import add_instance, paths_of
from services.ingest.timestamps import LAYOUTS, parse_stamps

# [thread]{connection}[transaction/update transaction] date time level component file(line) : text
_HEAD = (
    r"\[(?P<thread>\d{1,18})\]\{(?P<connection>-?\d{1,18})\}\[(?P<transaction>-?\d{1,18})(?:/(?P<update>-?\d{1,18}))?\] (?P<stamp>\S+ \S+) "
    r"(?P<level>[diwef]) (?P<component>\S+)\s+(?P<source>\S+?)\((?P<line>\d{1,9})\) : ?"
)
_LINE = LinePattern(rf"{_HEAD}(?P<message>.*)$", re.DOTALL)
_DETECT = re.compile(_HEAD, re.ASCII)
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
        share = matching_share(filled, _DETECT)
        return 0.9 + 0.1 * share if _DETECT.match(filled[0]) else share

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
        lines = _LINE.read([batch.body[row] for row in rows])
        times = parse_stamps([line[4] for line in lines], LAYOUTS["iso"], zone)
        paths = paths_of(batch, rows)
        for row, path, nanos, line in zip(rows, paths, times, lines, strict=True):
            if not nanos:
                continue
            thread, connection, transaction, update, _, level, component, source, number, message = line
            matched += 1
            if not batch.timestamp[row]:
                batch.timestamp[row] = nanos
            if not batch.severity_number[row]:
                batch.severity_number[row] = severity.severity_of_word(level)
                batch.severity_text[row] = level
            if not batch.service[row]:
                batch.service[row] = "hana"
            found: dict[str, object] = {"component": component, "thread.id": int(thread), "code.file": source, "code.line": int(number)}
            if connection != "-1":
                found["sap.hana.connection"] = int(connection)
            if transaction != "-1":
                found["sap.hana.transaction"] = int(transaction)
            if update and update != "-1":
                found["sap.hana.update_transaction"] = int(update)
            if path.endswith(".trc"):
                _add_process(batch, row, path, found)
            message = message.strip()
            if message:
                batch.body[row] = message
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
