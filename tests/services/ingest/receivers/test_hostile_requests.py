"""A corpus of hostile requests to HEC and OTLP over HTTP: each is taken or refused in its protocol's own words, and good neighbours are kept."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import asyncpg
import orjson
from google.rpc.status_pb2 import Status

from tests.services.ingest.conftest import RunningIngest
from tests.services.ingest.receivers.web import stored_events

NUL, LONE, CONTROL = "a\\u0000b", "half \\ud800", "x\\r\\n\\u001b[31m\\u2028"
GOOD = b'{"event":"good"}'
TRUNCATED = gzip.compress(GOOD * 500)[:-9]

HEC: list[tuple[bytes, dict[str, str], int, int]] = [
    # body, headers, status, code: what comes after the good event in the same request
    (f'{{"event":"{NUL}","source":"{NUL}","host":"{NUL}","sourcetype":"{NUL}","fields":{{"{NUL}":"{NUL}"}}}}'.encode(), {}, 200, 0),
    (f'{{"event":"{LONE}","source":"{LONE}","host":"{LONE}"}}'.encode(), {}, 200, 0),
    (f'{{"event":"{CONTROL}","source":"{CONTROL}","host":"{CONTROL}"}}'.encode(), {}, 200, 0),
    (b'{"event":"\xff\xfe","source":"\xc3"}', {}, 200, 0),
    (b'{"event":"far","time":253402300799}{"event":"never","time":"9999999999999999999"}', {}, 200, 0),
    (b'{"event":"beyond","time":99999999999}{"event":"beyond too","time":"18446744074","fields":{"n":123456789012345678901234567890}}', {}, 200, 0),
    (b'{"event":"long","source":"' + b"s" * 100_000 + b'","host":"' + b"h" * 100_000 + b'"}', {}, 200, 0),
    (b'{"event":{"a":' + b'{"a":' * 50 + b"1" + b"}" * 51 + b"}", {}, 200, 0),
    (b'{"event":"t","time":NaN}', {}, 400, 6),
    (b'{"event":"t","time":1e400}', {}, 400, 6),
    (b'{"event":"t","time":-1}', {}, 400, 6),
    (b'{"event":' + b"[" * 40_000, {}, 400, 6),
    (b'{"event":' + b"[" * 40_000 + b"]" * 40_000 + b"}", {}, 400, 6),
    (b"[]", {}, 400, 6),
    (b"\0", {}, 400, 6),
    (b"\x1b[2J", {}, 400, 6),
]


async def test_hec_keeps_the_good_event_before_whatever_follows(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    for number, (rest, headers, status, code) in enumerate(HEC):
        response = await running_ingest.web.post(
            f"/services/collector?host=good-{number}", content=GOOD + rest, headers={"authorization": f"Splunk {running_ingest.token}", **headers}
        )
        assert (response.status_code, response.json()["code"]) == (status, code), rest[:80]
    events = await stored_events(pool)
    assert {event["host"] for event in events if event["body"] == "good"} == {f"good-{number}" for number in range(len(HEC))}


async def test_hec_refuses_a_body_that_cannot_be_read_as_a_whole(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    for path in ("", "/raw"):
        for body, encoding in (
            (TRUNCATED, "gzip"),
            (GOOD, "gzip"),
            (zlib.compress(GOOD)[:-3], "deflate"),
            (GOOD, "zstd"),
            (GOOD, "br"),
            (gzip.compress(bytes(2**26)), "gzip"),
        ):
            response = await running_ingest.web.post(
                f"/services/collector{path}", content=body, headers={"authorization": f"Splunk {running_ingest.token}", "content-encoding": encoding}
            )
            assert response.status_code in (400, 413, 415)
            assert response.json()["code"] == 6
    assert await stored_events(pool) == []


def otlp(*records: str, resource: str = "") -> bytes:
    return f'{{"resourceLogs":[{{"resource":{{"attributes":[{resource}]}},"scopeLogs":[{{"logRecords":[{",".join(records)}]}}]}}]}}'.encode()


async def test_otlp_takes_a_request_as_a_whole_or_not_at_all(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    good = '{"body":{"stringValue":"good"}}'
    service = f'{{"key":"service.name","value":{{"stringValue":"{NUL}"}}}}'
    twice = '{"key":"k","value":{"intValue":1}},{"key":"k","value":{"intValue":"2"}}'
    nan = '{"key":"n","value":{"doubleValue":"NaN"}},{"key":"i","value":{"doubleValue":"-Infinity"}}'
    taken = (
        otlp(good, f'{{"body":{{"stringValue":"{NUL}{CONTROL}"}},"severityText":"{NUL}","eventName":"{NUL}"}}', resource=service),
        otlp(good, '{"timeUnixNano":"18446744073709551615","severityNumber":99}', '{"severityNumber":-5}'),
        otlp(good, f'{{"body":{{"stringValue":"{LONE}"}}}}'),
        otlp(good, f'{{"attributes":[{twice},{nan}],"traceId":"zz","spanId":"{"0" * 16}"}}'),
    )
    refused = (
        otlp(good, '{"timeUnixNano":"-1"}'),
        otlp(good, '{"timeUnixNano":1e400}'),
        otlp(good, '{"body":' + '{"arrayValue":{"values":[' * 40_000),
        otlp(good)[:-1],
        otlp(good) + b"\xff",
        b"",
        b"\0",
    )
    headers = {"authorization": f"Bearer {running_ingest.token}", "content-type": "application/json"}
    for body in taken:
        response = await running_ingest.web.post("/v1/logs", content=body, headers=headers)
        assert (response.status_code, response.json()) == (200, {}), body[:200]
    for body in refused:
        response = await running_ingest.web.post("/v1/logs", content=body, headers=headers)
        assert (response.status_code, response.json()["code"]) == (400, 3), body[:200]
    for body, encoding in ((TRUNCATED, "gzip"), (b"x", "gzip"), (gzip.compress(bytes(2**26)), "gzip"), (b"{}", "br")):
        response = await running_ingest.web.post(
            "/v1/logs", content=body, headers={**headers, "content-type": "application/x-protobuf", "content-encoding": encoding}
        )
        assert response.status_code in (400, 413, 415)
        assert Status.FromString(response.content).message
    events = await stored_events(pool)
    assert sum(event["body"] == "good" for event in events) == len(taken)
    assert all(orjson.loads(json.dumps(event)) == event for event in events)
