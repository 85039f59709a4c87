"""Canonical lines as search reads them: split out of blocks, decoded, turned into messages."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import zstandard
from google.protobuf.timestamp_pb2 import Timestamp

from elis.search.v1 import search_pb2 as pb
from kit.errors import Internal
from services.search.conditions import normalise_number

ORDINAL_BITS = 20
"""event_id = (block id << ORDINAL_BITS) + ordinal in the block."""
MAX_LINES_BYTES = 256 * 1024 * 1024
"""Largest decompressed content of a block."""
SECOND = 1_000_000_000

Leaf = str | int | float | bool


class Line(msgspec.Struct, gc=False):
    """One event as its canonical line states it; texts that are unknown are empty, attributes stay JSON."""

    event_id: int
    timestamp: int
    observed_at: int
    source: str
    system: str
    severity_number: int
    fingerprint: str
    body: str
    environment: str = ""
    host: str = ""
    service: str = ""
    severity_text: str = ""
    attributes: msgspec.Raw = msgspec.Raw(b"{}")
    trace_id: str = ""
    span_id: str = ""


_decoder = msgspec.json.Decoder(Line)


def decode_line(line: bytes) -> Line:
    """Returns the event of a canonical line; raises msgspec.DecodeError when it is none."""
    return _decoder.decode(line)


def decompress_lines(compressed: bytes) -> bytes:
    """Returns the content of a block, given as ingest keeps it: canonical lines, LF after each."""
    try:
        return zstandard.ZstdDecompressor().decompress(compressed, max_output_size=MAX_LINES_BYTES)
    except zstandard.ZstdError as error:
        raise Internal("a block is damaged", reason=str(error)) from error


def split_lines(compressed: bytes) -> list[bytes]:
    """Returns the canonical lines of a block."""
    return decompress_lines(compressed).removesuffix(b"\n").split(b"\n")


def flatten_attributes(attributes: bytes) -> dict[str, list[Leaf]]:
    """Returns the values of a JSON object by dotted path; arrays add up, nulls and empty containers give nothing."""
    leaves: dict[str, list[Leaf]] = {}
    pending: list[tuple[str, Any]] = [("", orjson.loads(attributes))]
    while pending:
        path, value = pending.pop()
        if isinstance(value, dict):
            pending.extend((f"{path}.{key}" if path else key, below) for key, below in value.items())
        elif isinstance(value, list):
            pending.extend((path, element) for element in value)
        elif isinstance(value, bool | str):
            leaves.setdefault(path, []).append(value)
        elif value is not None:
            leaves.setdefault(path, []).append(normalise_number(value))
    return leaves


def to_timestamp(nanoseconds: int) -> Timestamp:
    """Returns a Timestamp of nanoseconds since 1970."""
    seconds, nanos = divmod(nanoseconds, SECOND)
    return Timestamp(seconds=seconds, nanos=nanos)


def to_event(line: Line) -> pb.Event:
    """Returns the public message of an event."""
    return pb.Event(
        event_id=line.event_id,
        timestamp=to_timestamp(line.timestamp),
        observed_at=to_timestamp(line.observed_at),
        source=line.source,
        system=line.system,
        environment=line.environment,
        host=line.host,
        service=line.service,
        severity_number=line.severity_number,
        severity_text=line.severity_text,
        body=line.body,
        attributes_json=bytes(line.attributes),
        trace_id=line.trace_id,
        span_id=line.span_id,
        fingerprint=line.fingerprint,
    )
