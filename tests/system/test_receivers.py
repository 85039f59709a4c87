"""OpenTelemetry exporters, by HTTP and by gRPC, and the live tail of what they send."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.system.api import Api, iso, name_source

pytestmark = pytest.mark.system

TRACE = "0af7651916cd43dd8448eb211c80319c"
FOUND = """query($source: String!, $trace: String!) { events(filter: {sources: [$source], traceId: $trace}) { edges { node {
  timestamp body system host service environment severity severityText attributes traceId spanId } } } }"""
TAIL = """subscription($source: String!) { tail(filter: {sources: [$source]}) { __typename
  ... on TailEvents { cursor events { id body source severity } } ... on Heartbeat { at } } }"""


def make_export(source: str, at: int, body: str = "inventory did not answer") -> ExportLogsServiceRequest:
    """Returns an export of one record, as an OpenTelemetry SDK makes it."""
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    for key, text in {"service.name": source, "host.name": "node-4", "deployment.environment.name": "staging"}.items():
        resource.resource.attributes.append(KeyValue(key=key, value=AnyValue(string_value=text)))
    record = resource.scope_logs.add().log_records.add()
    record.time_unix_nano = at
    record.severity_number = SeverityNumber.SEVERITY_NUMBER_ERROR2
    record.severity_text = "ERROR2"
    record.body.string_value = body
    record.attributes.append(KeyValue(key="retries", value=AnyValue(int_value=3)))
    record.trace_id, record.span_id = bytes.fromhex(TRACE), bytes.fromhex("b7ad6b7169203331")
    return request


def assert_found(api: Api, source: str, at: int) -> None:
    """Search has the record with everything that its exporter said."""
    api.await_count(source, 1)
    (edge,) = api.query(FOUND, {"source": source, "trace": TRACE})["events"]["edges"]
    event = edge["node"]
    assert event.pop("attributes")["retries"] == 3
    assert event == {
        "timestamp": iso(at),
        "body": "inventory did not answer",
        "system": "application",
        "host": "node-4",
        "service": source,
        "environment": "staging",
        "severity": "ERROR",
        "severityText": "ERROR2",
        "traceId": TRACE,
        "spanId": "b7ad6b7169203331",
    }


def test_otlp_over_http(api: Api) -> None:
    source, at = name_source("otlp-http"), time.time_ns()
    headers = {"Authorization": f"Bearer {api.credentials['ingest_token']}", "Content-Type": "application/x-protobuf"}
    for _ in range(2):  # what is exported again adds nothing
        response = api.http.post(f"{api.credentials['otlp_http_url']}/v1/logs", content=make_export(source, at).SerializeToString(), headers=headers)
        assert response.status_code == 200, response.text
    assert_found(api, source, at)


def test_otlp_over_grpc(api: Api) -> None:
    source, at = name_source("otlp-grpc"), time.time_ns()
    with grpc.insecure_channel(api.credentials["otlp_grpc_address"]) as channel:
        exporter = LogsServiceStub(channel)
        metadata = [("authorization", f"Bearer {api.credentials['ingest_token']}")]
        for _ in range(2):
            assert exporter.Export(make_export(source, at), metadata=metadata, timeout=10) == ExportLogsServiceResponse()
        for credential, code in ([("authorization", "Bearer nonsense")], grpc.StatusCode.PERMISSION_DENIED), ([], grpc.StatusCode.UNAUTHENTICATED):
            with pytest.raises(grpc.RpcError) as refused:
                exporter.Export(make_export(source, at), metadata=credential, timeout=10)
            assert refused.value.code() is code
    assert_found(api, source, at)


@asynccontextmanager
async def open_tail(api: Api, source: str) -> AsyncIterator[Any]:
    """Yields a WebSocket whose tail has begun: a first heartbeat or a moment has passed."""
    url = api.credentials["graphql_url"].replace("http", "ws", 1)
    async with connect(url, subprotocols=[Subprotocol("graphql-transport-ws")], proxy=None) as socket:
        await socket.send(json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {api.credentials['admin_api_key']}"}}))
        assert json.loads(await socket.recv()) == {"type": "connection_ack"}
        await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": {"query": TAIL, "variables": {"source": source}}}))
        yield socket


async def receive_events(socket: Any, count: int) -> list[dict[str, Any]]:
    """Returns the first events that a tail sends."""
    events: list[dict[str, Any]] = []
    async with asyncio.timeout(20):
        while len(events) < count:
            message = json.loads(await socket.recv())
            if message["type"] == "next":
                assert "errors" not in message["payload"]
                events += message["payload"]["data"]["tail"].get("events", [])
    return events


async def test_a_tail_delivers_what_is_sent_after_it_began(api: Api) -> None:
    source, other = name_source("tail"), name_source("tail-other")
    async with open_tail(api, source) as socket:
        for number in range(5):
            now = time.time()
            events = [{"time": now, "source": name, "event": f"WARN: number {number} of {name}"} for name in (source, other)]
            assert (await asyncio.to_thread(api.send, events)).status_code == 200
            await asyncio.sleep(0.2)
        received = await receive_events(socket, 4)
        # The subscription and the first event race; from then on nothing is left out, and nothing comes twice.
        first = int(received[0]["body"].split()[1])
        assert first <= 1
        received += await receive_events(socket, 5 - first - len(received)) if len(received) < 5 - first else []
        assert [event["body"] for event in received] == [f"number {number} of {source}" for number in range(first, 5)]
        assert {(event["source"], event["severity"]) for event in received} == {(source, "WARN")}
        await asyncio.to_thread(api.await_count, source, 5)
        assert {event["id"] for event in received} <= {event["id"] for event in api.events(source)}


async def test_a_tail_without_a_caller_is_refused(api: Api) -> None:
    url = api.credentials["graphql_url"].replace("http", "ws", 1)
    async with connect(url, subprotocols=[Subprotocol("graphql-transport-ws")], proxy=None) as socket:
        await socket.send(json.dumps({"type": "connection_init"}))
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401
