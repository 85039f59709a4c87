"""Fields of the Elastic Common Schema (ECS) onto columns, and what names the source of a document.

Source: Elastic Common Schema reference; naming of data streams (`type-dataset-namespace`).
"""

from __future__ import annotations

import re
from datetime import UTC
from functools import lru_cache
from typing import Any, Final

from services.ingest import severity
from services.ingest.batch import Batch
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
"""Longest name of an index, as in Elasticsearch."""


class EcsReader:
    """Reads the documents of one request into its batch: every column, and the environment each document declares."""

    __slots__ = ("_agent", "_batch", "_environments", "_origins", "_seconds")

    def __init__(self, batch: Batch, environments: list[str], agent: Agent) -> None:
        self._batch = batch
        self._environments = environments
        self._agent = agent
        self._seconds: dict[str, int] = {}
        # The documents of a request come from few places: where one comes from is worked out once.
        self._origins: dict[tuple[str, str, str], tuple[str, str]] = {}

    def read(self, document: dict[str, Any], index: str) -> bool:
        """Adds a row from a document, nested or dotted; what is no column stays in it and becomes the attributes.

        Returns whether there is a `message`; without one the body is left empty.
        """
        message = document.pop("message", None)
        found = type(message) is str and message != "" and not message.isspace()
        if not found and message is not None:
            document["message"] = message
        timestamp = 0
        stamp = document.pop("@timestamp", None)
        if stamp is not None:
            timestamp = self._parse(stamp)
            if not timestamp:
                document["@timestamp"] = stamp
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
        declared = ""
        if "service" in document or "service.name" in document:
            declared = text_of(document, "service", "environment")
            service = take_text(document, "service", "name")
        else:
            service = ""
        if not declared and dataset:
            declared = _telling(text_of(document, "data_stream", "namespace"))

        batch = self._batch
        origin = self._origins.get((service, dataset, index))
        if origin is None:
            origin = self._origins[service, dataset, index] = self.name_origin(index, service, dataset)
        batch.source.append(origin[0])
        self._environments.append(declared or origin[1])
        batch.body.append(message if found else "")
        batch.timestamp.append(timestamp)
        batch.severity_text.append(level)
        batch.severity_number.append(severity.severity_of_word(level) if level else 0)
        batch.host.append(take_text(document, "host", "name") if "host" in document or "host.name" in document else "")
        batch.service.append(service)
        batch.trace_id.append(_take_id(document, "trace", _TRACE_ID) if "trace" in document or "trace.id" in document else "")
        batch.span_id.append(_take_id(document, "span", _SPAN_ID) if "span" in document or "span.id" in document else "")
        batch.attributes.append(document)
        return found

    def name_origin(self, index: str, service: str = "", dataset: str = "") -> tuple[str, str]:
        """Returns source and environment: the token's own source, else the service, the data set, the index, or the token's name."""
        stem, environment = split_index(index)
        return self._agent.source or service or _telling(dataset) or stem or self._agent.name, environment

    def _parse(self, stamp: Any) -> int:
        """Returns nanoseconds since 1970, or 0; a stamp without a zone is in UTC, as in Elasticsearch."""
        if type(stamp) is not str:
            return epoch_nanos(stamp)
        if len(stamp) == 24 and stamp[-1] == "Z" and stamp[19] == "." and (digits := stamp[20:23]).isdecimal():
            # As Beats, Logstash and Fluent Bit write it: the part up to the second repeats.
            head = stamp[:19]
            seconds = self._seconds.get(head)
            if seconds is None:
                seconds = self._seconds[head] = parse_timestamp(f"{head}Z", UTC)
            return seconds + int(digits) * 1_000_000 if seconds else 0
        return parse_timestamp(stamp, UTC)


@lru_cache(maxsize=4_096)
def split_index(index: str) -> tuple[str, str]:
    """Returns what an index says: the data set of a data stream, else its name without dates and versions; and the environment."""
    index = index[:MAX_INDEX]
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
