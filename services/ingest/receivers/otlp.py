"""OpenTelemetry logs: from export requests to batches. Source: opentelemetry-proto, logs data model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue

from kit.errors import InvalidArgument
from services.ingest.batch import Batch
from services.ingest.groups import Outcome
from services.ingest.tokens import Agent

DEFAULT_SYSTEM = "application"
MAX_DEPTH = 32
_LARGEST_TIME = 2**63 - 1


def read_logs(body: bytes) -> ExportLogsServiceRequest:
    """Returns a request for logs from protobuf; raises InvalidArgument when it is none."""
    try:
        return ExportLogsServiceRequest.FromString(body)
    except DecodeError:
        raise InvalidArgument("the body is not an ExportLogsServiceRequest") from None


def read_spans(body: bytes) -> ExportTraceServiceRequest:
    """Returns a request for spans from protobuf; raises InvalidArgument when it is none."""
    try:
        return ExportTraceServiceRequest.FromString(body)
    except DecodeError:
        raise InvalidArgument("the body is not an ExportTraceServiceRequest") from None


def batch_of(request: ExportLogsServiceRequest, agent: Agent) -> tuple[Batch, list[str]]:
    """Returns the records of an export request, and the environment that each one's resource declares."""
    batch = Batch()
    environments: list[str] = []
    for resource_logs in request.resource_logs:
        resource = attributes_of(resource_logs.resource.attributes)
        service = _take_text(resource, "service.name")
        host = _take_text(resource, "host.name")
        environment = _take_text(resource, "deployment.environment.name") or _take_text(resource, "deployment.environment")
        namespace = resource.get("service.namespace")
        source = agent.source or service or (namespace if isinstance(namespace, str) else "") or agent.name
        for scope_logs in resource_logs.scope_logs:
            shared = {**resource, **_scope_of(scope_logs.scope)}
            for record in scope_logs.log_records:
                attributes = {**shared, **attributes_of(record.attributes)}
                if record.event_name:
                    attributes["event.name"] = record.event_name
                batch.append(
                    _text_of(record.body),
                    source=source,
                    timestamp=min(record.time_unix_nano or record.observed_time_unix_nano, _LARGEST_TIME),
                    severity_number=min(max(record.severity_number, 0), 24),
                    severity_text=record.severity_text,
                    host=host,
                    service=service,
                    attributes=attributes or None,
                    trace_id=_hex_id(record.trace_id, 16),
                    span_id=_hex_id(record.span_id, 8),
                )
                environments.append(environment)
    return batch, environments


def answer(outcome: Outcome) -> ExportLogsServiceResponse:
    """Returns the reply to an export: partial success only when records were rejected, so that nothing is sent again."""
    response = ExportLogsServiceResponse()
    if outcome.rejected:
        response.partial_success.rejected_log_records = outcome.rejected
        response.partial_success.error_message = "records larger than the limit were kept as rejected events"
    return response


def attributes_of(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """Returns attributes as a JSON-compatible object."""
    # Nearly every value is a text: read as one first, it needs no look at what it is.
    return {pair.key: pair.value.string_value or _value_of(pair.value, 0) for pair in pairs}


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


def _text_of(body: AnyValue) -> str:
    text = body.string_value
    if text or body.WhichOneof("value") == "string_value":
        return text
    content = _value_of(body, 0)
    return "" if content is None else orjson.dumps(content).decode()


def _scope_of(scope: InstrumentationScope) -> dict[str, Any]:
    """Returns what a scope says, under `otel.scope.`: the names that OpenTelemetry itself gives it in other systems."""
    named = {"name": scope.name, "version": scope.version, **attributes_of(scope.attributes)}
    return {f"otel.scope.{key}": value for key, value in named.items() if value not in ("", None)}


def _take_text(resource: dict[str, Any], name: str) -> str:
    value = resource.get(name)
    if not isinstance(value, str):
        return ""
    del resource[name]
    return value


def _hex_id(raw: bytes, length: int) -> str:
    """Returns an id in hexadecimal; one of the wrong length or all zero is none (W3C Trace Context)."""
    return raw.hex() if raw and len(raw) == length and any(raw) else ""
