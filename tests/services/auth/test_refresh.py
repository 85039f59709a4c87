"""Refresh tokens: rotation, the grace of a predecessor, reuse."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import select, text, update

from elis.auth.v1 import auth_pb2 as pb
from kit.db import unit_of_work
from kit.errors import Unauthenticated
from kit.revocations import FRESH_SECONDS
from services.auth.models import AuditEntry, RefreshFamily, RefreshToken
from services.auth.refresh import GRACE
from tests.services.auth.conftest import Auth


@pytest.fixture
async def first(auth: Auth) -> str:
    await auth.add_user("ada")
    return (await auth.login("ada")).tokens.refresh_token


async def refresh(auth: Auth, token: str) -> pb.TokenPair:
    return (await (await auth.stub()).Refresh(pb.RefreshRequest(refresh_token=token))).tokens


async def pass_grace(auth: Auth) -> None:
    async with unit_of_work(auth.engine) as session:
        await session.execute(update(RefreshToken).values(used_at=RefreshToken.used_at - GRACE - timedelta(seconds=1)))


async def test_rotation_gives_a_new_token_and_the_same_absolute_end(auth: Auth, first: str) -> None:
    second = await refresh(auth, first)
    third = await refresh(auth, second.refresh_token)
    assert len({first, second.refresh_token, third.refresh_token}) == 3
    assert second.refresh_expires_at == third.refresh_expires_at
    await (await auth.stub(third.access_token)).GetMe(pb.GetMeRequest())


async def test_lost_answer_can_be_asked_for_again(auth: Auth, first: str) -> None:
    second = await refresh(auth, first)
    again = await refresh(auth, first)
    assert again.refresh_token == second.refresh_token
    await refresh(auth, second.refresh_token)


async def test_two_concurrent_uses_get_the_same_successor_and_the_family_lives(auth: Auth, first: str) -> None:
    pairs = await asyncio.gather(*(refresh(auth, first) for _ in range(5)))
    assert len({pair.refresh_token for pair in pairs}) == 1
    await refresh(auth, pairs[0].refresh_token)


async def test_grandparent_kills_the_family_even_within_the_grace(auth: Auth, first: str) -> None:
    second = await refresh(auth, first)
    third = await refresh(auth, second.refresh_token)
    with pytest.raises(Unauthenticated):
        await refresh(auth, first)
    with pytest.raises(Unauthenticated):
        await refresh(auth, third.refresh_token)
    await asyncio.sleep(FRESH_SECONDS)
    with pytest.raises(Unauthenticated, match="revoked"):
        await (await auth.stub(third.access_token)).GetMe(pb.GetMeRequest())
    async with unit_of_work(auth.engine) as session:
        last = (await session.scalars(select(AuditEntry).order_by(AuditEntry.sequence.desc()).limit(1))).one()
        family = (await session.scalars(select(RefreshFamily))).one()
    assert last.action == "authn_token_reuse"
    assert family.end_reason == "an old refresh token was used again"


async def test_predecessor_kills_the_family_after_the_grace(auth: Auth, first: str) -> None:
    second = await refresh(auth, first)
    await pass_grace(auth)
    with pytest.raises(Unauthenticated):
        await refresh(auth, first)
    with pytest.raises(Unauthenticated):
        await refresh(auth, second.refresh_token)


async def test_reuse_leaves_other_sessions_alone(auth: Auth, first: str) -> None:
    other = (await auth.login("ada")).tokens
    await refresh(auth, first)
    await pass_grace(auth)
    with pytest.raises(Unauthenticated):
        await refresh(auth, first)
    await asyncio.sleep(FRESH_SECONDS)
    await (await auth.stub(other.access_token)).GetMe(pb.GetMeRequest())
    await refresh(auth, other.refresh_token)


async def test_family_ends_at_its_absolute_time_however_often_it_was_rotated(auth: Auth, first: str) -> None:
    second = await refresh(auth, first)
    async with unit_of_work(auth.engine) as session:
        await session.execute(update(RefreshFamily).values(expires_at=text("now() - interval '1 second'")))
    with pytest.raises(Unauthenticated):
        await refresh(auth, second.refresh_token)


async def test_unknown_tokens_are_refused(auth: Auth) -> None:
    for token in ("", "x", "\x00", "a" * 43, "ü" * 20_000):
        with pytest.raises(Unauthenticated, match="sign in again"):
            await refresh(auth, token)


async def test_database_holds_no_token(auth: Auth, first: str) -> None:
    second = (await refresh(auth, first)).refresh_token
    async with unit_of_work(auth.engine) as session:
        rows = str((await session.execute(text("SELECT * FROM auth.refresh_tokens"))).all())
    assert first not in rows
    assert second not in rows


async def test_refresh_during_a_change_of_the_user_neither_deadlocks_nor_outlives_it(auth: Auth) -> None:
    root = await auth.admin()
    user_id = await auth.add_user("ada")
    tokens = [(await auth.login("ada")).tokens.refresh_token for _ in range(6)]
    results = await asyncio.gather(
        *(refresh(auth, token) for token in tokens), root.UpdateUser(pb.UpdateUserRequest(id=user_id, disabled=True)), return_exceptions=True
    )
    assert all(isinstance(result, pb.TokenPair | pb.UpdateUserResponse | Unauthenticated) for result in results)
    await asyncio.sleep(FRESH_SECONDS)
    for result in results:
        if isinstance(result, pb.TokenPair):
            with pytest.raises(Unauthenticated):
                await (await auth.stub(result.access_token)).GetMe(pb.GetMeRequest())
            with pytest.raises(Unauthenticated):
                await refresh(auth, result.refresh_token)
