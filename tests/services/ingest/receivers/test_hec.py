"""The HTTP Event Collector's replies, as its clients expect them."""

from __future__ import annotations

import gzip
import time
from base64 import b64encode
from typing import Any

import pytest

from services.ingest.receivers.bodies import MAX_RECORDS
from tests.services.ingest.conftest import RunningIngest

EVENT = "/services/collector/event"


async def post(ingest: RunningIngest, body: str | bytes, path: str = EVENT, **headers: str) -> tuple[int, Any]:
    """Posts with the valid token; returns status and JSON."""
    headers = {"authorization": f"Splunk {ingest.token}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    response = await ingest.web.post(path, content=body, headers=headers)
    return response.status_code, response.json()


@pytest.mark.parametrize("path", ["/services/collector", EVENT, f"{EVENT}/1.0"])
async def test_events_are_taken(running_ingest: RunningIngest, path: str) -> None:
    assert await post(running_ingest, '{"event":"a"}', path) == (200, {"text": "Success", "code": 0})


async def test_a_success_says_in_headers_what_became_of_the_events(running_ingest: RunningIngest) -> None:
    body = f'{{"event":"a","time":{time.time():.3f}}}'
    for expected in ("1", "0"), ("0", "1"):
        response = await running_ingest.web.post(EVENT, content=body, headers={"authorization": f"Splunk {running_ingest.token}"})
        assert (response.headers["elis-accepted"], response.headers["elis-duplicates"]) == expected


async def test_the_same_events_compressed_are_the_same_request(running_ingest: RunningIngest) -> None:
    body = f'{{"event":"a","time":{time.time():.3f}}}'.encode()
    await post(running_ingest, body)
    headers = {"authorization": f"Splunk {running_ingest.token}", "content-encoding": "gzip"}
    response = await running_ingest.web.post(EVENT, content=gzip.compress(b"\n" + body), headers=headers)
    assert (response.status_code, response.headers["elis-duplicates"]) == (200, "1")


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (None, (401, 2, "Token is required")),
        ("Splunk", (401, 3, "Invalid authorization")),
        ("Digest abc", (401, 3, "Invalid authorization")),
        ("Basic !!!", (401, 3, "Invalid authorization")),
        ("Splunk 00000000-0000-0000-0000-000000000000", (403, 4, "Invalid token")),
    ],
)
async def test_callers_without_a_valid_token_are_refused(running_ingest: RunningIngest, authorization: str | None, expected: Any) -> None:
    headers = {"authorization": authorization} if authorization else {}
    response = await running_ingest.web.post(EVENT, content='{"event":"a"}', headers=headers)
    assert (response.status_code, response.json()["code"], response.json()["text"]) == expected


async def test_a_token_in_the_query_is_refused(running_ingest: RunningIngest) -> None:
    response = await running_ingest.web.post(f"{EVENT}?token={running_ingest.token}", content='{"event":"a"}')
    assert (response.status_code, response.json()["code"]) == (400, 16)


async def test_the_token_may_come_as_basic_password(running_ingest: RunningIngest) -> None:
    basic = b64encode(f"x:{running_ingest.token}".encode()).decode()
    assert (await post(running_ingest, '{"event":"a"}', authorization=f"Basic {basic}"))[0] == 200


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b"", {}, (400, 5)),
        (b" \n", {}, (400, 5)),
        (b'{"event":"a"}', {"content-encoding": "br"}, (415, 6)),
        (b"not gzip", {"content-encoding": "gzip"}, (400, 6)),
        (b"x" * (33 * 1024 * 1024), {}, (413, 6)),
        (gzip.compress(bytes(64 * 1024 * 1024)), {"content-encoding": "gzip"}, (413, 6)),
        (gzip.compress(b'{"event":"x"}' * (MAX_RECORDS + 1)), {"content-encoding": "gzip"}, (413, 6)),
    ],
    ids=["empty", "blank", "brotli", "broken gzip", "too large", "bomb", "too many events"],
)
async def test_bad_bodies(running_ingest: RunningIngest, body: bytes, headers: dict[str, str], expected: tuple[int, int]) -> None:
    response = await running_ingest.web.post(EVENT, content=body, headers={"authorization": f"Splunk {running_ingest.token}", **headers})
    assert (response.status_code, response.json()["code"]) == expected


async def test_a_bad_event_is_named_and_those_before_it_are_kept(running_ingest: RunningIngest) -> None:
    response = await running_ingest.web.post(EVENT, content='{"event":"a"}{"event":""}', headers={"authorization": f"Splunk {running_ingest.token}"})
    assert response.status_code == 400
    assert response.json() == {"text": "Event field cannot be blank", "code": 13, "invalid-event-number": 1}
    assert response.headers["elis-accepted"] == "1"


async def test_raw_text_is_cut_into_records(running_ingest: RunningIngest) -> None:
    response = await running_ingest.web.post(
        "/services/collector/raw?source=s",
        content="2026-11-24 06:00:00 ERROR a\n2026-11-24 06:00:01 INFO b\n",
        headers={"authorization": f"Splunk {running_ingest.token}"},
    )
    assert response.headers["elis-accepted"] == "2"


async def test_a_slash_at_the_end_changes_nothing(running_ingest: RunningIngest) -> None:
    # A redirect would send the token on to an address that is not behind TLS.
    for path in ("", "/event", "/event/1.0", "/raw", "/raw/1.0"):
        assert await post(running_ingest, '{"event":"a"}', f"/services/collector{path}/") == (200, {"text": "Success", "code": 0})


async def test_a_time_in_the_query_must_be_one(running_ingest: RunningIngest) -> None:
    refusal = {"text": "Error in handling indexed fields", "code": 15, "invalid-event-number": 0}
    for path in (EVENT, "/services/collector/raw"):
        assert (await post(running_ingest, '{"event":"a"}', f"{path}?time=1433188255.25"))[0] == 200
        assert await post(running_ingest, '{"event":"a"}', f"{path}?time=now") == (400, refusal)


async def test_health_is_told_to_anyone(running_ingest: RunningIngest) -> None:
    response = await running_ingest.web.get("/services/collector/health")
    assert (response.status_code, response.json()) == (200, {"text": "HEC is healthy", "code": 17})


@pytest.mark.parametrize(("path", "allow"), [(EVENT, "POST"), ("/services/collector/raw", "POST"), ("/services/collector/health/1.0", "GET")])
async def test_options_say_what_is_allowed(running_ingest: RunningIngest, path: str, allow: str) -> None:
    response = await running_ingest.web.options(path)
    assert (response.status_code, response.headers["allow"]) == (200, allow)


async def test_acknowledgement_by_channel_is_off(running_ingest: RunningIngest) -> None:
    assert await post(running_ingest, '{"acks":[0]}', "/services/collector/ack") == (400, {"text": "ACK is disabled", "code": 14})
