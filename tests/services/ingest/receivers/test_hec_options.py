"""What settings and outages change in the HTTP Event Collector's replies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
import pytest
from redis.asyncio import Redis
from starlette.applications import Starlette

from elis.auth.v1.auth_pb2_grpc import AuthServiceStub
from kit.cache import open_redis
from kit.client import connect, stay_anonymous
from kit.errors import DeadlineExceeded, ElisError, RateLimited, Unavailable
from services.ingest.intake import Intake
from services.ingest.receivers.hec import HecReceiver
from services.ingest.receivers.hec_acks import AckLedger
from services.ingest.settings import IngestSettings
from services.ingest.tokens import TokenBook
from tests.services.ingest.conftest import ARRIVAL, RunningIngest

HEALTH = "/services/collector/health"
EVENT = "/services/collector/event"


@pytest.fixture
def settings(settings: IngestSettings) -> IngestSettings:
    return settings.model_copy(update={"hec_strict": True, "hec_query_token": True})


@asynccontextmanager
async def collector(settings: IngestSettings, intake: Intake, redis: Redis) -> AsyncIterator[httpx.AsyncClient]:
    """A collector whose auth service is away."""
    async with connect("127.0.0.1:1", stay_anonymous, timedelta(seconds=5)) as nobody:
        receiver = HecReceiver(settings, intake, TokenBook(AuthServiceStub(nobody)), AckLedger(redis))
        transport = httpx.ASGITransport(Starlette(routes=receiver.routes()))
        async with httpx.AsyncClient(transport=transport, base_url="http://ingest") as web:
            yield web


async def test_health_tells_full_queues_and_whether_acknowledgement_works(settings: IngestSettings, intake: Intake) -> None:
    async def ask(web: httpx.AsyncClient, query: str) -> tuple[int, int]:
        response = await web.get(f"{HEALTH}{query}")
        return response.status_code, response.json()["code"]

    async with open_redis(settings) as redis, collector(settings, intake, redis) as web, collector(settings, intake, Redis(port=1)) as deaf:
        assert [await ask(web, query) for query in ("", "?ack=true", "/1.0?ack=1&token=x")] == [(200, 17)] * 3
        assert [await ask(deaf, query) for query in ("", "?ack=0", "?ack=true")] == [(200, 17), (200, 17), (503, 19)]
        with intake.admit(ARRIVAL, settings.max_pending_bytes):
            assert [await ask(web, ""), await ask(web, "?ack=true"), await ask(deaf, "?ack=true")] == [(503, 18), (503, 18), (503, 20)]


async def test_an_outage_of_the_auth_service_is_no_refusal(settings: IngestSettings, intake: Intake) -> None:
    # Fluent Bit drops what gets a 401 or 403 and tries again after a 503.
    async with collector(settings, intake, Redis(port=1)) as web:
        response = await web.post(EVENT, content='{"event":"a"}', headers={"authorization": "Splunk 00000000-0000-0000-0000-000000000000"})
    assert (response.status_code, response.json()["code"], response.headers["retry-after"]) == (503, 9, "1")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RateLimited("too many events of this token", retry_after=6.2), (503, 9, "7")),
        (Unavailable("busy", retry_after=0.1), (503, 9, "1")),
        (Unavailable("busy"), (503, 9, "1")),
        (DeadlineExceeded("late"), (500, 8, None)),
    ],
)
async def test_errors_of_the_intake(
    running_ingest: RunningIngest, monkeypatch: pytest.MonkeyPatch, error: ElisError, expected: tuple[int, int, str | None]
) -> None:
    def refuse(*_: object, **__: object) -> Callable[[], None]:
        raise error

    monkeypatch.setattr(Intake, "take", refuse)
    response = await running_ingest.web.post(EVENT, content='{"event":"a"}', headers={"authorization": f"Splunk {running_ingest.token}"})
    assert (response.status_code, response.json()["code"], response.headers.get("retry-after")) == expected


async def test_a_token_in_the_query_is_taken_when_a_setting_allows_it(running_ingest: RunningIngest) -> None:
    async def ask(query: str) -> tuple[int, int]:
        response = await running_ingest.web.post(f"{EVENT}{query}", content='{"event":"a"}')
        return response.status_code, response.json()["code"]

    unknown = "00000000-0000-0000-0000-000000000000"
    assert [await ask(query) for query in (f"?token={running_ingest.token}", f"?token={unknown}", "?token=", "")] == [(200, 0), (403, 4), (403, 4), (401, 2)]


async def test_strict_mode_answers_as_splunkd_does(running_ingest: RunningIngest) -> None:
    async def ask(body: str) -> tuple[int, object]:
        response = await running_ingest.web.post(EVENT, content=body, headers={"authorization": f"Splunk {running_ingest.token}"})
        return response.status_code, response.json()

    assert (await ask('{"event":"a","time":1,"host":"h","source":"s","sourcetype":"t","index":"i","fields":{}}'))[0] == 200
    assert await ask('{"event":"a"}{"event":"b","@version":"1"}') == (400, {"text": "No data", "code": 5, "invalid-event-number": 1})
    assert await ask('{"event":"a","host":5}') == (400, {"text": "Invalid data format", "code": 6, "invalid-event-number": 0})
