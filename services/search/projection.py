"""Rows as a caller wants to see them: some fields under its own names, as JSON bytes spliced from the canonical lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache

import msgspec
import orjson

from elis.search.v1 import search_pb2 as pb
from kit.errors import InvalidArgument
from services.search.lines import SECOND

MAX_FIELDS = 64
MAX_NAME_LENGTH = 200
_CACHED_ENCODERS = 256
_EMPTY = msgspec.Raw()


class _RawLine(msgspec.Struct, gc=False):
    """A canonical line whose values stay the JSON they are."""

    event_id: msgspec.Raw
    timestamp: int
    observed_at: int
    source: msgspec.Raw
    system: msgspec.Raw
    severity_number: msgspec.Raw
    fingerprint: msgspec.Raw
    body: msgspec.Raw
    environment: msgspec.Raw = _EMPTY
    host: msgspec.Raw = _EMPTY
    service: msgspec.Raw = _EMPTY
    severity_text: msgspec.Raw = _EMPTY
    attributes: msgspec.Raw = _EMPTY
    trace_id: msgspec.Raw = _EMPTY
    span_id: msgspec.Raw = _EMPTY


_decode = msgspec.json.Decoder(_RawLine).decode
FieldEncoder = Callable[[_RawLine], bytes]
RowEncoder = Callable[[Iterable[bytes]], list[bytes]]


def read_projection(fields: Sequence[pb.ProjectedField]) -> RowEncoder:
    """Returns the encoder of lines to rows for a projection; raises InvalidArgument for fields that do not exist."""
    if len(fields) > MAX_FIELDS:
        raise InvalidArgument(f"a projection has at most {MAX_FIELDS} fields, not {len(fields)}")
    return _build_encoder(tuple((field.field, field.response_name or field.field) for field in fields))


@lru_cache(_CACHED_ENCODERS)
def _build_encoder(fields: tuple[tuple[str, str], ...]) -> RowEncoder:
    parts: list[tuple[bytes, FieldEncoder]] = []
    for number, (field, name) in enumerate(fields):
        if field not in _ENCODERS:
            raise InvalidArgument(f"an event has no field {field[:MAX_NAME_LENGTH]!r}")
        if len(name) > MAX_NAME_LENGTH:
            raise InvalidArgument(f"a response name has at most {MAX_NAME_LENGTH} characters")
        parts.append((b"%s%s:" % (b"," if number else b"{", orjson.dumps(name)), _ENCODERS[field]))

    def encode(lines: Iterable[bytes]) -> list[bytes]:
        rows = []
        for line in lines:
            raw = _decode(line)
            row = bytearray()
            for head, encode_field in parts:
                row += head
                row += encode_field(raw)
            row += b"}"
            rows.append(bytes(row))
        return rows

    return encode


def format_time(nanoseconds: int) -> str:
    """Returns nanoseconds since 1970 as RFC 3339 with nine digits of a second."""
    seconds, fraction = divmod(nanoseconds, SECOND)
    return f"{_format_second(seconds)}.{fraction:09d}Z"


@lru_cache(4096)
def _format_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


def _copy(field: str) -> FieldEncoder:
    """A value that is always there."""
    return lambda line: bytes(getattr(line, field))


def _copy_or(field: str, absent: bytes) -> FieldEncoder:
    """A value that is absent or empty when it is unknown."""

    def encode(line: _RawLine) -> bytes:
        value = bytes(getattr(line, field))
        return absent if value in (b"", b'""') else value

    return encode


def _encode_step(line: _RawLine) -> bytes:
    """The step of OpenTelemetry that a severity number is in: four numbers each, 0 is unknown."""
    return _STEPS[(int(bytes(line.severity_number)) + 3) // 4]


_STEPS = (b"null", b'"TRACE"', b'"DEBUG"', b'"INFO"', b'"WARN"', b'"ERROR"', b'"FATAL"')
_ENCODERS: dict[str, FieldEncoder] = {
    "severity": _encode_step,
    "event_id": lambda line: b'"%s"' % bytes(line.event_id),
    "timestamp": lambda line: b'"%s"' % format_time(line.timestamp).encode(),
    "observed_at": lambda line: b'"%s"' % format_time(line.observed_at).encode(),
    "attributes": _copy_or("attributes", b"{}"),
    **{field: _copy(field) for field in ("source", "system", "severity_number", "fingerprint", "body")},
    **{field: _copy_or(field, b"null") for field in ("environment", "host", "service", "severity_text", "trace_id", "span_id")},
}
