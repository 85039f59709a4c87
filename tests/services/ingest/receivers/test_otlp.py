"""OTLP logs over HTTP and gRPC."""

from __future__ import annotations

import gzip
import time

import grpc
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub

from services.ingest.receivers.otlp import batch_of
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
    scope.scope.name = "lib"
    for body in bodies:
        record = scope.log_records.add(time_unix_nano=time.time_ns(), severity_number=17, severity_text="Error", trace_id=bytes(range(16)), span_id=bytes(8))
        record.body.string_value = body
        record.attributes.add(key="order").value.int_value = 42
    return request


def test_a_record_keeps_what_the_resource_and_scope_say() -> None:
    batch, environments = batch_of(export("boom"), Agent("t", "agent", ""))
    assert (batch.source, batch.service, batch.host, environments) == (["orders"], ["orders"], ["h1"], ["test"])
    assert batch.attributes == [{"team": "blue", "otel.scope.name": "lib", "order": 42}]
    assert (batch.trace_id, batch.span_id) == ([bytes(range(16)).hex()], [""])
    assert (batch.severity_number, batch.severity_text) == ([17], ["Error"])


@pytest.mark.parametrize("compress", [False, True])
async def test_http_takes_protobuf(running_ingest: RunningIngest, compress: bool) -> None:
    body = export("a", "b").SerializeToString()
    headers = {"authorization": f"Bearer {running_ingest.token}", "content-type": PROTOBUF, **({"content-encoding": "gzip"} if compress else {})}
    response = await running_ingest.web.post("/v1/logs", content=gzip.compress(body) if compress else body, headers=headers)
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
