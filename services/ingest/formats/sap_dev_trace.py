"""SAP developer traces (`dev_w0`, `dev_disp`, `dev_rd`, `dev_icm`, `dev_ms` …): a stamp line holds for the lines below it.

`***LOG <id>` lines are also written to the system log (SM21) under that id, which joins the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from functools import lru_cache
from typing import Final

from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.formats.base import add_attributes, matching_share
from services.ingest.formats.continuation import MAX_BYTES, MAX_LINES
from services.ingest.formats.sap_instance import add_instance, paths_of
from services.ingest.timestamps import LAYOUTS, parse_layout

_CTIME = LAYOUTS["ctime"]
_FILE = re.compile(r'trc file: "(?P<file>[^"]+)", trc level: (?P<level>\d+)(?:, release: "(?P<release>[^"]*)")?', re.ASCII)
# Work processes write the letter of a component in front of each line, the ICM and other threaded processes the thread.
_THREAD = r"\[Thr +(?P<thread>[0-9A-Fa-fx]{1,20})\] "
_STAMP = re.compile(rf"(?:[A-Z*] {{1,2}}|\[Thr +[0-9A-Fa-fx]{{1,20}}\] )?(?P<stamp>{_CTIME.embedded})\s*$", re.ASCII)
_EVENT = re.compile(
    rf"(?:{_THREAD}|(?P<component>[A-Z*]) {{1,2}})?\*{{3}}\s*(?P<kind>LOG|ERROR|WARNING)\s*(?P<id>\w{{3}})?\s*=> "
    r"(?P<message>.*?)(?: \[(?P<source>\S+)\s+(?P<line>\d{1,9})\])?$",
    re.DOTALL,
)
_THREAD_LINE = re.compile(rf"{_THREAD}(?P<message>\S.*)$", re.DOTALL)
_DETECT = re.compile(
    rf'trc file: "|\[Thr +[0-9A-Fa-fx]{{1,20}}\] |(?:[A-Z*] {{1,2}})?{_CTIME.embedded}\s*$'
    r"|(?:[A-Z*] {1,2})?\*{3}\s*(?:LOG|ERROR|WARNING)\b.*=>|[A-Z] {1,2}\S|\*  \S",
    re.ASCII,
)
_BOXED = re.compile(r"\*  \S|\*{4,}")
_RULE = re.compile(r"-{5,}$")

# System log messages (SM21) that tell a failure: run-time errors, communication errors, rollbacks, and the
# database interface (area BY, but for BYY, a reconnected work process). Others are informational.
_LOG_ERRORS: Final = frozenset(("AB0", "AB1", "Q0I", "R68"))
_SERVICES: Final = (
    ("dev_w", "work_process"),
    ("dev_disp", "dispatcher"),
    ("dev_rd", "gateway"),
    ("dev_icm", "icm"),
    ("dev_ms", "message_server"),
    ("dev_wdisp", "web_dispatcher"),
    ("dev_enq", "enqueue"),
    ("dev_rfc", "rfc"),
)
"""What writes a trace, by how its file is called; the longer name of two that begin alike wins."""
_WORK_PROCESS = re.compile(r"dev_w(\d{1,4})")
_TRACE_NAME = re.compile(r"(?:^|[/\\])(dev_[a-z]+\d{0,4})(?:\.old)?$", re.ASCII)


class SapDevTrace:
    """Traces of the processes of an ABAP instance."""

    name = "sap_dev_trace"
    system = "sap"

    def detect(self, lines: Sequence[str]) -> float:
        """Returns near certainty when the file opens with a trace head, else the share of trace lines when stamps and `***` lines are among them."""
        share = matching_share(lines, _DETECT)
        if any(_FILE.match(line) for line in lines[:10]):
            return 0.9 + 0.08 * share
        if not any(_STAMP.match(line) for line in lines) or (share < 0.6 and not any(_EVENT.match(line) for line in lines)):
            return 0.0
        return 0.5 + 0.48 * share if share > 0.3 else share

    def split(self, lines: Iterable[str]) -> list[str]:
        """Returns one record for each line or box of lines, with the head of the file and the stamp in front of it."""
        records: list[str] = []
        file = stamp = ""
        parts: list[str] = []
        size = 0

        def close() -> None:
            if parts:
                records.append("\n".join((*(head for head in (file, stamp) if head), *parts)))
                parts.clear()

        for raw in lines:
            line = raw.rstrip()
            if not line or _RULE.match(line):
                continue
            if _FILE.match(line):
                close()
                file, stamp = line, ""
                continue
            if _STAMP.match(line):
                close()
                stamp = line
                continue
            boxed = _BOXED.match(line) is not None
            if not parts or not (boxed or line[0] in " \t") or len(parts) >= MAX_LINES or size + len(line) > MAX_BYTES:
                close()
                size = 0
            parts.append(line)
            size += len(line) + 1
        close()
        return records

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Takes head and stamp off each record and reads component, kind, message id and place in the source.

        Senders that read line by line send the stamp as a record of its own: it then holds for the rows of its host and file below it.
        """
        matched = 0
        stamps: dict[tuple[str, str], int] = {}
        known: dict[str, int] = {}
        for row, path in zip(rows, paths_of(batch, rows), strict=True):
            body = batch.body[row]
            found: dict[str, object] = {}
            file = trace_name(path)
            if file:
                _add_process(batch, row, file, found)
            if body.startswith("trc file: "):
                line, _, rest = body.partition("\n")
                named, release = _read_head(line)
                if named:
                    body = rest
                    _add_process(batch, row, named, found)
                    if release:
                        found["sap.kernel.release"] = release
            first, newline, rest = body.partition("\n")
            writer = (batch.host[row], path)
            nanos = known.get(first, -1)
            if nanos < 0 and first.rstrip()[-1:].isdigit() and (stamp := _STAMP.match(first)):  # a year ends it
                nanos = known[first] = parse_layout(stamp["stamp"], _CTIME, zone)
            stamped = nanos >= 0
            if stamped:
                stamps[writer] = nanos
                if newline:
                    body, first = rest, rest.partition("\n")[0]
            else:
                nanos = stamps.get(writer, 0)
            event = _EVENT.match(first) if "***" in first else None
            if event is None and not stamped and not found and not nanos:
                continue
            matched += 1
            if not batch.timestamp[row]:
                batch.timestamp[row] = nanos
            if not batch.service[row]:
                batch.service[row] = "kernel"
            batch.body[row] = _read_line(batch, row, body, first, event, found) or batch.body[row]
            add_instance(batch, row, found, path)
            if found:
                add_attributes(batch, row, found)
        return matched


