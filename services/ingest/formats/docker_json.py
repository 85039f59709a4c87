"""Files of Docker's json-file driver, and what agents make of them: `{"log":"message\\n","stream":"stdout","time":"…"}`.

Also what Docker's splunk driver sends unless its format is raw: `{"line":"message","source":"stdout","tag":"web-1"}`.

Source: Docker, daemon/logger/jsonfilelog/jsonlog (log, stream, time, attrs) and daemon/logger/splunk (line, which is JSON itself
when the format is json and it can be, source, tag, attrs). A line beyond 16 KiB is cut: only its last piece
ends with a line feed. Fluent Bit's Kubernetes filter adds an object `kubernetes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, tzinfo
from typing import Any, Final

import orjson

from services.ingest.batch import Batch
from services.ingest.formats.base import add_attributes, single_lines
from services.ingest.formats.containers import Entry, InnerFormats, join_entries
from services.ingest.formats.json_lines import decode_object
from services.ingest.timestamps import parse_timestamp

PIECE_CHARACTERS: Final = (4_096, 16_384)
"""Least and most characters of a piece, which has 16 KiB of UTF-8."""
_STREAMS = ("stdout", "stderr")
_SERVICE_LABELS = ("app.kubernetes.io/name", "k8s-app", "app")


class DockerJson:
    """The lines of a program, each in an object with time and stream of the container runtime."""

    name = "docker_json"
    system = ""

    def __init__(self, inner: InnerFormats) -> None:
        """`inner`: what parses the lines of the program."""
        self._inner = inner

    def detect(self, lines: Sequence[str]) -> float:
        """Returns the share of objects with a line and the stream it was written to."""
        filled = [line for line in lines if line and not line.isspace()]
        return 0.98 * sum(1 for line in filled if _decode(line) is not None) / len(filled) if filled else 0.0

    def split(self, lines: Iterable[str]) -> list[str]:
        """Joins the pieces of a line and the lines of a stack trace, stream by stream."""
        return join_entries((_read_entry(line) for line in single_lines(lines)), _spell)

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
        """Takes time, stream and attributes off, and parses the text inside by its own format. The time of the runtime is the event's."""
        matched = 0
        inside: list[int] = []
        bodies = batch.body
        for row in rows:
            fields = _decode(bodies[row])
            if fields is None:
                continue
            text = fields.pop("log").rstrip("\r\n")
            _take_time(batch, row, fields)
            found: dict[str, object] = {"log.iostream": fields.pop("stream")}
            kubernetes = fields.get("kubernetes")
            if type(kubernetes) is dict:
                _take_pod(batch, row, kubernetes)
            attrs = fields.pop("attrs", None)
            if type(attrs) is dict:
                found |= attrs
            elif attrs is not None:
                found["attrs"] = attrs
            add_attributes(batch, row, {**found, **fields})
            matched += 1
            if text and not text.isspace():
                bodies[row] = text
                inside.append(row)
        if inside:
            self._inner.parse(batch, inside, zone)
        return matched


def _decode(line: str) -> dict[str, Any] | None:
    """Returns the object with `log` and `stream`, or None when it is not a line of a container."""
    if '"stdout"' not in line and '"stderr"' not in line:
        return None
    fields = decode_object(line)
    if fields is None:
        return None
    if "line" in fields and "tag" in fields and "log" not in fields and fields.get("source") in _STREAMS:
        text, fields["stream"] = fields.pop("line"), fields.pop("source")
        fields["log"] = text if isinstance(text, str) else orjson.dumps(text).decode()
    if not isinstance(fields.get("log"), str) or fields.get("stream") not in _STREAMS:
        return None
    return fields


def _take_time(batch: Batch, row: int, fields: dict[str, Any]) -> None:
    """Moves the time to its column; one that is not understood, or not needed, stays."""
    for name in ("time", "@timestamp"):
        value = fields.get(name)
        if isinstance(value, str) and not batch.timestamp[row] and (nanos := parse_timestamp(value, UTC)):
            batch.timestamp[row] = nanos
            del fields[name]
            return


def _take_pod(batch: Batch, row: int, kubernetes: dict[str, Any]) -> None:
    """Reads node and program of a pod; both stay among the attributes."""
    host = kubernetes.get("host")
    if isinstance(host, str) and not batch.host[row]:
        batch.host[row] = host
    if batch.service[row]:
        return
    labels = kubernetes.get("labels")
    names = [labels.get(label) for label in _SERVICE_LABELS] if type(labels) is dict else []
    batch.service[row] = next((name for name in (*names, kubernetes.get("container_name")) if isinstance(name, str)), "")


def _read_entry(line: str) -> Entry | str:
    fields = _decode(line)
    if fields is None:
        return line
    text, time = fields["log"], fields.get("time")
    stamp = parse_timestamp(time, UTC) if isinstance(time, str) else 0
    # Agents strip the line feed, and then nothing tells a piece from a line.
    whole = text.endswith("\n") or "kubernetes" in fields or not PIECE_CHARACTERS[0] <= len(text) <= PIECE_CHARACTERS[1]
    return Entry(str(fields["stream"]), stamp, text.rstrip("\r\n"), line, whole)


def _spell(entry: Entry) -> str:
    """Returns the line as it came, or with the joined text in it."""
    if not entry.extra:
        return entry.head
    fields = _decode(entry.head) or {}
    return orjson.dumps({**fields, "log": f"{entry.text}\n" if entry.whole else entry.text}).decode()
