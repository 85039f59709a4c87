"""OTLP logs over HTTP and gRPC."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Callable
from typing import Any

import grpc
import pytest
import zstandard
from google.protobuf import json_format
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from kit.errors import ElisError, RateLimited, Unavailable
from services.ingest.intake import Intake
from services.ingest.receivers.otlp import decode_logs
from services.ingest.tokens import Agent
from tests.services.ingest.conftest import RunningIngest

PROTOBUF = "application/x-protobuf"


def export(*bodies: str) -> ExportLogsServiceRequest:
    """Returns an export request of one resource."""
    request = ExportLogsServiceRequest()
    logs = request.resource_logs.add()
    for key, value in (("service.name", "orders"), ("host.name", "h1"), ("deployment.environment.name", "test"), ("team", "blue")):
        logs.resource.attributes.add(key=key).value.string_value = value
    scope = logs.scope_logs.add()
    scope.scope.name, scope.scope.version = "lib", "1.2"
    scope.scope.attributes.add(key="short").value.string_value = "true"
    for body in bodies:
        record = scope.log_records.add(time_unix_nano=time.time_ns(), severity_number=17, severity_text="Error", trace_id=bytes(range(16)), span_id=bytes(8))
        record.body.string_value = body
        record.attributes.add(key="order").value.int_value = 42
    return request


def test_a_record_keeps_what_the_resource_and_scope_say() -> None:
    batch, environments = decode_logs(export("boom").SerializeToString(), Agent("t", "agent", ""))
    assert (batch.source, batch.service, batch.host, environments) == (["orders"], ["orders"], ["h1"], ["test"])
    assert batch.attributes == [{"team": "blue", "otel.scope.name": "lib", "otel.scope.version": "1.2", "otel.scope.short": "true", "order": 42}]
    assert (batch.trace_id, batch.span_id) == ([bytes(range(16)).hex()], [""])
    assert (batch.severity_number, batch.severity_text) == ([17], ["Error"])


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("identity", bytes), ("gzip", gzip.compress), ("deflate", zlib.compress), ("zlib", zlib.compress), ("zstd", zstandard.compress)],
)
async def test_http_takes_protobuf(running_ingest: RunningIngest, encoding: str, compress: Callable[[bytes], bytes]) -> None:
    body = export("a", "b").SerializeToString()
    headers = {"authorization": f"Bearer {running_ingest.token}", "content-type": PROTOBUF, "content-encoding": encoding}
    response = await running_ingest.web.post("/v1/logs", content=compress(body), headers=headers)
    assert (response.status_code, response.headers["content-type"]) == (200, PROTOBUF)
    assert not ExportLogsServiceResponse.FromString(response.content).HasField("partial_success")


async def test_an_empty_request_is_a_success(running_ingest: RunningIngest) -> None:
    headers = {"authorization": f"Bearer {running_ingest.token}", "content-type": PROTOBUF}
    assert (await running_ingest.web.post("/v1/logs", content=b"", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"authorization": ""}, b"", 401),
        ({"authorization": "Bearer wrong"}, b"", 403),
        ({"content-type": "text/plain"}, b"", 415),
        ({"content-encoding": "br"}, b"", 415),
        ({}, b"\xff\xff\xff", 400),
    ],
)
async def test_http_refusals_carry_a_status_message(running_ingest: RunningIngest, headers: dict[str, str], body: bytes, status: int) -> None:
    given = {"authorization": f"Bearer {running_ingest.token}", "content-type": PROTOBUF, **headers}
    response = await running_ingest.web.post("/v1/logs", content=body, headers=given)
    assert response.status_code == status
    assert Status.FromString(response.content).message


async def test_grpc_takes_what_http_takes_and_recognises_it(running_ingest: RunningIngest) -> None:
    request = export("a")
    headers = {"authorization": f"Bearer {running_ingest.token}", "content-type": PROTOBUF}
    await running_ingest.web.post("/v1/logs", content=request.SerializeToString(), headers=headers)
    async with grpc.aio.insecure_channel(running_ingest.otlp_grpc_address) as channel:
        metadata = (("authorization", f"Bearer {running_ingest.token}"),)
        response = await LogsServiceStub(channel).Export(request, metadata=metadata, timeout=5.0)
        assert not response.HasField("partial_success")


async def test_grpc_refuses_a_wrong_token(running_ingest: RunningIngest) -> None:
    async with grpc.aio.insecure_channel(running_ingest.otlp_grpc_address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await LogsServiceStub(channel).Export(export("a"), metadata=(("authorization", "Bearer wrong"),), timeout=5.0)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def json_of(request: ExportLogsServiceRequest) -> dict[str, Any]:
    """Returns a request as an exporter writes it in JSON."""
    written: dict[str, Any] = json_format.MessageToDict(request, use_integers_for_enums=True)
    for record in written["resourceLogs"][0]["scopeLogs"][0]["logRecords"]:
        record |= {"traceId": bytes(range(16)).hex().upper(), "spanId": "0" * 16}
    return written


async def test_http_takes_json_and_answers_in_json(running_ingest: RunningIngest) -> None:
    request = export("a")
    headers = {"authorization": f"Bearer {running_ingest.token}"}
    kind = {"content-type": "application/json; charset=utf-8"}
    for body, encoding in ((json.dumps(json_of(request)).encode(), {}), (gzip.compress(b"{}"), {"content-encoding": "gzip"})):
        response = await running_ingest.web.post("/v1/logs", content=body, headers={**headers, **kind, **encoding})
        assert (response.status_code, response.headers["content-type"], response.json()) == (200, "application/json", {})
    response = await running_ingest.web.post("/v1/traces", content=b'{"resourceSpans":[{"scopeSpans":[{"spans":[{}]}]}]}', headers={**headers, **kind})
    assert (response.status_code, response.json()) == (200, {})
    for path in ("/v1/logs", "/v1/traces"):
        for body in (b"", b"[]", b'{"resourceLogs":1,"resourceSpans":1}', b"{" * 40_000):
            response = await running_ingest.web.post(path, content=body, headers={**headers, **kind})
            assert (response.status_code, response.headers["content-type"], response.json()["code"]) == (400, "application/json", 3)


async def test_a_record_that_is_rejected_makes_a_partial_success(running_ingest: RunningIngest) -> None:
    request = export("good", "x" * (1024 * 1024 + 1), "good too")
    headers = {"authorization": f"Bearer {running_ingest.token}"}
    response = await running_ingest.web.post("/v1/logs", content=json.dumps(json_of(request)), headers={**headers, "content-type": "application/json"})
    assert response.status_code == 200
    assert response.json()["partialSuccess"]["rejectedLogRecords"] == "1"
    assert response.json()["partialSuccess"]["errorMessage"]


async def test_traces_are_taken_and_metrics_are_not(running_ingest: RunningIngest) -> None:
    headers = {"authorization": f"Bearer {running_ingest.token}", "content-type": PROTOBUF}
    traces = await running_ingest.web.post("/v1/traces", content=ExportTraceServiceRequest().SerializeToString(), headers=headers)
    assert (traces.status_code, traces.headers["content-type"], ExportTraceServiceResponse.FromString(traces.content)) == (
        200,
        PROTOBUF,
        ExportTraceServiceResponse(),
    )
    assert (await running_ingest.web.post("/v1/traces", content=b"\xff", headers=headers)).status_code == 400
    assert (await running_ingest.web.post("/v1/traces", content=b"", headers={**headers, "authorization": "Bearer wrong"})).status_code == 403
    metrics = await running_ingest.web.post("/v1/metrics", content=b"", headers=headers)
    assert (metrics.status_code, Status.FromString(metrics.content).code) == (404, grpc.StatusCode.NOT_FOUND.value[0])


class Caller:
    """Calls methods of the OTLP port with bytes."""

    def __init__(self, ingest: RunningIngest, channel: grpc.aio.Channel) -> None:
        self._metadata = (("authorization", f"Bearer {ingest.token}"),)
        self._channel = channel

    async def call(self, service: str, body: bytes) -> bytes:
        method: Any = self._channel.unary_unary(f"/opentelemetry.proto.collector.{service}/Export")
        reply: bytes = await method(body, metadata=self._metadata, timeout=10.0)
        return reply

    async def refusal(self, service: str, body: bytes) -> tuple[grpc.StatusCode, Status | None]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(service, body)
        trailing = dict(caught.value.trailing_metadata() or ())
        encoded = trailing.get("grpc-status-details-bin")
        return caught.value.code(), Status.FromString(encoded) if isinstance(encoded, bytes) else None


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_grpc_refusals(running_ingest: RunningIngest, monkeypatch: pytest.MonkeyPatch, compression: grpc.Compression) -> None:
    options = [("grpc.max_send_message_length", 128 * 1024 * 1024)]
    async with grpc.aio.insecure_channel(running_ingest.otlp_grpc_address, options=options, compression=compression) as channel:
        caller = Caller(running_ingest, channel)
        for service in ("logs.v1.LogsService", "trace.v1.TraceService"):
            assert await caller.call(service, b"") == b""
            code, status = await caller.refusal(service, b"\xff\xff\xff")
            assert (code, status is not None and status.details[0].Is(BadRequest.DESCRIPTOR)) == (grpc.StatusCode.INVALID_ARGUMENT, True)
            # Final, since it comes without RetryInfo; zeros are a bomb when they are compressed.
            assert await caller.refusal(service, bytes(40 * 1024 * 1024)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, None)
        assert (await caller.refusal("metrics.v1.MetricsService", b""))[0] is grpc.StatusCode.UNIMPLEMENTED

        for error in (RateLimited("too many events of this token", retry_after=4.0), Unavailable("busy", retry_after=4.0)):
            monkeypatch.setattr(Intake, "take", _raise(error))
            code, status = await caller.refusal("logs.v1.LogsService", export("a").SerializeToString())
            retry = RetryInfo()
            assert (code, status is not None and status.details[0].Unpack(retry), retry.retry_delay.seconds) == (error.status, True, 4)


def _raise(error: ElisError) -> Any:
    async def take(*_: object, **__: object) -> None:
        raise error

    return take


@given(st.binary(max_size=300))
def test_any_message_is_taken_or_no_message(body: bytes) -> None:
    try:
        request = ExportLogsServiceRequest.FromString(body)
    except Exception:
        return
    batch, environments = decode_logs(request.SerializeToString(), Agent("t", "agent", ""))
    assert len(batch) == len(environments)
