"""Trying a format on a text."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pytest

from elis.ingest.v1 import formats_pb2 as pb
from elis.ingest.v1 import formats_pb2_grpc as rpc
from kit.errors import InvalidArgument, PermissionDenied
from kit.server import Application, Servicer, create_grpc_server
from services.ingest.formats_rpc import MAX_CANDIDATES, MAX_RECORDS, MAX_SAMPLE_BYTES, FormatServicer
from services.ingest.masking import Masker
from tests.fixtures.callers import Issuer

JSON = '{"level":"error","ts":"2024-01-02T10:00:00Z","msg":"payment failed","user":"jane@example.com","password":"hunter2","order":17}'
TRACE = "2024-01-02 10:00:00,000 ERROR [main] com.example.Orders: failed\njava.lang.IllegalStateException: x\n\tat com.example.Orders.place(Orders.java:42)\n"


@pytest.fixture
async def address(issuer: Issuer) -> AsyncIterator[str]:
    """Address of a server that tries formats."""
    servicer = Servicer(pb.DESCRIPTOR.services_by_name["FormatService"], rpc.add_FormatServiceServicer_to_server, FormatServicer(Masker(b"m" * 64), 8))
    server = create_grpc_server(Application(servicers=[servicer], verifier=issuer.verifier()))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(1.0)


@pytest.fixture
async def service(address: str, issuer: Issuer) -> AsyncIterator[rpc.FormatServiceAsyncStub]:
    """The service, called by somebody who may read sources."""
    async with issuer.connect(address, "sources:read") as channel:
        yield rpc.FormatServiceStub(channel)


async def test_a_text_is_detected_parsed_and_masked(service: rpc.FormatServiceAsyncStub) -> None:
    response = await service.TestFormat(pb.TestFormatRequest(sample=f"{JSON}\n\nno json\n"))
    assert (response.format, response.detected_by, response.total, response.matched, response.lines) == ("json_lines", "detected", 2, 1, 2)
    assert 0.4 < response.confidence < 0.5
    first, second = response.records
    assert (first.timestamp, first.severity_number, first.severity_text, first.body) == (1_704_189_600 * 10**9, 17, "error", "payment failed")
    attributes = orjson.loads(first.attributes_json)
    assert attributes["order"] == 17
    for text in (first.text, attributes["user"], attributes["password"]):
        assert "jane@" not in text
        assert "hunter2" not in text
    assert second.body == second.text == "no json"
    assert not second.HasField("timestamp")


async def test_a_line_of_another_kind_is_shown_as_it_would_be_stored(service: rpc.FormatServiceAsyncStub) -> None:
    response = await service.TestFormat(pb.TestFormatRequest(sample=f"{JSON}\n2024-01-02 10:00:00 WARN [main] no json\n", format="json_lines"))
    assert (response.total, response.matched) == (2, 1)
    record = response.records[1]
    assert (record.timestamp, record.severity_number, record.body) == (1_704_189_600 * 10**9, 13, "no json")


async def test_attributes_beyond_the_limit_are_shown_in_one_as_they_would_be_stored(service: rpc.FormatServiceAsyncStub) -> None:
    pairs = " ".join(f"k{number}=1" for number in range(10))
    response = await service.TestFormat(pb.TestFormatRequest(sample=f"level=info {pairs}"))
    attributes = orjson.loads(response.records[0].attributes_json)
    assert len(attributes) == 9
    assert orjson.loads(attributes["elis.overflow"]) == {"k8": 1, "k9": 1}


async def test_a_declared_format_and_zone_are_used_and_others_are_named(service: rpc.FormatServiceAsyncStub) -> None:
    sample = "2024-01-02 10:00:00 level=info msg=started order=17"
    detected = await service.TestFormat(pb.TestFormatRequest(sample=sample, time_zone="Europe/Berlin"))
    assert (detected.format, detected.system) == ("key_value", "splunk")
    assert detected.records[0].timestamp == 1_704_186_000 * 10**9
    assert "plain" in [candidate.format for candidate in detected.candidates]
    sure = [candidate.confidence for candidate in detected.candidates]
    assert len(sure) <= MAX_CANDIDATES
    assert sure == sorted(sure, reverse=True)
    declared = await service.TestFormat(pb.TestFormatRequest(sample=sample, format="json_lines"))
    assert (declared.format, declared.detected_by, declared.confidence, declared.matched) == ("json_lines", "declared", 0.0, 0)
    assert declared.candidates[0].format == "key_value"


async def test_lines_that_belong_together_are_one_record(service: rpc.FormatServiceAsyncStub) -> None:
    response = await service.TestFormat(pb.TestFormatRequest(sample=TRACE))
    assert [(record.text, record.body) for record in response.records] == [(TRACE.rstrip(), "failed" + TRACE[TRACE.index("\n") :].rstrip())]
    forwarded = "".join(f"<11>Jan  2 10:00:00 web-1 shop[7]: {line}\n" for line in TRACE.splitlines()[1:])
    response = await service.TestFormat(pb.TestFormatRequest(sample=forwarded))
    assert (response.format, response.lines, response.total) == ("syslog", 2, 1)
    assert response.records[0].body == "java.lang.IllegalStateException: x\n\tat com.example.Orders.place(Orders.java:42)"


async def test_what_is_shown_is_bounded_and_what_is_not_is_counted(service: rpc.FormatServiceAsyncStub) -> None:
    response = await service.TestFormat(pb.TestFormatRequest(sample="a=1 b=2\n" * 5_000))
    assert (len(response.records), response.total, response.lines) == (MAX_RECORDS, 5_000, 5_000)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (pb.TestFormatRequest(), "the sample is empty"),
        (pb.TestFormatRequest(sample=" \n\t"), "the sample is empty"),
        (pb.TestFormatRequest(sample="é" * (MAX_SAMPLE_BYTES // 2 + 1)), "at most 65536 bytes, not 65538"),
        (pb.TestFormatRequest(sample="a", format="yaml"), "there is no format 'yaml'; choose one of"),
        (pb.TestFormatRequest(sample="a", time_zone="Mars/Base"), "Mars/Base"),
    ],
)
async def test_what_cannot_be_tried_is_refused(service: rpc.FormatServiceAsyncStub, request_: pb.TestFormatRequest, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        await service.TestFormat(request_)


async def test_a_caller_without_the_scope_is_refused(address: str, issuer: Issuer) -> None:
    async with issuer.connect(address, "events:write") as channel:
        with pytest.raises(PermissionDenied):
            await rpc.FormatServiceStub(channel).TestFormat(pb.TestFormatRequest(sample="a"))
