"""Signing keys: sealed, published without their private halves, rotated without a refused call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.exceptions import InvalidTag
from joserfc import jws
from sqlalchemy import select, text, update

from elis.auth.v1 import auth_pb2 as pb
from kit.auth import Verifier
from kit.db import open_engine, unit_of_work
from kit.errors import Unauthenticated, Unavailable
from services.auth.models import SigningKey
from services.auth.scopes import SERVICE_SCOPES
from services.auth.settings import AuthSettings
from services.auth.signing import KeyRing, KeySealer, rotate
from services.auth.tokens import TokenMint
from tests.services.auth.conftest import SECRET, Auth

LIFETIME = timedelta(minutes=10)


@asynccontextmanager
async def open_ring(settings: AuthSettings, secret: str = SECRET) -> AsyncIterator[KeyRing]:
    async with open_engine(settings, "tests") as engine:
        ring = KeyRing(engine, KeySealer(secret), LIFETIME)
        await ring.load()
        yield ring


def mint(ring: KeyRing) -> str:
    return TokenMint(ring, "elis", LIFETIME).for_service("search").text


def verifier_of(ring: KeyRing) -> Verifier:
    async def fetch() -> str:
        return ring.public_keys()

    return Verifier(fetch, "elis")


async def turn(settings: AuthSettings, *, ahead: timedelta = timedelta(0), drop_old: bool = False) -> None:
    async with open_engine(settings, "tests") as engine, unit_of_work(engine) as session:
        await rotate(session, KeySealer(SECRET), LIFETIME, ahead=ahead, drop_old=drop_old)


async def test_token_has_the_profile_that_the_verifier_demands(settings: AuthSettings) -> None:
    async with open_ring(settings) as ring:
        token = mint(ring)
        protected = jws.extract_compact(token.encode()).headers()
        assert (protected["typ"], protected["alg"], protected["kid"]) == ("at+jwt", "Ed25519", ring.signer().id)
        caller = await verifier_of(ring).verify(token)
    assert (caller.subject, caller.kind, caller.scopes) == ("service:search", "service", SERVICE_SCOPES)


async def test_published_keys_are_public_halves_only(auth: Auth) -> None:
    keys = json.loads((await (await auth.stub()).GetJwks(pb.GetJwksRequest())).jwks)["keys"]
    assert [set(key) for key in keys] == [{"kty", "crv", "x", "kid", "use", "alg"}]
    async with unit_of_work(auth.engine) as session:
        row = (await session.scalars(select(SigningKey))).one()
    private = KeySealer(SECRET).open(row.id, row.sealed_private_jwk).as_dict(private=True)
    assert str(private["d"]) not in row.public_jwk
    assert str(private["d"]).encode() not in row.sealed_private_jwk


async def test_sealed_key_opens_only_with_its_secret_and_its_id(settings: AuthSettings) -> None:
    sealed = KeySealer("one").seal("id", {"kty": "OKP"})
    for secret, key_id in (("another", "id"), ("one", "another")):
        with pytest.raises(InvalidTag):
            KeySealer(secret).open(key_id, sealed)


async def test_replicas_that_start_together_share_one_first_key(settings: AuthSettings) -> None:
    async def first_key() -> str:
        async with open_ring(settings) as ring:
            return ring.signer().id

    assert len(set(await asyncio.gather(*(first_key() for _ in range(4))))) == 1


async def test_new_key_is_published_before_it_signs_and_the_old_one_verifies_after(settings: AuthSettings) -> None:
    async with open_ring(settings) as ring:
        old_id, old_token = ring.signer().id, mint(ring)
        await turn(settings, ahead=timedelta(seconds=60))
        await ring.load()
        assert ring.signer().id == old_id
        assert len(json.loads(ring.public_keys())["keys"]) == 2

    async with open_engine(settings, "tests") as engine, unit_of_work(engine) as session:  # a minute passes
        minute = timedelta(minutes=1)
        await session.execute(update(SigningKey).values(signs_from=SigningKey.signs_from - minute, retired_at=SigningKey.retired_at - minute))
    async with open_ring(settings) as ring:
        assert ring.signer().id != old_id
        verifier = verifier_of(ring)
        for token in (old_token, mint(ring)):
            await verifier.verify(token)


async def test_no_call_is_refused_while_keys_rotate(settings: AuthSettings) -> None:
    async with open_ring(settings) as ring:
        verifier = verifier_of(ring)
        await verifier.verify(mint(ring))
        await turn(settings, ahead=timedelta(seconds=1))
        await ring.load()
        verifier._fetched_at -= 30.0  # half a minute passes at the verifier, which reads the keys anew
        ids = set()
        for _ in range(30):
            token = mint(ring)
            ids.add(ring.signer().id)
            await verifier.verify(token)
            await asyncio.sleep(0.05)
    assert len(ids) == 2


async def test_retired_key_disappears_when_its_last_token_has_expired(settings: AuthSettings) -> None:
    async with open_ring(settings) as ring:
        old_token = mint(ring)
    await turn(settings)
    async with open_engine(settings, "tests") as engine, unit_of_work(engine) as session:
        past = datetime.now(UTC) - LIFETIME - timedelta(minutes=2)
        await session.execute(update(SigningKey).where(SigningKey.retired_at.is_not(None)).values(retired_at=past))
    async with open_ring(settings) as ring:
        assert len(json.loads(ring.public_keys())["keys"]) == 1
        with pytest.raises(Unauthenticated, match="unknown key"):
            await verifier_of(ring).verify(old_token)
    await turn(settings)
    async with open_engine(settings, "tests") as engine, unit_of_work(engine) as session:
        assert len((await session.execute(text("SELECT 1 FROM auth.signing_keys"))).all()) == 2


async def test_dropped_key_ends_tokens_that_were_verified_before(settings: AuthSettings) -> None:
    async with open_ring(settings) as ring:
        verifier = verifier_of(ring)
        token = mint(ring)
        await verifier.verify(token)
        await turn(settings, drop_old=True)
        await ring.load()
        verifier._fetched_at -= 30.0
        with pytest.raises(Unauthenticated, match="unknown key"):
            await verifier.verify(token)


async def test_changed_service_secret_makes_a_new_key_and_keeps_old_tokens_valid(settings: AuthSettings) -> None:
    async with open_ring(settings) as ring:
        old_token = mint(ring)
    async with open_ring(settings, "another secret of the service") as ring:
        verifier = verifier_of(ring)
        for token in (old_token, mint(ring)):
            await verifier.verify(token)


async def test_without_keys_nothing_is_signed(settings: AuthSettings) -> None:
    async with open_engine(settings, "tests") as engine:
        ring = KeyRing(engine, KeySealer(SECRET), LIFETIME)
        with pytest.raises(Unavailable):
            ring.signer()
        with pytest.raises(Unavailable):
            ring.public_keys()
