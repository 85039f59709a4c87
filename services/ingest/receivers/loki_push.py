"""Bodies of Loki's push API: JSON and snappy-compressed protobuf, from streams to a batch.

Source: Loki's HTTP API (push), reference wire-formats §4; the notation of labels is that of Prometheus.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import cramjam
import msgspec
from google.protobuf.message import DecodeError

from elis.ingest.v1.loki_pb2 import LokiPushRequest
from kit.errors import InvalidArgument
from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.receivers.bodies import MAX_RECORDS, MAX_VALUES, BodyTooLarge, BrokenBody, check_marks
from services.ingest.receivers.broken_json import mend_texts
from services.ingest.receivers.protobuf_parts import Part, PartCount
from services.ingest.tokens import Agent

MAX_ENTRIES: Final = MAX_RECORDS
"""Streams and log lines in one request."""
MAX_LABELS_TEXT: Final = 65_536
"""Characters of the labels of a stream that are read: Loki itself takes 15 labels of at most 3 KiB."""
MAX_REMEMBERED: Final = 1_024
"""The same of labels that are remembered from request to request."""
TENANT_ATTRIBUTE: Final = "loki.tenant"
LABELS_ATTRIBUTE: Final = "loki.labels"
"""Keeps the labels of a stream that are not in Loki's notation."""
_LARGEST_TIME: Final = 2**63 - 1

SERVICE_LABELS: Final = (
    "service_name",
    "service",
    "app",
    "application",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "component",
)
"""Labels that name the service, the first that a stream has."""
SOURCE_LABELS: Final = ("service_name", "job", *SERVICE_LABELS[1:], "filename")
"""Labels that name the source where the token names none."""
HOST_LABELS: Final = ("host", "hostname", "host_name", "node_name", "node", "nodename", "instance")
LEVEL_LABELS: Final = ("level", "severity_text", "severity", "lvl", "detected_level")
ENVIRONMENT_LABELS: Final = ("environment", "env", "deployment_environment", "deployment_environment_name")
TRACE_LABELS: Final = ("trace_id", "traceid", "traceID", "traceId", "TraceID")
SPAN_LABELS: Final = ("span_id", "spanid", "spanID", "spanId", "SpanID")
_ROLES: Final = {
    **dict.fromkeys(TRACE_LABELS, "trace_id"),
    **dict.fromkeys(SPAN_LABELS, "span_id"),
    **dict.fromkeys(LEVEL_LABELS, "level"),
    **dict.fromkeys(HOST_LABELS, "host"),
    SERVICE_LABELS[0]: "service",
}
"""Which column a name in structured metadata may fill, the preferred names first."""
_RANKS: Final = {name: rank for rank, name in enumerate(_ROLES)}
_TELLING_NOTHING: Final = ("", "unknown_service", "unknown")

_LABEL = re.compile(r'\s*([^\s="{},]+)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)', re.DOTALL)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_ESCAPED: Final = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_PORT = re.compile(r":\d{1,5}$")
_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_SPAN_ID = re.compile(r"[0-9a-f]{16}")

ENTRIES: Final = PartCount(MAX_ENTRIES, "streams and entries", {1: Part(True, {2: Part(True, {})})})
METADATA: Final = PartCount(MAX_VALUES, "labels and structured metadata", {1: Part(False, {2: Part(False, {3: Part(True, {})})})})


class _Entry(msgspec.Struct, array_like=True, gc=False):
    timestamp: str
    line: str
    metadata: dict[str, str] | None = None


class _Stream(msgspec.Struct, gc=False):
    stream: dict[str, str]
    values: list[_Entry]


class _Push(msgspec.Struct, gc=False):
    streams: list[_Stream]


_decode_push: Final[Callable[[bytes], _Push]] = msgspec.json.Decoder(_Push).decode


@dataclass(slots=True)
class LokiBatch:
    """Records and the environments that their labels declare, parallel."""

    batch: Batch = field(default_factory=Batch)
    environments: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Origin:
    """What the labels of a stream say; the attributes are shared by its records, nobody changes them in place."""

    source: str
    service: str
    host: str
    level: str
    environment: str
    attributes: dict[str, Any]


