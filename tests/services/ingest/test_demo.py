"""The demo asks again while ELIS is busy, and says what is wrong when it is."""

from __future__ import annotations

import httpx
import pytest

from kit.errors import InvalidArgument, Unavailable
from services.ingest.demo import _ask


def client(answer: httpx.Response | Exception) -> httpx.AsyncClient:
    """Returns a client whose every request is answered so."""

    def handle(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return httpx.AsyncClient(transport=httpx.MockTransport(handle))


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, json={"errors": [{"message": "the time for the request ran out", "extensions": {"code": "DEADLINE_EXCEEDED"}}]}),
        httpx.Response(503, json={"errors": [{"message": "a service does not answer", "extensions": {"code": "UNAVAILABLE"}}]}),
        httpx.ReadTimeout("slow"),
    ],
    ids=["deadline", "unavailable", "silence"],
)
async def test_a_busy_gateway_is_asked_again(answer: httpx.Response | Exception) -> None:
    async with client(answer) as http:
        with pytest.raises(Unavailable):
            await _ask(http, "http://elis/graphql", {})


async def test_another_error_is_told() -> None:
    answer = httpx.Response(200, json={"errors": [{"message": "Cannot query field", "extensions": {"code": "INVALID_ARGUMENT"}}]})
    async with client(answer) as http:
        with pytest.raises(InvalidArgument, match="the gateway answered: Cannot query field"):
            await _ask(http, "http://elis/graphql", {})
