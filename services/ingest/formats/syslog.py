"""Syslog as text: RFC 5424 with structured data, RFC 3164, and both without their PRI as files hold them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, tzinfo
from typing import Any

from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.formats.base import add_attributes, fill_times, matching_share, single_lines
from services.ingest.formats.json_lines import JsonLines
from services.ingest.formats.line_pattern import LinePattern
from services.ingest.timestamps import LAYOUTS, parse_iso, parse_layout

_ISO = LAYOUTS["iso"].embedded
_BSD = LAYOUTS["syslog"]
# A level word behind the stamp is that of an application's own line, not the name of a host.
_NO_LEVEL = rf"(?!(?=[A-Z]{{3}}){severity.LEVEL_PATTERN}[ :])"
_RFC5424 = re.compile(
    rf"(?:<(?P<pri>\d{{1,3}})>)?(?P<version>[1-9]\d?) (?P<stamp>{_ISO}|-) (?P<host>\S{{1,255}}) "
    r"(?P<app>\S{1,255}) (?P<pid>\S{1,128}) (?P<msgid>\S{1,64}) "
    r'(?P<data>-|(?:\[[^\s\]="]{1,64}(?: [^\s\]="]{1,64}="[^"\\\]]*(?:\\.[^"\\\]]*)*")*\])+)(?: (?:\ufeff)?(?P<message>.*))?$',
    re.ASCII | re.DOTALL,
)
_RFC3164 = LinePattern(
    rf"(?:<(?P<pri>\d{{1,3}})>)?(?:(?P<stamp>{_BSD.embedded})|(?P<iso>{_ISO})) (?P<host>(?!-+ ){_NO_LEVEL}[\w.:@-]{{1,255}}) +"
    r"(?P<app>[^\s:\[\]()]{1,64}|-- [^\s:\[]{1,64})(?:\((?P<module>[^)\s]{1,64})\))?(?:\[(?P<pid>[^\]\s]{1,32})\])?: ?"
    r"(?P<message>.*)$",
    re.DOTALL,
)
# What the syslog() of a C library and Python's SysLogHandler write: no host, often no stamp either.
_HOSTLESS = re.compile(
    rf"(?:<(?P<pri>\d{{1,3}})>)(?:(?:(?P<stamp>{_BSD.embedded})|(?P<iso>{_ISO})) )?"
    rf"(?P<app>(?!(?i:{severity.LEVEL_PATTERN}):)[A-Za-z_][\w./-]{{0,63}})(?:\[(?P<pid>[^\]\s]{{1,32}})\])?:(?: |$)(?P<message>.*)$",
    re.ASCII | re.DOTALL,
)
# A header of RFC 5424 whose structured data cannot be read: it stays with the message.
_BROKEN5424 = re.compile(
    rf"<(?P<pri>\d{{1,3}})>(?P<version>[1-9]\d?) (?P<stamp>{_ISO}|-) (?P<host>\S{{1,255}}) (?P<app>\S{{1,255}}) (?P<pid>\S{{1,128}}) (?P<msgid>\S{{1,64}}) "
    r"(?P<data>(?P<message>.+))$",
    re.ASCII | re.DOTALL,
)
# What some network devices write (Cisco: `number: host: *time zone: %FACILITY-severity-MNEMONIC: text`); the sign says that the clock is not set.
_DEVICE = re.compile(
    rf"<(?P<pri>\d{{1,3}})>(?:(?P<number>\d{{1,10}}): )?(?:(?P<host>[A-Za-z][\w.-]{{0,254}}): )?[*.]?(?P<stamp>{_BSD.embedded})(?: (?P<named>[A-Z]{{2,5}}))?"
    rf"(?: (?P<device>[A-Za-z0-9][\w.-]{{0,254}}) )?: "
    r"(?P<message>%(?P<app>[A-Z][A-Z0-9_]{0,63})-[A-Z0-9_-]{0,63}?[0-7]-[A-Z0-9_]{1,64}: .*)$",
    re.ASCII | re.DOTALL,
)
# Lines of a syslog file that name no program (`-- MARK --`, repeated-message notes, boot messages).
_UNTAGGED = re.compile(rf"(?:<(?P<pri>\d{{1,3}})>)?(?P<stamp>{_BSD.embedded}) (?P<host>[\w.:@-]{{1,255}}) +(?P<message>\S.*)$", re.ASCII | re.DOTALL)
_BARE = re.compile(r"<(?P<pri>\d{1,3})>(?P<message>.*)$", re.ASCII | re.DOTALL)
_PEER = "network.peer.address"
"""Attribute that a receiver sets to the address that a message came from: the host of those that name none."""
_DETECT = re.compile(
    rf"<\d{{1,3}}>(?:[1-9]\d? )?(?:{_ISO}|-|{_BSD.embedded}) \S+ "
    rf"|(?:(?:{_BSD.embedded})|{_ISO}) {_NO_LEVEL}[\w.:@-]+ +\S{{1,64}}?(?:\[\w+\])?: "
    rf"|{_BSD.embedded} [\w.:@-]+ +\S",
    re.ASCII,
)
_ELEMENT = re.compile(r'\[([^\s\]="]+)((?: [^\s\]="]+="[^"\\\]]*(?:\\.[^"\\\]]*)*")*)\]')
_PARAMETER = re.compile(r' ([^\s\]="]+)="([^"\\\]]*(?:\\.[^"\\\]]*)*)"')
_UNESCAPE = re.compile(r'\\(["\\\]])')
_COOKIE = "@cee:"
"""In front of a message that is a JSON object (Common Event Expression, as rsyslog writes it)."""
_JSON = JsonLines()


class Syslog:
    """The lines of a syslog daemon, from the wire or from a file."""

    name = "syslog"
    system = ""

    def detect(self, lines: Sequence[str]) -> float:
        """Returns the share of lines with a PRI or with stamp, host and tag."""
        return 0.9 * matching_share(lines, _DETECT)

    def split(self, lines: Iterable[str]) -> list[str]:
        """Returns one record for each line that is not blank."""
        return single_lines(lines)

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Moves stamp, host, program, process id, priority and structured data off the message."""
        matched = 0
        objects: dict[int, int] = {}
        bodies, hosts, services, numbers = batch.body, batch.host, batch.service, batch.severity_number
        lines = _RFC3164.read([bodies[row] for row in rows])
        fill_times(batch, rows, lines, 1, _BSD, zone)
        fill_times(batch, rows, lines, 2, LAYOUTS["iso"], zone)
        for row, (pri, _, _, host, service, module, pid, message) in zip(rows, lines, strict=True):
            if host:
                # Nearly every message: read without a dictionary of its parts.
                found: dict[str, object] = {"process.pid": int(pid) if pid.isdecimal() and len(pid) < 16 else pid} if pid else {}
                if module:
                    found["syslog.module"] = module
                if service[0] == "-":
                    service = service.removeprefix("-- ")
            else:
                rare = _match_rare(bodies[row])
                if rare is None:
                    self._name_peer(batch, row)
                    continue
                match, found, service = rare
                part = match.groupdict()
                pri, host, message = part["pri"] or "", part.get("host") or part.get("device") or "", part["message"] or ""
                if not batch.timestamp[row]:
                    batch.timestamp[row] = _read_stamp(part, zone)
            matched += 1
            judged = 0
            if not hosts[row]:
                if host and host != "-":
                    hosts[row] = host
                else:
                    self._name_peer(batch, row)
            if service and not services[row]:
                services[row] = service
            if pri and (priority := int(pri)) < 192:
                found["syslog.facility"] = priority >> 3
                if not numbers[row]:
                    numbers[row] = severity.severity_of_priority(priority)
                    judged = numbers[row]
            elif not numbers[row]:
                numbers[row], batch.severity_text[row] = severity.leading_severity(message)
            if message and not message.isspace():
                message = message.removeprefix(_COOKIE).lstrip() if message.startswith(_COOKIE) else message
                bodies[row] = message or bodies[row]
                if message[:1] == "{":
                    objects[row] = judged
                    numbers[row] = 0 if judged else numbers[row]
            if found:
                add_attributes(batch, row, found)
        if objects:
            # What the program says of its own message is more than the daemon's guess.
            _JSON.parse(batch, list(objects), zone)
            for row, judged in objects.items():
                numbers[row] = numbers[row] or judged
        return matched

    @staticmethod
    def _name_peer(batch: Batch, row: int) -> None:
        """Fills the host of a message that names none with the address that it came from."""
        attributes = batch.attributes[row]
        if not batch.host[row] and attributes and _PEER in attributes:
            batch.host[row] = attributes[_PEER]


