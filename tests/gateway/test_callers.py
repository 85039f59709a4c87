from __future__ import annotations

import asyncio
from time import time

import pytest

from gateway.callers import KNOWN_KEYS, Callers, read_credential, read_parameters
from kit.errors import Unauthenticated, Unavailable
from tests.fixtures.callers import Issuer


class Exchange:
    """Gives tokens for keys."""

    def __init__(self, issuer: Issuer, lifetime: int = 600) -> None:
        self.issuer = issuer
        self.lifetime = lifetime
        self.asked: list[str] = []
        self.failure: Exception | None = None

    async def __call__(self, key: str) -> tuple[str, float]:
        self.asked.append(key)
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        return self.issuer.token("self:read", name=key.removeprefix("elis_"), kind="key"), time() + self.lifetime


@pytest.fixture
def exchange(issuer: Issuer) -> Exchange:
    return Exchange(issuer)


@pytest.fixture
def callers(issuer: Issuer, exchange: Exchange) -> Callers:
    return Callers(issuer.verifier(), exchange)


async def test_a_token_is_verified(callers: Callers, issuer: Issuer, exchange: Exchange) -> None:
    token = issuer.token("self:read")
    caller = await callers.identify(f"Bearer {token}")
    assert caller is not None
    assert (caller.subject, caller.token) == ("user:ada", token)
    assert exchange.asked == []


@pytest.mark.parametrize("write", ["Bearer {}", "bearer {}", "{}"])
async def test_a_key_is_exchanged_once(callers: Callers, exchange: Exchange, write: str) -> None:
    for _ in range(3):
        caller = await callers.identify(write.format("elis_robot"))
        assert caller is not None
        assert caller.subject == "key:robot"
    assert exchange.asked == ["elis_robot"]


async def test_requests_that_arrive_together_share_an_exchange(callers: Callers, exchange: Exchange) -> None:
    found = await asyncio.gather(*(callers.identify("elis_robot") for _ in range(20)))
    assert len({caller.token for caller in found if caller}) == 1
    assert exchange.asked == ["elis_robot"]


async def test_who_waits_for_an_exchange_may_give_up_alone(callers: Callers, exchange: Exchange) -> None:
    first = asyncio.create_task(callers.identify("elis_robot"))
    second = asyncio.create_task(callers.identify("elis_robot"))
    await asyncio.sleep(0)
    first.cancel()
    assert await second is not None
    assert exchange.asked == ["elis_robot"]


async def test_a_token_is_renewed_a_minute_before_it_ends(issuer: Issuer) -> None:
    exchange = Exchange(issuer, lifetime=59)
    callers = Callers(issuer.verifier(), exchange)
    await callers.identify("elis_robot")
    await callers.identify("elis_robot")
    assert len(exchange.asked) == 2


async def test_a_failed_exchange_is_tried_again(callers: Callers, exchange: Exchange) -> None:
    exchange.failure = Unavailable("auth is away")
    with pytest.raises(Unavailable):
        await callers.identify("elis_robot")
    exchange.failure = Unauthenticated("the API key is unknown")
    with pytest.raises(Unauthenticated):
        await callers.identify("elis_robot")
    exchange.failure = None
    assert await callers.identify("elis_robot") is not None


async def test_a_revoked_key_is_forgotten(callers: Callers, exchange: Exchange) -> None:
    await callers.identify("elis_robot")
    await callers.identify("elis_other")
    callers.forget_key("robot")
    exchange.failure = Unauthenticated("the API key was revoked")
    assert await callers.identify("elis_other") is not None
    with pytest.raises(Unauthenticated):
        await callers.identify("elis_robot")


async def test_a_key_whose_token_was_revoked_is_exchanged_again(issuer: Issuer, exchange: Exchange) -> None:
    revoked: set[str] = set()

    class Revoking:
        async def verify(self, token: str) -> object:
            if token in revoked:
                raise Unauthenticated("the access token was revoked")
            return await issuer.verifier().verify(token)

    callers = Callers(Revoking(), exchange)  # type: ignore[arg-type]
    before = await callers.identify("elis_robot")
    assert before is not None
    revoked.add(before.token)
    after = await callers.identify("elis_robot")
    assert after is not None
    assert after.token != before.token
    assert exchange.asked == ["elis_robot"] * 2


async def test_known_keys_are_bounded(issuer: Issuer) -> None:
    exchange = Exchange(issuer)
    token = issuer.token("self:read", kind="key")

    async def same(key: str) -> tuple[str, float]:
        exchange.asked.append(key)
        return token, time() + 600

    callers = Callers(issuer.verifier(), same)
    for number in range(KNOWN_KEYS + 5):
        await callers.identify(f"elis_{number}")
    exchange.asked.clear()
    await callers.identify(f"elis_{KNOWN_KEYS}")
    await callers.identify("elis_0")
    assert exchange.asked == ["elis_0"]


async def test_nobody(callers: Callers) -> None:
    assert await callers.identify("") is None


@pytest.mark.parametrize("credential", ["Basic YTpi", "Bearer", "Bearer ", "token", "Bearer x.y", "Bearer " + "a" * 9_000, "elis_" + "a" * 9_000])
async def test_what_is_no_credential_is_refused(callers: Callers, exchange: Exchange, credential: str) -> None:
    with pytest.raises(Unauthenticated):
        await callers.identify(credential)
    assert exchange.asked == []


def test_where_credentials_come_from() -> None:
    assert read_credential({"authorization": "Bearer a", "x-api-key": "elis_b"}) == "Bearer a"
    assert read_credential({"x-api-key": "elis_b"}) == "elis_b"
    assert read_credential({}) == ""
    assert read_parameters({"Authorization": "Bearer a"}) == "Bearer a"
    assert read_parameters({"X-API-Key": "elis_b", "authorization": 5}) == "elis_b"
    assert read_parameters({}) == ""
