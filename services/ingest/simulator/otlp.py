"""OTLP: simulated log records as an export request, and the reply to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from services.ingest.simulator.events import OtlpPayload, SimulatedEvent

NAMESPACE = "orders"
ENVIRONMENT = "production"


def resource_of(event: SimulatedEvent) -> dict[str, str]:
    """Returns the attributes of the process that an event comes from."""
    return {
        "service.name": event.service,
        "service.namespace": NAMESPACE,
        "host.name": event.host,
        "deployment.environment.name": ENVIRONMENT,
    }


def encode_request(events: Sequence[SimulatedEvent]) -> bytes:
    """Returns an ExportLogsServiceRequest with the OTLP events among these, grouped by process."""
    request = ExportLogsServiceRequest()
    scopes: dict[tuple[str, str], Any] = {}
    for event in events:
        payload = event.payload
        if not isinstance(payload, OtlpPayload):
            continue
        scope = scopes.get((event.service, event.host))
        if scope is None:
            resource = request.resource_logs.add()
            resource.resource.attributes.extend(_attribute(key, value) for key, value in resource_of(event).items())
            scope = scopes[event.service, event.host] = resource.scope_logs.add()
            scope.scope.name = f"com.example.{event.service.partition('-')[0]}"
        record = scope.log_records.add()
        record.time_unix_nano = record.observed_time_unix_nano = event.time_ns
        record.severity_number = payload.severity_number
        record.severity_text = payload.severity_text
        record.body.string_value = payload.body
        record.attributes.extend(_attribute(key, value) for key, value in payload.attributes.items())
        record.trace_id = bytes.fromhex(payload.trace_id)
        record.span_id = bytes.fromhex(payload.span_id)
    return bytes(request.SerializeToString())


def count_rejected(reply: bytes) -> int:
    """Returns the number of records that a successful reply says were rejected."""
    try:
        return int(ExportLogsServiceResponse.FromString(reply).partial_success.rejected_log_records)
    except DecodeError:
        return 0


def _attribute(key: str, value: str | int) -> Any:
    return KeyValue(key=key, value=AnyValue(string_value=value) if isinstance(value, str) else AnyValue(int_value=value))
