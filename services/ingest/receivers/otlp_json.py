"""OTLP in JSON: export requests as text to the same messages that protobuf gives.

Source: OTLP specification, "JSON Protobuf Encoding" (reference wire-formats §2): keys in lowerCamelCase, ids of traces and
spans in hexadecimal, enums as integers (or names), 64-bit integers as numbers or text, bytes in base64, unknown keys ignored.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from elis.ingest.v1 import otlp_pb2 as pb
from kit.errors import InvalidArgument
from services.ingest.receivers.bodies import MAX_CONTAINERS, check_marks
from services.ingest.receivers.broken_json import mend_texts
from services.ingest.receivers.otlp import MAX_DEPTH

_MARKS: Final = b"{[n"
"""What opens an object or an array, or begins a null: each of them becomes a message."""
_Number = int | float | str | None
_Name = int | str | None
"""A value of an enum. Its name is not what the encoding says; the OpenTelemetry Collector takes it, so somebody sends it."""


_Request = TypeVar("_Request")


class _Camel(msgspec.Struct, rename="camel", gc=False):
    """Keys as the encoding spells them; null is the same as absent."""


class _Value(_Camel):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: _Number = None
    double_value: _Number = None
    array_value: _Array | None = None
    kvlist_value: _Pairs | None = None
    bytes_value: str | None = None


class _Array(_Camel):
    values: list[_Value | None] | None = None


class _Pair(_Camel):
    key: str | None = None
    value: _Value | None = None


class _Pairs(_Camel):
    values: list[_Pair] | None = None


class _Resource(_Camel):
    attributes: list[_Pair] | None = None


class _Scope(_Camel):
    name: str | None = None
    version: str | None = None
    attributes: list[_Pair] | None = None


class _Record(_Camel):
    time_unix_nano: _Number = None
    observed_time_unix_nano: _Number = None
    severity_number: _Name = None
    severity_text: str | None = None
    body: _Value | None = None
    attributes: list[_Pair] | None = None
    trace_id: str | None = None
    span_id: str | None = None
    event_name: str | None = None


class _ScopeLogs(_Camel):
    scope: _Scope | None = None
    log_records: list[_Record] | None = None


class _ResourceLogs(_Camel):
    resource: _Resource | None = None
    scope_logs: list[_ScopeLogs] | None = None


class _Logs(_Camel):
    resource_logs: list[_ResourceLogs] | None = None


class _Status(_Camel):
    code: _Name = None


class _Span(_Camel):
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    flags: _Number = None
    kind: _Name = None
    start_time_unix_nano: _Number = None
    end_time_unix_nano: _Number = None
    attributes: list[_Pair] | None = None
    status: _Status | None = None


class _ScopeSpans(_Camel):
    spans: list[_Span] | None = None


class _ResourceSpans(_Camel):
    resource: _Resource | None = None
    scope_spans: list[_ScopeSpans] | None = None


class _Spans(_Camel):
    resource_spans: list[_ResourceSpans] | None = None


_decode_logs: Final[Callable[[bytes], _Logs]] = msgspec.json.Decoder(_Logs).decode
_decode_spans: Final[Callable[[bytes], _Spans]] = msgspec.json.Decoder(_Spans).decode


def parse_logs(body: bytes) -> pb.OtlpLogs:
    """Returns a request for logs; raises InvalidArgument saying where it is wrong, BodyTooLarge when there is too much in it."""
    request = pb.OtlpLogs()
    try:
        for given in _decode(body, _decode_logs).resource_logs or ():
            resource = pb.OtlpResource(attributes=_encode_pairs(given.resource.attributes)) if given.resource else None
            resource_logs = request.resource_logs.add(resource=resource)
            for scope_logs in given.scope_logs or ():
                resource_logs.scope_logs.add(scope=_scope(scope_logs.scope), log_records=map(_record, scope_logs.log_records or ()))
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidArgument(f"the body is not an ExportLogsServiceRequest in JSON: {_reason(error)}") from None
    return request


def parse_spans(body: bytes) -> ExportTraceServiceRequest:
    """Returns a request for spans, with what dependencies are learned from; raises as parse_logs does."""
    request = ExportTraceServiceRequest()
    try:
        for given in _decode(body, _decode_spans).resource_spans or ():
            resource_spans = request.resource_spans.add(resource=Resource(attributes=_pairs(given.resource.attributes, 0)) if given.resource else None)
            for scope_spans in given.scope_spans or ():
                resource_spans.scope_spans.add(spans=map(_span, scope_spans.spans or ()))
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidArgument(f"the body is not an ExportTraceServiceRequest in JSON: {_reason(error)}") from None
    return request


@lru_cache(maxsize=1)
def _spellings() -> tuple[tuple[bytes, bytes], ...]:
    """Returns the keys in protobuf's spelling, each with what it is here."""
    fields = [field for kind in _Camel.__subclasses__() for field in msgspec.structs.fields(kind)]
    return tuple({(b'"%s":' % field.name.encode(), b'"%s":' % field.encode_name.encode()) for field in fields if field.name != field.encode_name})


