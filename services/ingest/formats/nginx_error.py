"""The error log of nginx: `2024/01/02 10:00:03 [error] 1234#0: *5 text, client: …, server: …, request: "…", upstream: "…", host: "…"`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Final

from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.formats.base import add_attributes, matching_share
from services.ingest.formats.continuation import MAX_BYTES, join_continuations
from services.ingest.timestamps import parse_iso

_HEAD = r"(?P<time>\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[(?P<level>debug|info|notice|warn|error|crit|alert|emerg)\] (?P<pid>\d{1,10})#(?P<tid>\d{1,10}):"
_LINE = re.compile(rf"{_HEAD} (?:\*(?P<connection>\d{{1,18}}) )?(?P<message>.*)", re.ASCII | re.DOTALL)
_DETECT = re.compile(_HEAD, re.ASCII)
_SENT = re.compile(r' sent in stderr: "[^"]*\Z')
"""Text in quotes that is not closed."""
_CONTEXT = re.compile(r', (client|server|request|subrequest|upstream|host|referrer|login): ("[^"]*"|[^,"\n]*)')
_NAMES: Final = {
    "client": "client.address",
    "server": "server.name",
    "subrequest": "http.subrequest",
    "upstream": "upstream.address",
    "host": "http.host",
    "referrer": "http.referrer",
    "login": "user.name",
}


class NginxError:
    """One line for each message of the web server."""

    name = "nginx_error"
    system = ""

    def detect(self, lines: Sequence[str]) -> float:
        """Returns the share of lines with time, bracketed level, process and thread."""
        return 0.97 * matching_share(lines, _DETECT)

    def split(self, lines: Iterable[str]) -> list[str]:
        """Returns one record for each line, with the lines that continue it, or the text that a FastCGI program sent."""
        records: list[str] = []
        for record in join_continuations(lines):
            if records and _SENT.search(records[-1]) and len(records[-1]) + len(record) <= MAX_BYTES // 4 and _DETECT.match(record) is None:
                records[-1] += f"\n{record}"
            else:
                records.append(record)
        return records

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Moves time, level, process, thread, connection and the context of the request off the message."""
        matched = 0
        bodies = batch.body
        match_line = _LINE.match
        for row in rows:
            match = match_line(bodies[row])
            if match is None:
                continue
            matched += 1
            time, level, pid, tid, connection, message = match.groups()
            if not batch.timestamp[row]:
                batch.timestamp[row] = parse_iso(time, zone)
            if not batch.severity_number[row]:
                batch.severity_number[row] = severity.severity_of_word(level)
                batch.severity_text[row] = level
            found: dict[str, object] = {"process.pid": int(pid), "thread.name": tid}
            if connection:
                found["nginx.connection"] = int(connection)
            if (start := message.find(", client: ")) > 0:
                message = message[:start] + _read_context(message, start, found)
            message = message.strip(" \t")
            if message:
                bodies[row] = message
            add_attributes(batch, row, found)
        return matched


def _read_context(message: str, position: int, found: dict[str, object]) -> str:
    """Reads the pairs from `position` into attributes; returns what follows them."""
    while (pair := _CONTEXT.match(message, position)) is not None:
        name, value = pair.groups()
        value = value.strip('"')
        position = pair.end()
        if not value:
            continue
        if name != "request":
            found[_NAMES[name]] = value
            continue
        method, _, target = value.partition(" ")
        path, _, query = target.partition(" HTTP/")[0].partition("?")
        if path and method.isalpha():
            found["http.method"], found["http.path"] = method, path
            if query:
                found["http.query"] = query
        else:
            found["http.request"] = value
    return message[position:]
