"""Any other text: the usual line heads are understood, stack traces are joined, and what is left is the message."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Final

from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.formats.base import add_attributes
from services.ingest.formats.continuation import LOGGER_LEVEL, join_continuations
from services.ingest.formats.heads import BEHIND_LEVEL, CLOCK_FIRST, LEVEL_FIRST, Head, HeadFields, any_head, classify, line_heads, read_head
from services.ingest.formats.line_pattern import FEW
from services.ingest.timestamps import parse_stamps

_LOGGED = re.compile(rf"([\w.$<>/-]{{1,200}})(?: ([\w.$<>]{{1,200}}))?\n({LOGGER_LEVEL}): (.*)", re.DOTALL)
_CHANNEL = re.compile(rf"([a-z][\w-]{{0,40}})\.({severity.LEVEL_PATTERN}): (.*)", re.DOTALL)
"""Channel and level as Monolog (Laravel, Symfony) writes them."""
_SPRING = re.compile(r"(\[[^\[\]\n]{1,80}\]) (?:\[(?:([0-9a-f]{32})-([0-9a-f]{16})| *)\] )?([\w.$/@#\[\]-]{1,120})[ \t]+: (.*)", re.ASCII | re.DOTALL)
FLOOR: Final = 0.05
"""Confidence for text of which nothing is understood: plain takes what no other format wants."""

_NOTHING: Final = HeadFields()
_GLOG_LEVELS: Final = {"I": "INFO", "W": "WARNING", "E": "ERROR", "F": "FATAL", "D": "DEBUG"}


class Plain:
    """Lines with a stamp somewhere at their start, or without one."""

    name = "plain"
    system = ""

    def detect(self, lines: Sequence[str]) -> float:
        """Returns little more than nothing: up to 0.3 by the share of lines whose head is understood."""
        filled = [line for line in lines if line and not line.isspace()]
        if not filled:
            return FLOOR
        order = list(line_heads())
        return FLOOR + 0.25 * sum(1 for line in filled if match_head(line, order)) / len(filled)

    def split(self, lines: Iterable[str]) -> list[str]:
        """Joins stack traces and indented lines to the record above them."""
        return join_continuations(lines)

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Moves stamp, level, host, component, process and thread off the message."""
        texts = [batch.body[row] for row in rows]
        order = list(line_heads())
        matched = position = 0
        reach = len(rows)
        while position < min(len(rows), FEW) and match_head(texts[position], order) is None:
            matched += _read_level_first(batch, rows[position])
            position += 1
        while position < len(rows):
            # The lines of a file look alike: as many as may be are read with the head that fitted last, up to one that only another fits.
            head = order[0]
            found = head.lines.read(texts[position : position + reach])
            end = _find_other(texts, position, found)
            if end < len(found):
                match_head(texts[position + end], order)
                reach = 4
                if end == 0 and order[0] is head:
                    end = 1
            take = _take_glog if head.layout.name == "glog" else _take_lines
            matched += take(batch, rows[position : position + end], found, parse_stamps([groups[1] for groups in found[:end]], head.layout, zone))
            position += end
            reach *= 2
        return matched


def _find_other(texts: Sequence[str], position: int, found: Sequence[tuple[str, ...]]) -> int:
    """Returns which of the lines from `position` is the first without the head that they were read with but with another; else their number."""
    strange = [number for number, groups in enumerate(found) if not groups[1]]
    if strange:
        for number, (head,) in zip(strange, any_head().read([texts[position + number] for number in strange]), strict=True):
            if head:
                return number
    return len(found)


def match_head(body: str, order: list[Head]) -> tuple[re.Match[str], Head] | None:
    """Matches the heads in `order` and moves the one that fits to its front: the lines of a file look alike."""
    for position, head in enumerate(order):
        match = head.regex.match(body)
        if match is not None:
            if position:
                order.insert(0, order.pop(position))
            return match, head
    return None


