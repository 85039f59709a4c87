"""Records of Fluent clients onto columns: message, source, Kubernetes and Docker metadata, the rest as attributes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

import msgpack
import orjson

from services.ingest.batch import Batch
from services.ingest.formats.fields import spread_fields
from services.ingest.receivers.fluent_messages import Entry, Message
from services.ingest.rejections import Rejection, RejectReason

DEFAULT_SOURCE = "fluent"
MAX_DEPTH = 32
"""Nesting of a value beyond which it is kept as text."""
MAX_SOURCE = 200
_SERVICE_LABELS = ("app.kubernetes.io/name", "k8s-app", "app")
_CONTAINER_ID = re.compile(r"[0-9a-f]{12}(?:[0-9a-f]{52})?")
_PLAIN = frozenset((str, int, float, bool, type(None)))


@dataclass(slots=True)
class FluentBatch:
    """Records of a message, and what could not be read of it; `formats` is parallel to the batch."""

    key: str = ""
    """Recognises the message when it is sent again; empty when its client gave it no id."""
    chunk: str | bytes | None = None
    """What is to be acknowledged."""
    size: int = 0
    """Bytes of the message, decompressed."""
    batch: Batch = field(default_factory=Batch)
    formats: list[str] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)


def batch_of(message: Message, source: str) -> FluentBatch:
    """Returns the records of a message. `source` names the source of all of them; empty: each says it, or the tag."""
    decoded = FluentBatch(f"{message.tag} {message.chunk!r}" if message.chunk is not None else "", message.chunk, message.size)
    tag_source = _source_of(message.tag)
    for entry in message.entries:
        _add_record(decoded, entry, message.tag, source, tag_source)
    for raw, detail in message.broken:
        decoded.rejections.append(Rejection(source or tag_source or DEFAULT_SOURCE, RejectReason.INVALID_DOCUMENT, detail, raw))
    return decoded


def _add_record(decoded: FluentBatch, entry: Entry, tag: str, source: str, tag_source: str) -> None:
    fields = _plain(entry.record, 0)
    attributes: dict[str, Any] = {"fluent.tag": tag}
    if entry.metadata:
        attributes["fluent.metadata"] = _plain(entry.metadata, 1)
    host, service = _take_container(fields, attributes)
    batch = decoded.batch
    row = len(batch)
    batch.append("", source=source or service or tag_source or DEFAULT_SOURCE, timestamp=entry.time, host=host, service=service, attributes=attributes)
    spread_fields(batch, row, fields, UTC)
    whole = not batch.body[row]
    if whole:  # no field is a text: the record itself is
        batch.body[row] = orjson.dumps(_plain(entry.record, 0)).decode()
    decoded.formats.append("json_lines" if whole else "")


def _take_container(fields: dict[str, Any], attributes: dict[str, Any]) -> tuple[str, str]:
    """Returns host and service that the metadata of a container names; moves its output stream to OpenTelemetry's name."""
    for name in ("stream", "source"):
        if fields.get(name) in ("stdout", "stderr"):
            attributes["log.iostream"] = fields.pop(name)
            break
    pod = fields.get("kubernetes")
    if isinstance(pod, dict):
        labels = pod.get("labels")
        names = [labels.get(label) for label in _SERVICE_LABELS] if isinstance(labels, dict) else []
        return _text(pod.get("host")), next((name for name in (*names, pod.get("container_name")) if isinstance(name, str) and name), "")[:MAX_SOURCE]
    if "container_id" in fields:
        return "", _text(fields.get("container_name")).lstrip("/")[:MAX_SOURCE]
    return "", ""


def _source_of(tag: str) -> str:
    """Returns the first part of a tag; nothing for the id of a container, which says nothing to anyone."""
    first = tag.partition(".")[0][:MAX_SOURCE]
    return "" if _CONTAINER_ID.fullmatch(first) else first


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _name(key: object) -> str:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)


def _plain(value: Any, depth: int) -> Any:
    """Returns a value as JSON has it: bytes as text, keys as text, what is nested too deeply as text."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if depth > MAX_DEPTH:
        return repr(value)[:MAX_SOURCE]
    if kind is dict:
        return {key if type(key) is str else _name(key): item if type(item) in _PLAIN else _plain(item, depth + 1) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [_plain(item, depth + 1) for item in value]
    if kind is bytes:
        return value.decode("utf-8", "replace")
    if isinstance(value, int):
        return int(value)
    return str(value) if not isinstance(value, msgpack.Timestamp) else value.to_unix_nano()