def decode_json(body: bytes, agent: Agent, tenant: str) -> LokiBatch:
    """Decodes a JSON body. Raises InvalidArgument when it is none, or a time is not nanoseconds in a string."""
    check_marks(body, b"[", MAX_ENTRIES, "streams and entries")
    check_marks(body, b":", MAX_VALUES, "labels and structured metadata")
    try:
        push = _decode_push(body)
    except (UnicodeDecodeError, msgspec.DecodeError) as problem:
        push = _decode_mended(body, problem)
    except RecursionError:
        raise InvalidArgument("the body is nested too deeply") from None
    decoded = LokiBatch()
    for stream in push.streams:
        origin = _read_labels(stream.stream, agent, tenant)
        entries = stream.values
        _add(decoded, origin, [_time_of(entry.timestamp) for entry in entries], [entry.line for entry in entries], [entry.metadata for entry in entries])
    return decoded


def decode_protobuf(body: bytes, agent: Agent, tenant: str) -> LokiBatch:
    """Decodes the content of a protobuf body. Bytes that are not UTF-8 are replaced. Raises InvalidArgument when it is no push request."""
    for parts in (ENTRIES, METADATA):
        parts.check(body)
    try:
        push = LokiPushRequest.FromString(body)
    except DecodeError:
        raise InvalidArgument("the body is not a push request") from None
    decoded = LokiBatch()
    left = MAX_VALUES
    for stream in push.streams:
        text = stream.labels.decode("utf-8", "replace")
        labels = _recall_labels(text) if len(text) <= MAX_REMEMBERED else parse_labels(text)
        left -= len(labels or ())
        if left < 0:
            raise BodyTooLarge(f"the request has more than {MAX_VALUES} labels")
        origin = _read_labels({LABELS_ATTRIBUTE: text} if labels is None else dict(labels), agent, tenant)
        entries = stream.entries
        stamps = [entry.timestamp for entry in entries]
        _add(
            decoded,
            origin,
            [_clamp(stamp.seconds * 1_000_000_000 + stamp.nanos) for stamp in stamps],
            [entry.line.decode("utf-8", "replace") for entry in entries],
            [_pairs(entry.structured_metadata) if entry.structured_metadata else None for entry in entries],
        )
    return decoded


def declared_length(block: bytes) -> int:
    """Returns the length that a snappy block declares for its content; raises BrokenBody when it declares none."""
    length, shift = 0, 0
    for byte in block[:5]:
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return length
    raise BrokenBody("the body is not valid snappy: it declares no length")


def decompress_snappy(body: bytes, limit: int) -> bytes:
    """Returns the content of a snappy block. The length that it declares is held against the bound before anything is allocated."""
    length = declared_length(body)
    if length > limit:
        raise BodyTooLarge(f"the body has {length} bytes when it is decompressed, more than {limit}")
    try:
        return bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError:
        raise BrokenBody("the body is not valid snappy") from None


def parse_labels(text: str) -> tuple[tuple[str, str], ...] | None:
    """Returns the labels of `{name="value", …}`, or None when they are not written so or too long."""
    if len(text) > MAX_LABELS_TEXT:
        return None
    inner = text.strip()
    if not (inner.startswith("{") and inner.endswith("}")):
        return None
    inner = inner[1:-1].strip()
    labels: list[tuple[str, str]] = []
    position = 0
    while position < len(inner):
        match = _LABEL.match(inner, position)
        if match is None:
            return None
        value = match[2]
        labels.append((match[1], _ESCAPE.sub(_read_escape, value) if "\\" in value else value))
        position = match.end()
    return tuple(labels)


def _read_escape(escape: re.Match[str]) -> str:
    """Returns the character that Go writes so."""
    written = escape[1]
    if len(written) == 1:
        return _ESCAPED.get(written, written)
    number = int(written[1:], 16)
    return "\ufffd" if 0xD800 <= number < 0xE000 or number > 0x10FFFF else chr(number)


_recall_labels: Final = lru_cache(maxsize=4_096)(parse_labels)


