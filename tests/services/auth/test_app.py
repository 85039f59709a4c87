"""The auth service while its engines are away, and what it removes after a while."""

from __future__ import annotations

from contextlib import AsyncExitStack

import asyncpg
import pytest
from sqlalchemy import text

from elis.auth.v1 import auth_pb2 as pb
from kit.db import open_engine, unit_of_work
from kit.errors import Unavailable
from services.auth.app import build
from services.auth.refresh import prune_families
from services.auth.revocations import prune_revocations
from tests.fixtures.servers import run_service
from tests.services.auth.conftest import Auth, create_settings

AWAY = "postgresql://nobody@127.0.0.1:1/none"


async def drop_connections(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
    await connection.close()


async def test_without_database_the_service_starts_and_says_that_it_is_not_ready(redis_url: str) -> None:
    settings = create_settings(AWAY, redis_url)
    async with build(settings) as application, run_service(application) as address, open_engine(settings, "tests") as engine, AsyncExitStack() as stack:
        auth = Auth(address, settings, application, engine, stack)
        stub = await auth.stub()
        with pytest.raises(Unavailable):
            await stub.GetJwks(pb.GetJwksRequest())
        with pytest.raises(Unavailable, match="the database does not answer"):
            await auth.login("ada")
        with pytest.raises(OSError, match="Connect call failed"):
            await application.ready[0]()


async def test_lost_connections_are_replaced(auth: Auth, database_url: str) -> None:
    await auth.add_user("ada")
    await auth.login("ada")
    await drop_connections(database_url)
    await auth.login("ada")


async def test_connection_lost_in_a_transaction_is_unavailable(auth: Auth, database_url: str) -> None:
    async def work() -> None:
        async with unit_of_work(auth.engine) as session:
            await session.execute(text("SELECT 1"))
            await drop_connections(database_url)
            await session.execute(text("SELECT 1"))

    with pytest.raises(Unavailable):
        await work()


async def test_what_is_of_no_use_any_more_is_removed(auth: Auth) -> None:
    await auth.add_user("ada")
    for _ in range(3):
        session_of_ada = await auth.login("ada")
        await (await auth.stub(session_of_ada.tokens.access_token)).Logout(pb.LogoutRequest())
    kept = await auth.login("ada")
    async with unit_of_work(auth.engine) as session:
        await session.execute(text("UPDATE auth.refresh_families SET ended_at = ended_at - interval '8 days' WHERE ended_at IS NOT NULL"))
        await session.execute(text("UPDATE auth.revocations SET revoked_at = revoked_at - interval '1 hour'"))
        await prune_families(session)
        await prune_revocations(session, auth.settings.access_token_lifetime)
        for table in ("refresh_families", "refresh_tokens"):
            assert (await session.execute(text(f"SELECT count(*) FROM auth.{table}"))).scalar_one() == 1
        assert (await session.execute(text("SELECT count(*) FROM auth.revocations"))).scalar_one() == 0
    await (await auth.stub()).Refresh(pb.RefreshRequest(refresh_token=kept.tokens.refresh_token))


async def test_revocations_are_listed_from_a_moment_on(auth: Auth) -> None:
    await auth.add_user("ada")
    for _ in range(2):
        await (await auth.signed_in("ada")).Logout(pb.LogoutRequest())
    token = (await (await auth.stub()).IssueServiceToken(pb.IssueServiceTokenRequest(service="gateway", secret="s" * 64))).access_token
    stub = await auth.stub(token)
    both = (await stub.ListRevocations(pb.ListRevocationsRequest())).revocations
    assert len(both) == 2
    assert all(one.subject.startswith("session:") for one in both)
    assert list((await stub.ListRevocations(pb.ListRevocationsRequest(since=both[0].revoked_at))).revocations) == [both[1]]
