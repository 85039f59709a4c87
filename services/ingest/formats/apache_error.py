"""The error log of Apache: 2.2 (`[time] [level] [client address] text`) and 2.4 (with module, process, thread and error code)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from ipaddress import IPv6Address

from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.formats.base import add_attributes, fill_times, matching_share
from services.ingest.formats.continuation import join_continuations
from services.ingest.formats.line_pattern import LinePattern
from services.ingest.timestamps import LAYOUTS

_CTIME = LAYOUTS["ctime"]
_LEVEL = r"(?:emerg|alert|crit|error|warn|notice|info|debug|trace[1-8])"
_LINE = LinePattern(
    rf"\[(?P<time>{_CTIME.embedded})\] \[(?:(?P<module>[\w.-]{{0,60}}):)?(?P<level>{_LEVEL})\]"
    r"(?: \[pid (?P<pid>\d{1,10})(?::tid (?P<tid>\d{1,20}))?\])?"
    r"(?: (?P<file>[\w./-]{1,120}\(\d{1,6}\)):)?(?P<os> \(\d{1,6}\)[^:\[\n]{1,200}:)?"
    r"(?: \[(?:remote|client) (?P<client>[\w.:%-]{1,100})\])?(?P<os2> \(\d{1,6}\)[^:\[\n]{1,200}:)? ?(?P<message>(?:(?P<code>AH\d{5}): )?.*)",
    re.DOTALL,
)
_DETECT = re.compile(rf"\[{_CTIME.embedded}\] \[(?:[\w.-]{{0,60}}:)?{_LEVEL}\]", re.ASCII)
_REFERRER = re.compile(r", referer: (\S{1,2000})(?=\n|$)")
_ADDRESS = re.compile(r"(.+?):(\d{1,5})", re.ASCII)


class ApacheError:
    """One line for each message of the web server; stack traces of what runs in it join the line above."""

    name = "apache_error"
    system = ""

    def detect(self, lines: Sequence[str]) -> float:
        """Returns the share of lines with a bracketed time and level."""
        return 0.93 * matching_share(lines, _DETECT)

    def split(self, lines: Iterable[str]) -> list[str]:
        """Returns one record for each line, with the lines that continue it."""
        return join_continuations(lines)

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Moves time, level, module, process, thread, client, error code and referrer off the message."""
        matched = 0
        bodies = batch.body
        lines = _LINE.read([bodies[row] for row in rows])
        fill_times(batch, rows, lines, 0, _CTIME, zone)
        for row, (time, module, level, pid, tid, file, status, client, late_status, message, code) in zip(rows, lines, strict=True):
            if not time:
                continue
            matched += 1
            if not batch.severity_number[row]:
                batch.severity_number[row] = severity.severity_of_word(level.rstrip("12345678"))
                batch.severity_text[row] = level
            found: dict[str, object] = {}
            if module:
                found["component"] = module
            if pid:
                found["process.pid"] = int(pid)
            if tid:
                found["thread.name"] = tid
            if file:
                found["code.file"] = file
            if client:
                _read_client(client, found, with_port=bool(pid))
            if code:
                found["error.code"] = code
            if ", referer: " in message and (referrer := _REFERRER.search(message)):
                found["http.referrer"] = referrer.group(1)
                message = message[: referrer.start()] + message[referrer.end() :]
            status = status or late_status
            message = message.strip(" \t")
            if status:
                message = f"{status.strip()} {message}".rstrip()
            if message:
                bodies[row] = message
            if found:
                add_attributes(batch, row, found)
        return matched


def _is_address(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _read_client(client: str, found: dict[str, object], *, with_port: bool) -> None:
    """Reads `address` or `address:port`. Apache 2.4 writes the port always; a short IPv6 address does not tell."""
    match = _ADDRESS.fullmatch(client)
    if match is not None and (client.count(":") in (1, 8) or (with_port and _is_address(match.group(1)))):
        found["client.address"], found["client.port"] = match.group(1), int(match.group(2))
    else:
        found["client.address"] = client
