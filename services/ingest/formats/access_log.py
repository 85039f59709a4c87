"""Access logs: Apache and nginx (common, combined, with extras), and the layouts of the SAP ICM and Web Dispatcher."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from functools import lru_cache

from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.formats.base import add_attributes, fill_times, matching_share, single_lines
from services.ingest.formats.line_pattern import LinePattern
from services.ingest.timestamps import LAYOUTS

_CLF = LAYOUTS["clf"]
_REQUEST = r'"(?P<request>[^"\\]*(?:\\.[^"\\]*)*)" (?P<status>\d{3}) (?P<bytes>\d{1,18}|-)'
_QUOTED = r'"[^"\\]*(?:\\.[^"\\]*)*"'
# What stands behind the size and the quoted headers, with the number of seconds that most write first, and the id of the request.
_CORRELATION = r'(?:request_id|req_id|correlation_id|x-correlation-id|rid)[=:]"?([\w-]{8,128})'
_REST = (
    rf"(?P<rest>(?=(?:.*?(?i:{_CORRELATION}))?)"
    r"(?: (?P<label>(?:rt|request_time|rtime|urt)=)?(?P<seconds>\d{1,6}\.\d{1,9})(?=\s|$))?(?P<more>(?: .*)?))"
)

# host ident user [time] "request" status bytes "referer" "agent" …; `vhost:port` may stand in front.
_APACHE = (
    rf"(?:(?P<vhost>[\w.-]+:\d+) )?(?P<client>[\w.:%-]+(?:, [\w.:%-]+)*) \S+ (?P<user>[^\[]*) \[(?P<time>{_CLF.embedded})\] {_REQUEST}"
    rf'(?: "(?P<referrer>[^"\\]*(?:\\.[^"\\]*)*)" "(?P<agent>[^"\\]*(?:\\.[^"\\]*)*)")?{_REST}'
)
# SAP:    [time] host user - "request" status bytes ms
# SAPSMD: [time] - "request" status bytes [ms] h[correlation id] |
# SAPSMD2 is SAPSMD with further headers. CLFMOD is the common layout with a request line without form fields.
_ICM = (
    rf"\[(?P<time>{_CLF.embedded})\] (?:(?P<client>[\w.:%-]+) (?P<user>\S+) )?- {_REQUEST}"
    r"(?: (?:\[(?P<bracketed>\d{1,9})\]|(?P<ms>\d{1,9})))?(?: h\[(?P<correlation>[^\]]{0,256})\])?(?P<rest>.*)"
)
_APACHE_LINE = LinePattern(rf"{_APACHE}$")
_ICM_LINE = LinePattern(rf"{_ICM}$")
_DETECT = re.compile(re.sub(r"\(\?P<\w+>", "(?:", rf"{_APACHE}|{_ICM}"), re.ASCII)
_MEASURED = re.compile(r"\s(?:(?:rt|request_time|rtime)=)?\d{1,6}\.\d{1,9}", re.ASCII)
_SECONDS = re.compile(rf"\s(?:(?:rt|request_time|rtime|urt)=)?(\d{{1,6}}\.\d{{1,9}})(?=\s|$)|{_QUOTED}", re.ASCII)
_ANY_CORRELATION = re.compile(_CORRELATION, re.IGNORECASE)


class AccessLog:
    """One line for each HTTP request."""

    name = "access_log"
    system = ""

    def detect(self, lines: Sequence[str]) -> float:
        """Returns the share of lines with a bracketed time, a quoted request, a status and a size in their places."""
        return 0.97 * matching_share(lines, _DETECT)

    def split(self, lines: Iterable[str]) -> list[str]:
        """Returns one record for each line that is not blank."""
        return single_lines(lines)

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Moves time, client, status and sizes into columns and attributes; the body becomes request line and status."""
        bodies = batch.body
        icm = [row for row in rows if bodies[row][:1] == "["]
        others = [row for row in rows if bodies[row][:1] != "["] if icm else rows
        return _parse_apache(batch, others, zone) + _parse_icm(batch, icm, zone)


