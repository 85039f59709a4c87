"""Files of encoded request bodies: made before the clock starts, read by the clients."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import orjson

from benchmarks.corpus import Stream
from services.ingest.simulator.otlp import encode_request

ItemT = TypeVar("ItemT")
_HEAD = struct.Struct("<II")

Body = tuple[int, bytes]
"""Number of events, and the bytes of the request."""


def write_bodies(path: Path, bodies: Iterable[Body]) -> None:
    """Writes bodies to a file."""
    with path.open("wb") as file:
        for events, body in bodies:
            file.write(_HEAD.pack(events, len(body)))
            file.write(body)


def read_bodies(path: Path) -> list[Body]:
    """Returns the bodies of a file."""
    content = path.read_bytes()
    bodies: list[Body] = []
    position = 0
    while position < len(content):
        events, length = _HEAD.unpack_from(content, position)
        position += _HEAD.size
        bodies.append((events, content[position : position + length]))
        position += length
    return bodies


def hec_bodies(stream: Stream, sizes: Iterator[int]) -> Iterator[Body]:
    """Yields requests for HEC of the given numbers of events, until no event is left."""
    for part in _cut(stream.envelopes, sizes):
        yield len(part), b"\n".join(part)


def bulk_bodies(stream: Stream, sizes: Iterator[int]) -> Iterator[Body]:
    """Yields requests for the bulk API with the same texts, as an agent ships lines: time, message, host, file, labels."""
    for part in _cut(stream.envelopes, sizes):
        yield len(part), b"".join(b'{"create":{}}\n%s\n' % _to_document(envelope) for envelope in part)


def document_bodies(stream: Stream, sizes: Iterator[int]) -> Iterator[Body]:
    """Yields the same documents as JSON lines."""
    for part in _cut(stream.envelopes, sizes):
        yield len(part), b"".join(_to_document(envelope) + b"\n" for envelope in part)


def _cut(items: Sequence[ItemT], sizes: Iterator[int]) -> Iterator[Sequence[ItemT]]:
    """Yields what is to be sent in parts of the given numbers, until nothing is left."""
    position = 0
    while position < len(items):
        part = items[position : position + next(sizes)]
        position += len(part)
        yield part


def _to_document(envelope: bytes) -> bytes:
    event = orjson.loads(envelope)
    document: dict[str, Any] = {}
    if "time" in event:
        seconds, _, fraction = str(event["time"]).partition(".")
        document["@timestamp"] = f"{datetime.fromtimestamp(int(seconds), UTC):%Y-%m-%dT%H:%M:%S}.{fraction[:3] or '000'}Z"
    text = event["event"]
    document["message"] = text if isinstance(text, str) else orjson.dumps(text).decode()
    if event.get("host"):
        document["host"] = {"name": event["host"]}
    document["log"] = {"file": {"path": event.get("source", "")}}
    document["event"] = {"dataset": event.get("source", "")}
    if event.get("fields"):
        document["labels"] = event["fields"]
    return orjson.dumps(document)


def otlp_bodies(stream: Stream, sizes: Iterator[int], shift_ns: int = 0) -> Iterator[Body]:
    """Yields export requests; all times are moved by `shift_ns`, so that the same records can be sent again as new ones."""
    for part in _cut(stream.records, sizes):
        if shift_ns:
            part = [msgspec.structs.replace(event, time_ns=event.time_ns + shift_ns) for event in part]
        yield len(part), encode_request(part)