def _read_stamp(part: dict[str, str | None], zone: tzinfo) -> int:
    iso, stamp = part.get("iso"), part.get("stamp")
    if iso:
        return parse_iso(iso, zone)
    if stamp is None or stamp == "-":
        return 0
    if "version" in part:
        return parse_iso(stamp, zone)
    return parse_layout(stamp, _BSD, UTC if part.get("named") in ("UTC", "GMT") else zone)


def _read_pid(pid: str | None) -> dict[str, object]:
    if not pid:
        return {}
    return {"process.pid": int(pid) if pid.isdecimal() and len(pid) < 16 else pid}


def _match_rare(body: str) -> tuple[re.Match[str], dict[str, object], str] | None:
    """Matches what is no RFC 3164 message with host and program; returns the match, attributes and service."""
    if (match := _RFC5424.match(body)) is not None:
        return match, *_read_header(match)
    if (match := _BROKEN5424.match(body)) is not None:
        return match, *_read_header(match, broken=True)
    if (match := _DEVICE.match(body)) is not None:
        return match, {}, match["app"]
    if (match := _HOSTLESS.match(body)) is not None:
        return match, _read_pid(match["pid"]), match["app"]
    match = _UNTAGGED.match(body) or _BARE.match(body)
    return None if match is None else (match, {}, "")


def _read_header(match: re.Match[str], *, broken: bool = False) -> tuple[dict[str, object], str]:
    """Reads process id, message id and structured data of RFC 5424; returns attributes and service."""
    found: dict[str, object] = {}
    pid, msgid, data = match["pid"], match["msgid"], match["data"]
    if pid != "-":
        found["process.pid"] = int(pid) if pid.isdecimal() and len(pid) < 16 else pid
    if msgid != "-":
        found["syslog.msgid"] = msgid
    if data != "-" and not broken:
        elements: dict[str, Any] = {}
        for name, parameters in _ELEMENT.findall(data):
            elements[name] = {key: _UNESCAPE.sub(r"\1", value) for key, value in _PARAMETER.findall(parameters)}
        found["syslog.structured_data"] = elements
    return found, "" if match["app"] == "-" else match["app"]