def _parse_apache(batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
    lines = _APACHE_LINE.read([batch.body[row] for row in rows])
    fill_times(batch, rows, lines, 3, _CLF, zone)
    matched = 0
    requests: dict[str, tuple[str, str, str]] = {}
    for row, line in zip(rows, lines, strict=True):
        vhost, client, user, time, request, status, size, referrer, agent, rest, correlation, label, seconds, more = line
        if not time:
            continue
        matched += 1
        found = _take_request(batch, row, request, status, size, client, user, requests)
        if referrer and referrer != "-":
            found["http.referrer"] = referrer
        if agent and agent != "-":
            found["user_agent"] = agent
        if vhost:
            found["server.address"] = vhost
        if seconds:
            found["duration_ms"] = _milliseconds(seconds)
            if more or label == "urt=":
                found["log.tail"] = rest.strip()
        elif rest:
            _read_rest(rest, referrer, found)
        if not rest.isascii():
            anywhere = _ANY_CORRELATION.search(rest)
            correlation = anywhere.group(1) if anywhere else ""
        if correlation:
            found["correlation_id"] = correlation
        add_attributes(batch, row, found)
    return matched


def _parse_icm(batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
    lines = _ICM_LINE.read([batch.body[row] for row in rows])
    fill_times(batch, rows, lines, 0, _CLF, zone)
    matched = 0
    requests: dict[str, tuple[str, str, str]] = {}
    for row, line in zip(rows, lines, strict=True):
        time, client, user, request, status, size, bracketed, milliseconds, correlation, rest = line
        if not time:
            continue
        matched += 1
        found = _take_request(batch, row, request, status, size, client, user, requests)
        if bracketed or milliseconds:
            found["duration_ms"] = int(bracketed or milliseconds)
        if correlation.strip("-. "):
            found["correlation_id"] = correlation
        tail = rest.strip(" |")
        if tail:
            found["log.tail"] = tail
        add_attributes(batch, row, found)
    return matched


def _take_request(
    batch: Batch, row: int, request: str, status: str, size: str, client: str, user: str, known: dict[str, tuple[str, str, str]]
) -> dict[str, object]:
    """Sets severity and body of row `row`; returns the attributes that every layout has. `known` are requests that were cut before."""
    code, number = _read_status(status)
    if not batch.severity_number[row]:
        batch.severity_number[row] = number
    batch.body[row] = f"{request} {code}"
    found: dict[str, object] = {"http.status": code}
    parts = known.get(request)
    if parts is None:
        parts = known[request] = _cut_request(request)
    method, path, query = parts
    if method:
        found["http.method"] = method
        found["http.path"] = path
        if query:
            found["http.query"] = query
    if size != "-":
        found["http.bytes"] = int(size)
    if client and client != "-":
        found["client.address"] = client
    if user and user != "-":
        found["user.name"] = user
    return found


@lru_cache(maxsize=1_000)
def _read_status(status: str) -> tuple[int, int]:
    """Returns an HTTP status and its severity number."""
    code = int(status)
    return code, severity.severity_of_status(code)


def _cut_request(request: str) -> tuple[str, str, str]:
    """Returns method, path and query of a request line; empty texts when it is none."""
    method, _, target = request.partition(" ")
    if not (target and method.isalpha() and method.isupper()):
        return "", "", ""
    path, _, query = target.partition(" HTTP/")[0].partition("?")
    return method, path or "/", query


@lru_cache(maxsize=4_096)
def _milliseconds(seconds: str) -> float:
    return round(float(seconds) * 1000, 6)


def _read_rest(rest: str, referrer: str, found: dict[str, object]) -> None:
    """Reads nginx's request time in seconds (always with a point) from anywhere in the rest, which is kept."""
    for seconds in _SECONDS.finditer(rest):
        if seconds.group(1):
            found["duration_ms"] = _milliseconds(seconds.group(1))
            break
    else:
        if not referrer and rest.strip().isdigit() and len(rest) < 12:
            # Common layout with one number more: %L of the ICM, milliseconds.
            found["duration_ms"] = int(rest)
            return
    tail = rest.strip()
    if tail and not _MEASURED.fullmatch(rest):
        found["log.tail"] = tail
