"""OpenTelemetry logs: from export requests to batches. Source: opentelemetry-proto, logs data model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, TypeVar

import msgspec
import orjson
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from elis.ingest.v1 import otlp_pb2 as pb
from kit.errors import InvalidArgument
from services.ingest.batch import Batch
from services.ingest.generations import Generations
from services.ingest.groups import Outcome
from services.ingest.receivers.bodies import MAX_RECORDS, MAX_VALUES
from services.ingest.receivers.broken_protobuf import mend_texts
from services.ingest.receivers.protobuf_parts import Part, PartCount
from services.ingest.severity import severity_of_word
from services.ingest.tokens import Agent

DEFAULT_SYSTEM = "application"
MAX_DEPTH = 32
MAX_REMEMBERED: Final = 2_048
"""Bytes of the attributes of an origin, or of a record, that are remembered from request to request."""
_STRING_VALUE: Final = 0x0A
"""The tag of a text in an AnyValue; its length follows."""
_LARGEST_TIME = 2**63 - 1
_Read = TypeVar("_Read")

_VALUE: Final[dict[int, Part]] = {}
_PAIR: Final = {2: Part(False, _VALUE)}
_ATTRIBUTE: Final = Part(True, _PAIR)
_VALUE[5] = Part(True, {1: Part(True, _VALUE)})
_VALUE[6] = Part(True, {1: _ATTRIBUTE})
_RESOURCE: Final = Part(False, {1: _ATTRIBUTE, 3: Part(True, {3: Part(True, {}), 4: Part(True, {})})})
_SCOPE: Final = Part(False, {3: _ATTRIBUTE})
_RECORD: Final = {5: Part(False, _VALUE), 6: _ATTRIBUTE}
_SPAN: Final = {9: _ATTRIBUTE, 11: Part(True, {3: _ATTRIBUTE}), 13: Part(True, {4: _ATTRIBUTE}), 15: Part(False, {})}


def _layers(fields: dict[int, Part]) -> dict[int, Part]:
    """Returns the layers of a request with the fields of its records or spans; both have the same numbers."""
    return {1: Part(False, {1: _RESOURCE, 2: Part(False, {1: _SCOPE, 2: Part(False, fields)})})}


RECORDS: Final = PartCount(MAX_RECORDS, "records", {1: Part(True, {2: Part(True, {2: Part(True, {})})})})
"""Resources, scopes and records or spans of a request: the layers have the same numbers in both."""
LOG_VALUES: Final = PartCount(MAX_VALUES, "attributes", _layers(_RECORD))
SPAN_VALUES: Final = PartCount(MAX_VALUES, "attributes, events and links", _layers(_SPAN))


def read_spans(body: bytes) -> ExportTraceServiceRequest:
    """Returns a request for spans from protobuf; raises InvalidArgument when it is none, BodyTooLarge when there is too much in it."""
    for count in (RECORDS, SPAN_VALUES):
        count.check(body)
    return _read(body, ExportTraceServiceRequest, ExportTraceServiceRequest.FromString)


def decode_logs(body: bytes, agent: Agent) -> tuple[Batch, list[str]]:
    """Returns the records of an export request in protobuf, and the environment that each one's resource declares.

    Raises InvalidArgument when the body is no such request, BodyTooLarge when there is too much in it.
    """
    for count in (RECORDS, LOG_VALUES):
        count.check(body)
    return _read(body, ExportLogsServiceRequest, lambda body: read_columns(pb.OtlpLogs.FromString(body), agent))


def _read(body: bytes, request: type[Message], read: Callable[[bytes], _Read]) -> _Read:
    """Returns what is read from a request; one with texts that are not UTF-8 is read with those mended, lest they cost their neighbours."""
    try:
        try:
            return read(body)
        except (DecodeError, UnicodeDecodeError):
            return read(mend_texts(body, request))
    except DecodeError:
        raise InvalidArgument(f"the body is not an {request.DESCRIPTOR.name}") from None


class _Origin(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What a resource and a scope say about their records."""

    source: str
    service: str
    host: str
    environment: str
    attributes: dict[str, Any]


_origins: Final[Generations[tuple[Any, ...], _Origin]] = Generations(512)
"""By name and source of the token and by all that resource and scope say."""
_attributes: Final[Generations[tuple[_Origin, tuple[bytes, ...]], dict[str, Any]]] = Generations(2_048)
"""The attributes of records, those of their origin among them, by the bytes of their own. They are shared: nobody changes them in place."""


