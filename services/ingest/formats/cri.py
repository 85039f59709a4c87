"""Files of Kubernetes containers (CRI): `2016-10-06T00:17:09.669794202Z stdout F message`, a `P` marking a piece of a longer line.

Source: Kubernetes, pkg/kubelet/kuberuntime/logs (time in RFC 3339 with nanoseconds, stream, tags split by colons, text).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, tzinfo

from services.ingest.batch import Batch
from services.ingest.formats.base import add_attributes, matching_share, single_lines
from services.ingest.formats.containers import Entry, InnerFormats, join_entries
from services.ingest.timestamps import parse_iso

_HEAD = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) (stdout|stderr) ([FP])((?::[A-Za-z0-9_]{1,32})*)"
_LINE = re.compile(rf"{_HEAD}(?: (.*))?$", re.ASCII | re.DOTALL)
_DETECT = re.compile(rf"{_HEAD}(?: |$)", re.ASCII)


class Cri:
    """The lines of a program, each with time and stream of the container runtime."""

    name = "cri"
    system = ""

    def __init__(self, inner: InnerFormats) -> None:
        """`inner`: what parses the lines of the program."""
        self._inner = inner

    def detect(self, lines: Sequence[str]) -> float:
        """Returns the share of lines that open with time, stream and tag; the lines of a joined stack trace do not count."""
        filled = [line for line in lines if line and not line.isspace()]
        if not filled or not _DETECT.match(filled[0]):
            return 0.98 * matching_share(lines, _DETECT)
        return 0.98 * matching_share([line for line in filled if line[0] not in " \t"], _DETECT)

    def split(self, lines: Iterable[str]) -> list[str]:
        """Joins pieces (`P`) to their line and stack traces to one record, stream by stream."""
        return join_entries((_read_entry(line) for line in single_lines(lines)), _spell)

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Takes time and stream off, and parses the text inside by its own format. The time of the runtime is the event's: it names its zone."""
        matched = 0
        inside: list[int] = []
        bodies = batch.body
        for row in rows:
            match = _LINE.match(bodies[row])
            if match is None:
                continue
            stamp, stream, _, _, text = match.groups()
            if not batch.timestamp[row]:
                batch.timestamp[row] = parse_iso(stamp, UTC)
            add_attributes(batch, row, {"log.iostream": stream})
            matched += 1
            if text and not text.isspace():
                bodies[row] = text
                inside.append(row)
        if inside:
            self._inner.parse(batch, inside, zone)
        return matched


def _read_entry(line: str) -> Entry | str:
    match = _LINE.match(line)
    if match is None:
        return line
    stamp, stream, tag, more, text = match.groups()
    return Entry(stream, parse_iso(stamp, UTC), text or "", f"{stamp} {stream} {{tag}}{more}", tag == "F")


def _spell(entry: Entry) -> str:
    head = entry.head.format(tag="F" if entry.whole else "P")
    return f"{head} {entry.text}" if entry.text else head