def _add(decoded: LokiBatch, origin: _Origin, timestamps: list[int], lines: list[str], metadata: Iterable[dict[str, str] | None]) -> None:
    """Adds the entries of a stream, a column at a time."""
    batch, count = decoded.batch, len(lines)
    first = len(batch)
    batch.source += [origin.source] * count
    batch.body += lines
    batch.timestamp += timestamps
    batch.severity_text += [origin.level] * count
    batch.severity_number += [severity.severity_of_word(origin.level) if origin.level else 0] * count
    batch.host += [origin.host] * count
    batch.service += [origin.service] * count
    batch.attributes += [origin.attributes or None] * count
    batch.trace_id += [""] * count
    batch.span_id += [""] * count
    decoded.environments += [origin.environment] * count
    for row, pairs in enumerate(metadata, first):
        if pairs:
            _apply(batch, row, dict(pairs), origin)


def _apply(batch: Batch, row: int, pairs: dict[str, str], origin: _Origin) -> None:
    """Moves the structured metadata of an entry into its row; what its stream says already wins. `pairs` is used up."""
    names = [name for name in pairs if name in _RANKS]
    if len(names) > 1:
        names.sort(key=_RANKS.__getitem__)
    for name in names:
        role, value = _ROLES[name], pairs[name]
        if value in _TELLING_NOTHING:
            continue
        if role == "trace_id":
            if not batch.trace_id[row] and _is_id(value.lower(), _TRACE_ID):
                batch.trace_id[row] = pairs.pop(name).lower()
        elif role == "span_id":
            if not batch.span_id[row] and _is_id(value.lower(), _SPAN_ID):
                batch.span_id[row] = pairs.pop(name).lower()
        elif role == "level":
            if not batch.severity_text[row]:
                batch.severity_text[row] = pairs.pop(name)
                batch.severity_number[row] = severity.severity_of_word(value)
        elif role == "host":
            if not batch.host[row]:
                batch.host[row] = pairs.pop(name)
        elif not batch.service[row]:
            batch.service[row] = pairs.pop(name)
    if pairs:
        batch.attributes[row] = {**pairs, **origin.attributes}


def _read_labels(labels: dict[str, str], agent: Agent, tenant: str) -> _Origin:
    """Maps the labels of a stream; those that are no column stay attributes. `labels` is used up."""
    source = agent.source or _first(labels, SOURCE_LABELS) or agent.name
    service = _take(labels, SERVICE_LABELS)
    host = _take(labels, HOST_LABELS)
    level = _take(labels, LEVEL_LABELS)
    environment = _first(labels, ENVIRONMENT_LABELS)
    if tenant:
        labels[TENANT_ATTRIBUTE] = tenant
    return _Origin(source, service, _PORT.sub("", host), level, environment, dict(labels))


def _first(labels: dict[str, str], names: Iterable[str]) -> str:
    return next((value for name in names if (value := labels.get(name, "")) not in _TELLING_NOTHING), "")


def _take(labels: dict[str, str], names: Iterable[str]) -> str:
    """Takes the first of the labels that says something."""
    for name in names:
        if labels.get(name, "") not in _TELLING_NOTHING:
            return labels.pop(name)
    return ""


def _is_id(value: str, pattern: re.Pattern[str]) -> bool:
    """Says whether a value is an id of the right length that is not all zero."""
    return pattern.fullmatch(value) is not None and value.strip("0") != ""


def _pairs(labels: Iterable[Any]) -> dict[str, str]:
    return {label.name.decode("utf-8", "replace"): label.value.decode("utf-8", "replace") for label in labels}


def _time_of(text: str) -> int:
    """Returns the nanoseconds that an entry's first member writes; raises InvalidArgument when it is not an integer."""
    try:
        if len(text) <= 20 and text.isascii():
            return _clamp(int(text))
    except ValueError:
        pass
    raise InvalidArgument(f"the time {text[:40]!r} is not nanoseconds since 1970 as a string")


def _clamp(nanos: int) -> int:
    return min(max(nanos, 0), _LARGEST_TIME)


def _decode_mended(body: bytes, problem: Exception) -> _Push:
    """Decodes a body with what no Unicode text can hold replaced; raises InvalidArgument when something else is wrong."""
    if not isinstance(problem, msgspec.ValidationError):
        try:
            return _decode_push(mend_texts(body))
        except (msgspec.DecodeError, RecursionError) as again:
            problem = again
    raise InvalidArgument(f"the body is not a push request: {problem}") from None