def _decode(body: bytes, decode: Callable[[bytes], _Request]) -> _Request:
    """Decodes a body, one with bytes or escapes that are no text with those replaced: exporters of JavaScript cut texts within a character.

    Keys in protobuf's spelling (`resource_logs`) are not what the encoding says, and would be ignored like other unknown ones: all would be
    lost with a success. The OpenTelemetry Collector takes them. Raises BodyTooLarge when there is too much in the body.
    """
    check_marks(body, _MARKS, MAX_CONTAINERS, "objects, arrays and nulls")
    if b'"resource_logs"' in body or b'"resource_spans"' in body:
        for snake, camel in _spellings():
            body = body.replace(snake, camel)
    try:
        return decode(body)
    except msgspec.ValidationError:
        raise
    except (UnicodeDecodeError, msgspec.DecodeError):
        return decode(mend_texts(body))


def _reason(error: Exception) -> str:
    """Returns what is wrong; msgspec tells the place and never the value, which may hold a secret."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return (
        str(error)[:200]
        if isinstance(error, msgspec.MsgspecError)
        else "a number is out of range or not readable, a value of an enum is unknown, or bytes are not base64"
    )


def _scope(given: _Scope | None) -> pb.OtlpScope | None:
    return pb.OtlpScope(name=given.name or "", version=given.version or "", attributes=_encode_pairs(given.attributes)) if given else None


def _record(given: _Record) -> pb.OtlpLogRecord:
    return pb.OtlpLogRecord(
        time_unix_nano=_whole(given.time_unix_nano),
        observed_time_unix_nano=_whole(given.observed_time_unix_nano),
        severity_number=_enum(given.severity_number, SeverityNumber.Value),
        severity_text=given.severity_text or "",
        body=b"" if given.body is None else _value(given.body, 0).SerializeToString(),
        attributes=_encode_pairs(given.attributes),
        trace_id=_hexadecimal(given.trace_id),
        span_id=_hexadecimal(given.span_id),
        event_name=given.event_name or "",
    )


def _span(given: _Span) -> Span:
    return Span(
        trace_id=_hexadecimal(given.trace_id),
        span_id=_hexadecimal(given.span_id),
        parent_span_id=_hexadecimal(given.parent_span_id),
        flags=_whole(given.flags),
        kind=_enum(given.kind, Span.SpanKind.Value),
        start_time_unix_nano=_whole(given.start_time_unix_nano),
        end_time_unix_nano=_whole(given.end_time_unix_nano),
        attributes=_pairs(given.attributes, 0),
        status=Status(code=_enum(given.status.code if given.status else None, Status.StatusCode.Value)),
    )


def _pairs(given: list[_Pair] | None, depth: int) -> Iterator[KeyValue]:
    """Makes pairs one at a time: each takes much more than what it is read from."""
    return (KeyValue(key=pair.key or "", value=None if pair.value is None else _value(pair.value, depth)) for pair in given or ())


def _encode_pairs(given: list[_Pair] | None) -> Iterator[bytes]:
    return (pair.SerializeToString() for pair in _pairs(given, 0))


def _value(given: _Value | None, depth: int) -> AnyValue:
    if given is None or depth > MAX_DEPTH:
        return AnyValue()
    if given.string_value is not None:
        return AnyValue(string_value=given.string_value)
    if given.int_value is not None:
        return AnyValue(int_value=_whole(given.int_value))
    if given.bool_value is not None:
        return AnyValue(bool_value=given.bool_value)
    if given.double_value is not None:
        return AnyValue(double_value=float(given.double_value))
    value = AnyValue()
    if given.array_value is not None:
        value.array_value.values.extend(_value(item, depth + 1) for item in given.array_value.values or ())
    elif given.kvlist_value is not None:
        value.kvlist_value.values.extend(_pairs(given.kvlist_value.values, depth + 1))
    elif given.bytes_value is not None:
        value.bytes_value = _base64(given.bytes_value)
    return value


def _whole(given: _Number) -> int:
    return int(given) if given else 0


def _enum(given: _Name, number_of: Callable[[str], int]) -> Any:
    """Returns the number of a value; raises ValueError when there is none of that name."""
    return number_of(given) if given and isinstance(given, str) else given or 0


def _base64(given: str) -> bytes:
    """Returns bytes from base64 in either alphabet, padded or not, as protobuf's JSON takes them."""
    return b64decode(given.replace("-", "+").replace("_", "/") + "=" * (-len(given) % 4), validate=True)


def _hexadecimal(given: str | None) -> bytes:
    """Returns the bytes of an id; what is none of its length is no id, as with protobuf."""
    try:
        return binascii.unhexlify(given) if given else b""
    except ValueError:
        return b""