def read_columns(request: pb.OtlpLogs, agent: Agent) -> tuple[Batch, list[str]]:
    """Returns the records of an export request, and the environment that each one's resource declares."""
    records: list[pb.OtlpLogRecord] = []
    origins: list[_Origin] = []
    for resource_logs in request.resource_logs:
        for scope_logs in resource_logs.scope_logs:
            records += scope_logs.log_records[:]
            origins += [_recall_origin(resource_logs.resource, scope_logs.scope, agent)] * (len(records) - len(origins))
    attributes: list[dict[str, Any]] = []
    for origin, record in zip(origins, records, strict=True):
        own = tuple(record.attributes[:])
        found = _attributes.young.get((origin, own)) or _recall_attributes(origin, own)
        attributes.append({**found, "event.name": event} if (event := record.event_name) else found)
    batch = Batch(
        source=[origin.source for origin in origins],
        body=[_read_text(record.body) for record in records],
        timestamp=[min(record.time_unix_nano or record.observed_time_unix_nano, _LARGEST_TIME) for record in records],
        severity_number=[number if 0 < (number := record.severity_number) <= 24 else _read_severity(record) for record in records],
        severity_text=[record.severity_text for record in records],
        host=[origin.host for origin in origins],
        service=[origin.service for origin in origins],
        attributes=[found or None for found in attributes],
        trace_id=[_hex_id(raw, 16) if (raw := record.trace_id) else "" for record in records],
        span_id=[_hex_id(raw, 8) if (raw := record.span_id) else "" for record in records],
    )
    return batch, [origin.environment for origin in origins]


def _read_severity(record: pb.OtlpLogRecord) -> int:
    """Returns the severity of a record whose number is none: by its text (logs data model, "Mapping of SeverityText")."""
    if record.severity_number > 0:
        return 24
    return severity_of_word(record.severity_text) if record.severity_text else 0


def _recall_origin(resource: pb.OtlpResource, scope: pb.OtlpScope, agent: Agent) -> _Origin:
    of_resource, of_scope = tuple(resource.attributes[:]), tuple(scope.attributes[:])
    key = (agent.name, agent.source, scope.name, scope.version, of_resource, of_scope)
    origin = _origins.get(key)
    if origin is not None:
        return origin
    attributes = _read_attributes(of_resource)
    service = _take_text(attributes, "service.name")
    host = _take_text(attributes, "host.name")
    environment = _take_text(attributes, "deployment.environment.name") or _take_text(attributes, "deployment.environment")
    namespace = attributes.get("service.namespace")
    source = agent.source or service or (namespace if isinstance(namespace, str) else "") or agent.name
    named = {"name": scope.name, "version": scope.version, **_read_attributes(of_scope)}
    # The names that OpenTelemetry itself gives a scope in other systems.
    attributes |= {f"otel.scope.{name}": value for name, value in named.items() if value not in ("", None)}
    origin = _Origin(source, service, host, environment, attributes)
    if sum(map(len, (scope.name, scope.version, *of_resource, *of_scope))) <= MAX_REMEMBERED:
        _origins.put(key, origin)
    return origin


def _recall_attributes(origin: _Origin, own: tuple[bytes, ...]) -> dict[str, Any]:
    """Returns the attributes of a record."""
    found = _attributes.get((origin, own))
    if found is None:
        found = {**origin.attributes, **_read_attributes(own)}
        if sum(map(len, own)) <= MAX_REMEMBERED:
            _attributes.put((origin, own), found)
    return found


def answer(outcome: Outcome) -> ExportLogsServiceResponse:
    """Returns the reply to an export: partial success only when records were rejected, so that nothing is sent again."""
    response = ExportLogsServiceResponse()
    if outcome.rejected:
        response.partial_success.rejected_log_records = outcome.rejected
        response.partial_success.error_message = "some records could not be stored as events and were kept as rejected events, with the reason"
    return response


def _read_attributes(pairs: Iterable[bytes]) -> dict[str, Any]:
    """Returns attributes as a JSON-compatible object."""
    # Nearly every value is a text: read as one first, it needs no look at what it is.
    return {pair.key: pair.value.string_value or _value_of(pair.value, 0) for pair in map(KeyValue.FromString, pairs)}


def _value_of(value: AnyValue, depth: int) -> Any:
    kind = value.WhichOneof("value")
    if kind is None or depth > MAX_DEPTH:
        return None
    if kind == "array_value":
        return [_value_of(item, depth + 1) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _value_of(pair.value, depth + 1) for pair in value.kvlist_value.values}
    if kind == "bytes_value":
        return value.bytes_value.hex()
    return getattr(value, kind)


def _read_text(raw: bytes) -> str:
    """Returns the text of an AnyValue; bytes that are one count as text, and the text of another value is its JSON."""
    if len(raw) > 2 and raw[0] == _STRING_VALUE:
        # Behind the tag stands the length, in one byte or two; a longer text is no matter for speed.
        length, start = (raw[1], 2) if raw[1] < 0x80 else (raw[1] & 0x7F | raw[2] << 7, 3)
        if length < 0x4000 and start + length == len(raw):
            return raw[start:].decode()
    value = AnyValue.FromString(raw)
    if value.HasField("bytes_value") and b"\0" not in value.bytes_value:
        with suppress(UnicodeDecodeError):  # a file that is read without an encoding has lines of bytes
            return value.bytes_value.decode()
    content = _value_of(value, 0)
    if type(content) is str:
        return content
    return "" if content is None else orjson.dumps(content).decode()


def _take_text(resource: dict[str, Any], name: str) -> str:
    value = resource.get(name)
    if not isinstance(value, str) or value.isspace():
        return ""
    del resource[name]
    return value


def _hex_id(raw: bytes, length: int) -> str:
    """Returns an id in hexadecimal; one of the wrong length or all zero is none (W3C Trace Context)."""
    return raw.hex() if raw and len(raw) == length and any(raw) else ""
