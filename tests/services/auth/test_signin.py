"""Login, logout and what ends a session at once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from sqlalchemy import select

from elis.auth.v1 import auth_pb2 as pb
from elis.auth.v1 import auth_pb2_grpc as rpc
from kit.db import open_engine, unit_of_work
from kit.errors import InvalidArgument, PermissionDenied, RateLimited, Unauthenticated
from kit.revocations import FRESH_SECONDS
from services.auth.accounts import find_user
from services.auth.app import build
from services.auth.models import AuditEntry
from services.auth.passwords import PasswordHash
from tests.fixtures.servers import run_service
from tests.services.auth.conftest import PASSWORD, ROUNDS, Auth, create_settings

WRONG = "the username or the password is wrong"


async def actions(auth: Auth) -> list[str]:
    async with unit_of_work(auth.engine) as session:
        return list((await session.scalars(select(AuditEntry.action).order_by(AuditEntry.sequence))).all())


async def test_login_gives_tokens_of_the_role_and_is_noted(auth: Auth) -> None:
    user_id = await auth.add_user("Ada", "analyst")
    response = await auth.login("ADA")
    assert (response.user.id, response.user.username, response.user.role) == (user_id, "Ada", "analyst")
    assert response.user.HasField("last_login_at")
    lifetime = response.tokens.access_expires_at.ToDatetime(UTC) - datetime.now(UTC)
    assert timedelta(minutes=9) < lifetime <= timedelta(minutes=10)
    assert response.tokens.refresh_expires_at.ToDatetime(UTC) - datetime.now(UTC) > timedelta(days=29)

    me = await (await auth.stub(response.tokens.access_token)).GetMe(pb.GetMeRequest())
    assert (me.caller.subject, me.caller.name, me.caller.kind, me.caller.role) == (f"user:{user_id}", "Ada", "user", "analyst")
    assert "incidents:comment" in me.caller.scopes
    assert "events:write" not in me.caller.scopes
    assert (await actions(auth))[-1] == "authn_login_success"


async def test_every_refusal_looks_the_same(auth: Auth) -> None:
    await auth.add_user("ada")
    root = await auth.admin()
    disabled = await auth.add_user("disabled")
    await root.UpdateUser(pb.UpdateUserRequest(id=disabled, disabled=True))
    for username in ("ada", "nobody", "disabled", "", "no such\x00name", "x" * 5_000, "ada'; DROP TABLE auth.users; --"):
        password = PASSWORD if username == "disabled" else "not the password"
        with pytest.raises(Unauthenticated) as caught:
            await auth.login(username, password)
        assert caught.value.message == WRONG
        assert caught.value.detail == {}
        assert (await actions(auth))[-1] == "authn_login_fail"


@pytest.mark.parametrize("username", ["ada", "nobody"])
async def test_sixth_attempt_after_five_failures_waits_whether_the_user_exists_or_not(auth: Auth, username: str) -> None:
    await auth.add_user("ada")
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await auth.login(username, "not the password")
    for spelling in (username, username.upper()):
        with pytest.raises(RateLimited) as caught:
            await auth.login(spelling)
        assert 0 < caught.value.detail["retry_after"] <= 15 * 60
    await auth.add_user("bob")
    await auth.login("bob")  # others are not held up


async def test_success_forgets_the_failures(auth: Auth) -> None:
    await auth.add_user("ada")
    for _ in range(3):
        for _ in range(4):
            with pytest.raises(Unauthenticated):
                await auth.login("ada", "not the password")
        await auth.login("ada")


async def test_parallel_guesses_do_not_outrun_the_count(auth: Auth) -> None:
    await auth.add_user("ada")
    results = await asyncio.gather(*(auth.login("ada", f"guess number {n}") for n in range(15)), return_exceptions=True)
    assert sum(isinstance(result, Unauthenticated) for result in results) == 5
    assert sum(isinstance(result, RateLimited) for result in results) == 10


async def test_parallel_sign_ins_of_one_user_all_succeed(auth: Auth) -> None:
    await auth.add_user("ada")
    results = await asyncio.gather(*(auth.login("ada") for _ in range(12)))
    assert len({result.tokens.refresh_token for result in results}) == 12


async def test_attempt_whose_caller_hangs_up_counts(auth: Auth) -> None:
    await auth.add_user("ada")
    stub = rpc.AuthServiceStub(grpc.aio.insecure_channel(auth.address))
    slow = str(PasswordHash.create("another one", 1))
    for _ in range(5):
        call = stub.Login(pb.LoginRequest(username="ada", password=slow), timeout=2.0)
        await asyncio.sleep(0.05)
        call.cancel()
    with pytest.raises((RateLimited, Unauthenticated)):
        await auth.login("ada", "not the password")
    with pytest.raises(RateLimited):
        await auth.login("ada", "not the password")


async def test_without_redis_failures_are_counted_by_the_process(database_url: str) -> None:
    settings = create_settings(database_url, "redis://127.0.0.1:1/0", login_attempts=2)
    async with build(settings) as application, run_service(application) as address, open_engine(settings, "tests") as engine, AsyncExitStack() as stack:
        auth = Auth(address, settings, application, engine, stack)
        await auth.add_user("ada")
        await auth.login("ada")
        for _ in range(2):
            with pytest.raises(Unauthenticated):
                await auth.login("ada", "not the password")
        with pytest.raises(RateLimited):
            await auth.login("ada")


async def test_old_hash_is_replaced_at_login(auth: Auth) -> None:
    await auth.add_user("ada", rounds=1_000)
    await auth.login("ada")
    async with unit_of_work(auth.engine) as session:
        user = await find_user(session, "ada")
    assert user is not None
    assert PasswordHash.parse(user.password_hash).rounds == ROUNDS
    await auth.login("ada")


async def test_logout_ends_this_session_and_no_other(auth: Auth) -> None:
    await auth.add_user("ada")
    first, second = await auth.login("ada"), await auth.login("ada")
    mine, other = await auth.stub(first.tokens.access_token), await auth.stub(second.tokens.access_token)
    await mine.Logout(pb.LogoutRequest(refresh_token=first.tokens.refresh_token))
    await asyncio.sleep(FRESH_SECONDS)
    with pytest.raises(Unauthenticated, match="revoked"):
        await mine.GetMe(pb.GetMeRequest())
    with pytest.raises(Unauthenticated):
        await mine.Refresh(pb.RefreshRequest(refresh_token=first.tokens.refresh_token))
    await other.GetMe(pb.GetMeRequest())
    await (await auth.stub()).Refresh(pb.RefreshRequest(refresh_token=second.tokens.refresh_token))


async def test_logout_takes_no_refresh_token_of_somebody_else(auth: Auth) -> None:
    await auth.add_user("ada")
    await auth.add_user("bob")
    bob = await auth.login("bob")
    with pytest.raises(PermissionDenied):
        await (await auth.signed_in("ada")).Logout(pb.LogoutRequest(refresh_token=bob.tokens.refresh_token))
    await (await auth.stub()).Refresh(pb.RefreshRequest(refresh_token=bob.tokens.refresh_token))


async def test_key_has_no_session_to_close(auth: Auth) -> None:
    made = await (await auth.admin()).CreateApiKey(pb.CreateApiKeyRequest(name="ci", kind="api", role="viewer"))
    token = (await (await auth.stub()).ExchangeApiKey(pb.ExchangeApiKeyRequest(key=made.secret))).access_token
    with pytest.raises(InvalidArgument, match="a key has no session"):
        await (await auth.stub(token)).Logout(pb.LogoutRequest())


@pytest.mark.parametrize("change", [{"role": "viewer"}, {"disabled": True}])
async def test_role_change_and_disabling_take_effect_at_once(auth: Auth, change: dict[str, object]) -> None:
    root = await auth.admin()
    user_id = await auth.add_user("ada", "operator")
    session = await auth.login("ada")
    ada = await auth.stub(session.tokens.access_token)
    await ada.GetMe(pb.GetMeRequest())
    await root.UpdateUser(pb.UpdateUserRequest(id=user_id, **change))  # type: ignore[arg-type]
    await asyncio.sleep(FRESH_SECONDS)
    with pytest.raises(Unauthenticated, match="revoked"):
        await ada.GetMe(pb.GetMeRequest())
    with pytest.raises(Unauthenticated):
        await ada.Refresh(pb.RefreshRequest(refresh_token=session.tokens.refresh_token))
    if "role" in change:
        again = await auth.signed_in("ada")
        assert (await again.GetMe(pb.GetMeRequest())).caller.role == "viewer"
