"""Shipping records: what is no answer of ELIS, or no final one, loses nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
import httpx
import pytest

from kit.errors import Unavailable
from services.ingest.credentials_file import SenderCredentials
from services.ingest.shipper import Declaration, Shipment, Shipper
from tests.services.ingest.conftest import RunningIngest
from tests.services.ingest.receivers.stored import wait_for_events

CREDENTIALS = SenderCredentials("http://elis.example", "http://elis.example", "token")


async def ship(answers: Sequence[httpx.Response]) -> tuple[Shipment, list[httpx.Request]]:
    """Ships two records to a server that gives these answers, the last of them for ever."""
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return answers[min(len(requests), len(answers)) - 1]

    shipment = Shipment("app.log", "plain")
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        await Shipper(client, CREDENTIALS).send(["one", "two"], Declaration("shop"), shipment)
    return shipment, requests


SUCCESS = httpx.Response(200, json={"text": "Success", "code": 0}, headers={"elis-accepted": "2"})


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_an_error_of_the_server_is_no_final_answer(status: int) -> None:
    shipment, requests = await ship([httpx.Response(status, text="later", headers={"Retry-After": "0"}), SUCCESS])
    assert (shipment.accepted, shipment.rejected) == (2, 0)
    assert len({request.headers["x-elis-idempotency-key"] for request in requests}) == 1


@pytest.mark.parametrize("status", [404, 413])
async def test_an_error_of_something_that_is_not_elis_rejects_nothing(status: int) -> None:
    with pytest.raises(Unavailable, match=f"is not ELIS: status {status}"):
        await ship([httpx.Response(status, text="<html>nginx</html>")])


async def test_a_refused_record_costs_no_neighbour() -> None:
    shipment, requests = await ship([httpx.Response(400, json={"text": "Event field is required", "code": 12, "invalid-event-number": 0}), SUCCESS])
    assert (shipment.rejected, len(requests)) == (1, 2)
    assert shipment.notes == ["record 1 was refused: Event field is required"]
    assert b"one" not in requests[1].content


async def test_a_file_is_nothing_of_splunk(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    credentials = SenderCredentials(str(running_ingest.web.base_url), "", running_ingest.token)
    for _ in range(2):
        await Shipper(running_ingest.web, credentials).send(["level=error msg=late"], Declaration("shop"), Shipment("app.log", "logfmt"))
    (event,) = await wait_for_events(pool, 1)
    assert (event["system"], event["body"], event["severity_number"], event.get("attributes", {})) == ("application", "late", 17, {})