@lru_cache(maxsize=4_096)
def trace_name(path: str) -> str:
    """Returns the name of the trace file that a path ends in; empty when it is no developer trace."""
    match = _TRACE_NAME.search(path[-200:])
    return match.group(1) if match else ""


def is_log_error(message: str) -> bool:
    """Says whether a system log message id tells a failure."""
    return message in _LOG_ERRORS or (message.startswith("BY") and message != "BYY")


@lru_cache(maxsize=4_096)
def _read_head(line: str) -> tuple[str, str]:
    """Returns file and kernel release of the head of a trace; empty texts when it is none."""
    head = _FILE.match(line)
    return (head["file"], head["release"] or "") if head else ("", "")


@lru_cache(maxsize=4_096)
def _process_of(file: str) -> tuple[str, int]:
    """Returns the service that writes a trace file, and the number of the work process or -1."""
    names = [(len(prefix), service) for prefix, service in _SERVICES if file.startswith(prefix)]
    number = _WORK_PROCESS.match(file)
    return max(names)[1] if names else "", int(number.group(1)) if number else -1


def _add_process(batch: Batch, row: int, file: str, found: dict[str, object]) -> None:
    """Adds which process writes the trace file."""
    service, number = _process_of(file)
    found["sap.trace.file"] = file
    if number >= 0:
        found["sap.wp.no"] = number
    if not batch.service[row]:
        batch.service[row] = service


def _read_line(batch: Batch, row: int, body: str, first: str, event: re.Match[str] | None, found: dict[str, object]) -> str:
    """Reads a trace line (and the box below it); returns the message."""
    below = body[len(first) :]
    if event is None:
        if not batch.severity_number[row]:
            batch.severity_number[row] = severity.INFO
        start = 3 if first[2:3] == " " else 2
        if first[1:2] == " " and "A" <= first[0] <= "Z" and first[start:] and not first[start].isspace():
            found["component"] = first[0]
            return body[start:]
        line = _THREAD_LINE.match(first)
        if line is not None:
            found["thread.id"], message = line.groups()
            return message + below
        return body
    kind, identifier = event["kind"], event["id"]
    _read_writer(event, found)
    if kind == "LOG" and identifier:
        found["sap.message.id"] = identifier
    if event["source"]:
        found["code.file"] = event["source"]
        found["code.line"] = int(event["line"])
    if not batch.severity_number[row]:
        batch.severity_text[row] = kind
        if kind == "LOG":
            batch.severity_number[row] = severity.ERROR if is_log_error(identifier or "") else severity.INFO
        else:
            batch.severity_number[row] = severity.severity_of_word(kind)
    return event["message"] + below


def _read_writer(match: re.Match[str], found: dict[str, object]) -> None:
    """Reads what stands in front of a line: the letter of a component, or a thread."""
    component, thread = match.group("component", "thread")
    if component:
        found["component"] = component
    if thread:
        found["thread.id"] = thread
