"""Access logs: Apache and nginx (common, combined, with extras), and the layouts of the SAP ICM and Web Dispatcher."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo

from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.formats.base import add_attributes, matching_share, single_lines
from services.ingest.timestamps import LAYOUTS, parse_layout

_CLF = LAYOUTS["clf"]
_REQUEST = r'"(?P<request>[^"\\]*(?:\\.[^"\\]*)*)" (?P<status>\d{3}) (?P<bytes>\d{1,18}|-)'
_QUOTED = r'"[^"\\]*(?:\\.[^"\\]*)*"'

# host ident user [time] "request" status bytes "referer" "agent" …; `vhost:port` may stand in front.
_APACHE = re.compile(
    rf"(?:(?P<vhost>[\w.-]+:\d+) )?(?P<client>[\w.:%-]+(?:, [\w.:%-]+)*) (?P<ident>\S+) (?P<user>[^\[]*) \[(?P<time>{_CLF.embedded})\] {_REQUEST}"
    rf'(?: "(?P<referrer>[^"\\]*(?:\\.[^"\\]*)*)" "(?P<agent>[^"\\]*(?:\\.[^"\\]*)*)")?(?P<rest>(?: .*)?)$',
    re.ASCII,
)
# SAP:    [time] host user - "request" status bytes ms
# SAPSMD: [time] - "request" status bytes [ms] h[correlation id] |
# SAPSMD2 is SAPSMD with further headers. CLFMOD is the common layout with a request line without form fields.
_ICM = re.compile(
    rf"\[(?P<time>{_CLF.embedded})\] (?:(?P<client>[\w.:%-]+) (?P<user>\S+) )?- {_REQUEST}"
    r"(?: (?:\[(?P<bracketed>\d{1,9})\]|(?P<ms>\d{1,9})))?(?: h\[(?P<correlation>[^\]]{0,256})\])?(?P<rest>.*)$",
    re.ASCII,
)
_LINE = re.compile(rf"(?:{_APACHE.pattern[:-1].replace('(?P<', '(?P<a_')})|(?:{_ICM.pattern[:-1].replace('(?P<', '(?P<i_')})", re.ASCII)
_SECONDS = re.compile(rf"\s(?:(?:rt|request_time|rtime|urt)=)?(\d{{1,6}}\.\d{{1,9}})(?=\s|$)|{_QUOTED}", re.ASCII)
_MEASURED = re.compile(r"\s(?:(?:rt|request_time|rtime)=)?\d{1,6}\.\d{1,9}", re.ASCII)
_CORRELATION = re.compile(r'(?:request_id|req_id|correlation_id|x-correlation-id|rid)[=:]"?([\w-]{8,128})', re.IGNORECASE)


class AccessLog:
    """One line for each HTTP request."""

    name = "access_log"
    system = ""

    def detect(self, lines: Sequence[str]) -> float:
        """Returns the share of lines with a bracketed time, a quoted request, a status and a size in their places."""
        return 0.97 * matching_share(lines, _LINE)

    def split(self, lines: Iterable[str]) -> list[str]:
        """Returns one record for each line that is not blank."""
        return single_lines(lines)

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Moves time, client, status and sizes into columns and attributes; the body becomes request line and status."""
        matched = 0
        bodies = batch.body
        for row in rows:
            body = bodies[row]
            icm = body[:1] == "["
            match = (_ICM if icm else _APACHE).match(body)
            if match is None:
                continue
            matched += 1
            status = int(match["status"])
            if not batch.timestamp[row]:
                batch.timestamp[row] = parse_layout(match["time"], _CLF, zone)
            if not batch.severity_number[row]:
                batch.severity_number[row] = severity.severity_of_status(status)
            found = _read_request(match, status)
            if icm:
                milliseconds = match["bracketed"] or match["ms"]
                if milliseconds:
                    found["duration_ms"] = int(milliseconds)
                if match["correlation"] and match["correlation"].strip("-. "):
                    found["correlation_id"] = match["correlation"]
                tail = match["rest"].strip(" |")
                if tail:
                    found["log.tail"] = tail
            else:
                _read_extras(match, found)
            add_attributes(batch, row, found)
            bodies[row] = f"{match['request']} {status}"
        return matched


def _read_request(match: re.Match[str], status: int) -> dict[str, object]:
    """Returns the attributes that every layout has."""
    found: dict[str, object] = {"http.status": status}
    request, size, client, user = match.group("request", "bytes", "client", "user")
    method, _, target = request.partition(" ")
    if target and method.isalpha() and method.isupper():
        target = target.partition(" HTTP/")[0]
        path, _, query = target.partition("?")
        found["http.method"] = method
        found["http.path"] = path or "/"
        if query:
            found["http.query"] = query
    if size != "-":
        found["http.bytes"] = int(size)
    if client and client != "-":
        found["client.address"] = client
    if user and user != "-":
        found["user.name"] = user
    return found


def _read_extras(match: re.Match[str], found: dict[str, object]) -> None:
    """Reads what stands behind the size: referrer, agent, and nginx's request time in seconds (always with a point)."""
    referrer, agent, host, rest = match.group("referrer", "agent", "vhost", "rest")
    if referrer and referrer != "-":
        found["http.referrer"] = referrer
    if agent and agent != "-":
        found["user_agent"] = agent
    if host:
        found["server.address"] = host
    if not rest:
        return
    for seconds in _SECONDS.finditer(rest):
        if seconds.group(1):
            found["duration_ms"] = round(float(seconds.group(1)) * 1000, 6)
            break
    else:
        if not referrer and rest.strip().isdigit() and len(rest) < 12:
            # Common layout with one number more: %L of the ICM, milliseconds.
            found["duration_ms"] = int(rest)
            return
    tail = rest.strip()
    if tail and not _MEASURED.fullmatch(rest):
        found["log.tail"] = tail
    correlation = _CORRELATION.search(rest) if "=" in rest or ":" in rest else None
    if correlation is not None:
        found["correlation_id"] = correlation.group(1)
