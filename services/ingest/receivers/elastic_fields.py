"""Fields of the Elastic Common Schema (ECS) onto columns, and what names the source of a document.

Source: Elastic Common Schema reference; naming of data streams (`type-dataset-namespace`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC
from functools import lru_cache
from typing import Any, Final

import msgspec

from services.ingest import severity
from services.ingest.timestamps import epoch_nanos, parse_timestamp
from services.ingest.tokens import Agent

_ROLLING = re.compile(r"(?:-\d{4}[.\-]\d{2}(?:[.\-]\d{2})?|-\d{4}[.\-]w?\d{1,2}|-\d{6}|-\d+\.\d+\.\d+(?:-snapshot)?)+$", re.IGNORECASE)
"""What agents append to the name of an index: a day or month, the number of a roll-over, their own version."""
_DATA_STREAM = re.compile(r"(?:logs|metrics|traces|synthetics)-([^-]+)-(.+)")
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_SPAN_ID = re.compile(r"[0-9a-f]{16}")
_SILENT: Final = ("", "default", "generic")
"""Values of a data stream's parts that say nothing."""
MAX_INDEX: Final = 255
"""Longest name of an index, as in Elasticsearch; what is longer is cut before anything remembers it."""


class EcsRow(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What a document says beside its time and text, by the columns of a batch. Rows are shared, so nobody changes their attributes in place."""

    source: str
    environment: str
    severity_number: int
    severity_text: str
    host: str
    service: str
    attributes: dict[str, Any]
    trace_id: str
    span_id: str


class StampReader:
    """Reads the times of one request."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: dict[str, int] = {}

    def read(self, stamp: Any) -> int:
        """Returns nanoseconds since 1970, or 0; a stamp without a zone is in UTC, as in Elasticsearch."""
        return self.read_texts((stamp,))[0] if type(stamp) is str else epoch_nanos(stamp)

    def read_texts(self, stamps: Iterable[str]) -> list[int]:
        """Returns the same for many."""
        known, times = self._seconds, list[int]()
        for stamp in stamps:
            if len(stamp) == 24 and stamp[-1] == "Z" and stamp[19] == "." and (digits := stamp[20:23]).isdecimal():
                # As Beats, Logstash and Fluent Bit write it: the part up to the second repeats.
                head = stamp[:19]
                seconds = known.get(head)
                if seconds is None:
                    seconds = known[head] = parse_timestamp(f"{head}Z", UTC)
                times.append(seconds + int(digits) * 1_000_000 if seconds else 0)
            else:
                times.append(parse_timestamp(stamp, UTC))
        return times


def read_row(document: dict[str, Any], index: str, agent: Agent) -> EcsRow:
    """Returns what a document without time and text says, nested or dotted; what is no column stays in it and becomes the attributes."""
    level = take_text(document, "log", "level") if "log" in document or "log.level" in document else ""
    if not level:
        # Not of ECS, but what loggers that write to Elasticsearch say: Pino and Zap, and Winston.
        name = next((name for name in ("level", "severity") if type(document.get(name)) is str), "")
        level = document.pop(name) if name else ""
    dataset = ""
    if "data_stream" in document or "data_stream.dataset" in document:
        dataset = text_of(document, "data_stream", "dataset")
    if not dataset and ("event" in document or "event.dataset" in document):
        dataset = text_of(document, "event", "dataset")
    declared = service = ""
    if "service" in document or "service.name" in document:
        declared = text_of(document, "service", "environment")
        service = take_text(document, "service", "name")
    if not declared and dataset:
        declared = _telling(text_of(document, "data_stream", "namespace"))
    source, environment = name_origin(agent, index, service, dataset)
    return EcsRow(
        source=source,
        environment=declared or environment,
        severity_number=severity.severity_of_word(level) if level else 0,
        severity_text=level,
        host=take_text(document, "host", "name") if "host" in document or "host.name" in document else "",
        service=service,
        attributes=document,
        trace_id=_take_id(document, "trace", _TRACE_ID) if "trace" in document or "trace.id" in document else "",
        span_id=_take_id(document, "span", _SPAN_ID) if "span" in document or "span.id" in document else "",
    )


def name_origin(agent: Agent, index: str, service: str = "", dataset: str = "") -> tuple[str, str]:
    """Returns source and environment: the token's own source, else the service, the data set, the index, or the token's name."""
    stem, environment = split_index(index)
    return agent.source or service or _telling(dataset) or stem or agent.name, environment


@lru_cache(maxsize=4_096)
def split_index(index: str) -> tuple[str, str]:
    """Returns what an index says: the data set of a data stream, else its name without dates and versions; and the environment."""
    stem = _ROLLING.sub("", index) or index
    match = _DATA_STREAM.fullmatch(stem)
    if match is None:
        return stem, ""
    dataset, namespace = match.groups()
    return _telling(dataset) or stem, _telling(namespace)


def text_of(document: dict[str, Any], parent: str, name: str) -> str:
    """Returns a text under its nested or dotted name, or ""."""
    holder = document.get(parent)
    value = holder.get(name) if type(holder) is dict else document.get(f"{parent}.{name}")
    return value if type(value) is str else ""


def take_text(document: dict[str, Any], parent: str, name: str) -> str:
    """Takes a text under its nested or dotted name, or under the parent's own name, out of a document; "" when there is none."""
    holder = document.get(parent)
    if type(holder) is dict:
        value = holder.get(name)
        if type(value) is not str:
            return ""
        del holder[name]
        if not holder:
            del document[parent]
        return value
    dotted = f"{parent}.{name}"
    value = document.get(dotted)
    if type(value) is str:
        del document[dotted]
        return value
    if type(holder) is str and parent != "log":  # under `log` a text is a message
        del document[parent]
        return holder
    return ""


def _telling(value: str) -> str:
    return "" if value in _SILENT else value


def _take_id(document: dict[str, Any], parent: str, pattern: re.Pattern[str]) -> str:
    """Takes a trace or span id that is well-formed and not all zero; any other stays where it is."""
    value = text_of(document, parent, "id").lower()
    if pattern.fullmatch(value) is None or not value.strip("0"):
        return ""
    take_text(document, parent, "id")
    return value