def _take_lines(batch: Batch, rows: Sequence[int], found: Sequence[tuple[str, ...]], times: Sequence[int]) -> int:
    """Fills rows from the groups (HeadedLine) and times of their lines, and leaves the message as their body; returns how many were understood."""
    matched = 0
    timestamps, numbers = batch.timestamp, batch.severity_number
    for row, groups, nanos in zip(rows, found, times, strict=False):
        if not nanos:
            matched += _read_level_first(batch, row)
            continue
        matched += 1
        if not timestamps[row]:
            timestamps[row] = nanos
        lead, _, mid, bare, module, boxed, angled, small, pid, box, component, colon, context, dash, message, gap, flow, tag, rest = groups
        level = bare or boxed or angled or small
        if level:
            fields = read_head(lead, mid) if lead or mid else _NOTHING
        else:
            fields = read_head(lead, "") if lead else _NOTHING
            level = fields[0]
            if not level:
                _take_unlevelled(batch, row, fields, flow, tag, rest)
                continue
            [(pid, box, component, colon, context, dash, message)] = BEHIND_LEVEL.read((f"{gap}{flow}{tag}{rest}",))
        _, host, named, process, thread, file, client, unnamed = fields
        if component and named and "." not in component:
            # The head has its component already: a word and a colon behind the level open the message.
            component, message = "", f"{component}{colon}{context}{dash}{message}"
        if pid and box and not component and message[:1] == "[" and (spring := _SPRING.match(message)):
            # Spring Boot with the name of the application in front of the thread, and perhaps trace and span.
            batch.service[row] = batch.service[row] or box.strip()[1:-1]
            box, trace, span, component, message = spring.groups("")
            if trace and not batch.trace_id[row]:
                batch.trace_id[row], batch.span_id[row] = trace, span
        component = component or module or named
        if pid:
            process = int(pid)
        attributes: dict[str, object] = {}
        if component:
            name, _, number = component.rpartition("[")
            if name and number[:-1].isdecimal():
                component, process = name, int(number[:-1])
            attributes["component"] = component
        if box:
            kind, value = classify(box.rstrip())
            if kind == "pid":
                process = process or int(value)
            elif kind == "client":
                client = value
            elif not thread and kind != "nothing":
                thread = box.strip()[1:-1]
            elif kind != "nothing":
                attributes["log.context"] = box.strip()
        if context:
            if context.startswith("[req-"):
                attributes["request_id"] = context[1:].partition(" ")[0].partition("]")[0]
                attributes["log.context"] = context.rstrip()
            elif context[1] != "-":
                inner = read_head("", context)
                process = process or inner.pid
                client = client or inner.client
                if inner.thread and not inner.pid:
                    attributes["log.context"] = context.rstrip()
        if process:
            attributes["process.pid"] = process
        if thread:
            attributes["thread.name"] = thread
        if client:
            attributes["client.address"] = client
        if not numbers[row]:
            numbers[row] = severity.severity_of_word(level)
            batch.severity_text[row] = level
        _finish(batch, row, host, file, unnamed, attributes, message)
    return matched


def _take_unlevelled(batch: Batch, row: int, fields: HeadFields, flow: str, tag: str, message: str) -> None:
    """Fills row `row` from a line that names no level: what follows its stamp is the message, or `program[pid]: message`."""
    _, host, component, _, _, file, _, unnamed = fields
    attributes: dict[str, object] = {}
    if "\n" in message and (logged := _LOGGED.match(message)):
        # java.util.logging: class and method, level and message on the next line.
        component, function, level, message = logged.groups()
        attributes["component"] = component
        if function:
            attributes["code.function"] = function
        if not batch.severity_number[row]:
            batch.severity_number[row], batch.severity_text[row] = severity.severity_of_word(level), level
    elif tag:
        component, _, number = tag.rstrip()[:-2].partition("[")
        attributes["component"] = component
        attributes["process.pid"] = int(number)
    elif component:
        attributes["component"] = component
    if flow:
        attributes["log.iostream"] = flow.partition(" ")[0]
    if not batch.severity_number[row]:
        channel = _CHANNEL.match(message) if "." in message[:60] else None
        if channel is not None:
            component, level, message = channel.groups()
            attributes["component"] = component
            batch.severity_number[row], batch.severity_text[row] = severity.severity_of_word(level), level
        else:
            batch.severity_number[row], batch.severity_text[row] = severity.leading_severity(message.strip(" \t"))
    _finish(batch, row, host, file, unnamed, attributes, message)


def _take_glog(batch: Batch, rows: Sequence[int], found: Sequence[tuple[str, ...]], times: Sequence[int]) -> int:
    """Fills rows from `Lmmdd hh:mm:ss.uuuuuu pid file:line] message`; returns how many were understood."""
    matched = 0
    for row, (level, _, pid, place, message), nanos in zip(rows, found, times, strict=False):
        if not nanos:
            matched += _read_level_first(batch, row)
            continue
        matched += 1
        if not batch.timestamp[row]:
            batch.timestamp[row] = nanos
        if not batch.severity_number[row]:
            batch.severity_number[row] = severity.severity_of_word(_GLOG_LEVELS[level])
            batch.severity_text[row] = _GLOG_LEVELS[level]
        _finish(batch, row, "", "", "", {"process.pid": int(pid), "component": place} if pid else {}, message)
    return matched


def _finish(batch: Batch, row: int, host: str, file: str, unnamed: str, attributes: dict[str, object], message: str) -> None:
    """Sets host, body and attributes of row `row`. A line without a message keeps its text."""
    if host and not batch.host[row]:
        batch.host[row] = host
    if file:
        attributes["log.file.name"] = file
    if unnamed:
        attributes["log.head"] = unnamed
    message = message.strip(" \t")
    if message:
        batch.body[row] = message
    if attributes:
        add_attributes(batch, row, attributes)


def _read_level_first(batch: Batch, row: int) -> bool:
    """Reads the level of a line without a stamp; the body keeps the line when nothing would be left of it."""
    body = batch.body[row]
    match = LEVEL_FIRST.match(body)
    if match is None:
        # Without a date there is no time: the line stays whole.
        clock = CLOCK_FIRST.match(body) if body[:2].isdigit() or body[:1] == "[" else None
        number, word = (severity.severity_of_word(clock["level"]), clock["level"]) if clock else severity.leading_severity(body)
        if number and not batch.severity_number[row]:
            batch.severity_number[row], batch.severity_text[row] = number, word
        return False
    level, component = match.groups()
    if not batch.severity_number[row]:
        batch.severity_number[row] = severity.severity_of_word(level)
        batch.severity_text[row] = level
    if component:
        add_attributes(batch, row, {"component": component})
    batch.body[row] = body[match.end() :].strip(" \t") or body
    return True
