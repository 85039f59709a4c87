"""Any other text: the usual line heads are understood, stack traces are joined, and what is left is the message."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Final

from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.formats.base import add_attributes
from services.ingest.formats.continuation import join_continuations
from services.ingest.formats.heads import LEVEL_FIRST, Head, HeadFields, classify, line_heads, line_rest, read_head
from services.ingest.timestamps import parse_layout

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
        matched = 0
        bodies, stamps = batch.body, batch.timestamp
        order = list(line_heads())
        for row in rows:
            body = bodies[row]
            found = match_head(body, order)
            nanos = 0
            if found is not None:
                match, head = found
                nanos = parse_layout(match.group(2), head.layout, zone)
            if found is None or not nanos:
                matched += _read_level_first(batch, row)
                continue
            matched += 1
            if not stamps[row]:
                stamps[row] = nanos
            if head.layout.name == "glog":
                _take_glog(batch, row, match)
            else:
                _take_rest(batch, row, match.group(1), match.end())
        return matched


def match_head(body: str, order: list[Head]) -> tuple[re.Match[str], Head] | None:
    """Matches the heads in `order` and moves the one that fits to its front: the lines of a file look alike."""
    for position, head in enumerate(order):
        match = head.regex.match(body)
        if match is not None:
            if position:
                order.insert(0, order.pop(position))
            return match, head
    return None


def _take_rest(batch: Batch, row: int, lead: str, position: int) -> None:
    """Fills row `row` from what stands in front of the stamp and behind it, and leaves the message as its body."""
    body = batch.body[row]
    rest = line_rest()
    match = rest.levelled.match(body, position)
    if match is not None:
        mid, bare, module, boxed, angled, small, pid, box, component, context = match.groups()
        fields = read_head(lead, mid) if lead or mid else _NOTHING
        level = bare or boxed or angled or small
    else:
        fields = read_head(lead, "") if lead else _NOTHING
        level, module = fields.level, ""
        match = rest.behind_level.match(body, position) if level else None
        if match is None:
            _take_unlevelled(batch, row, fields, position)
            return
        pid, box, component, context = match.groups()
    end = match.end()
    if component and fields.component and "." not in component:
        # The head has its component already: a word and a colon behind the level open the message.
        component, end = "", match.start("component")
    component = component or module or fields.component
    process = int(pid) if pid else fields.pid
    attributes: dict[str, object] = {}
    if component:
        if component[-1] == "]" and "[" in component:
            component, _, number = component[:-1].partition("[")
            process = int(number)
        attributes["component"] = component
    thread, client = fields.thread, fields.client
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
    _finish(batch, row, fields, level, attributes, body[end:])


def _take_unlevelled(batch: Batch, row: int, fields: HeadFields, position: int) -> None:
    """Fills row `row` from a line that names no level: what follows its stamp is the message, or `program[pid]: message`."""
    body = batch.body[row]
    match = line_rest().unlevelled.match(body, position)
    if match is None:
        return
    flow, tag = match.groups()
    attributes: dict[str, object] = {}
    if tag:
        component, _, number = tag.rstrip()[:-2].partition("[")
        attributes["component"] = component
        attributes["process.pid"] = int(number)
    elif fields.component:
        attributes["component"] = fields.component
    if flow:
        attributes["log.iostream"] = flow.partition(" ")[0]
    _finish(batch, row, fields, "", attributes, body[match.end() :])


def _take_glog(batch: Batch, row: int, head: re.Match[str]) -> None:
    """Fills row `row` from `Lmmdd hh:mm:ss.uuuuuu pid file:line] message`."""
    body = batch.body[row]
    match = line_rest().glog.match(body, head.end())
    attributes: dict[str, object] = {"process.pid": int(match.group(1)), "component": match.group(2)} if match else {}
    _finish(batch, row, _NOTHING, _GLOG_LEVELS[head.group(1)], attributes, body[match.end() if match else head.end() :])


def _finish(batch: Batch, row: int, fields: HeadFields, level: str, attributes: dict[str, object], message: str) -> None:
    """Sets severity, host, body and attributes of row `row`. A line without a message keeps its text."""
    message = message.strip(" \t")
    if not batch.severity_number[row]:
        if level:
            batch.severity_number[row] = severity.severity_of_word(level)
            batch.severity_text[row] = level
        else:
            batch.severity_number[row], batch.severity_text[row] = severity.leading_severity(message)
    if fields.host and not batch.host[row]:
        batch.host[row] = fields.host
    if fields.file:
        attributes["log.file.name"] = fields.file
    if fields.rest:
        attributes["log.head"] = fields.rest
    if message:
        batch.body[row] = message
    if attributes:
        add_attributes(batch, row, attributes)


def _read_level_first(batch: Batch, row: int) -> bool:
    """Reads the level of a line without a stamp; the body keeps the line when nothing would be left of it."""
    body = batch.body[row]
    match = LEVEL_FIRST.match(body)
    if match is None:
        return False
    level, component = match.groups()
    if not batch.severity_number[row]:
        batch.severity_number[row] = severity.severity_of_word(level)
        batch.severity_text[row] = level
    if component:
        add_attributes(batch, row, {"component": component})
    batch.body[row] = body[match.end() :].strip(" \t") or body
    return True
