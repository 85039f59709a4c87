"""The auth service, running on real engines, and callers of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from elis.auth.v1 import auth_pb2 as pb
from elis.auth.v1 import auth_pb2_grpc as rpc
from kit.client import connect
from kit.db import open_engine, unit_of_work
from kit.server import Application
from services.auth.accounts import create_user
from services.auth.app import build
from services.auth.passwords import PasswordHash
from services.auth.settings import AuthSettings
from tests.fixtures.servers import run_service

if TYPE_CHECKING:
    from elis.auth.v1.auth_pb2_grpc import AuthServiceAsyncStub

PASSWORD = "correct horse battery staple"
SECRET = "s" * 64
ROUNDS = 10_000


@dataclass
class Auth:
    """A running auth service."""

    address: str
    settings: AuthSettings
    application: Application
    engine: AsyncEngine
    stack: AsyncExitStack

    async def stub(self, token: str = "") -> AuthServiceAsyncStub:
        """Returns a stub whose calls carry a token."""

        async def source() -> str:
            return token

        channel = await self.stack.enter_async_context(connect(self.address, source, timedelta(seconds=5)))
        return rpc.AuthServiceStub(channel)

    async def add_user(self, username: str, role: str = "viewer", rounds: int = ROUNDS) -> str:
        """Adds a user with the password of all test users; returns the id."""
        async with unit_of_work(self.engine) as session:
            hashed = str(PasswordHash.create(PASSWORD, rounds))
            user = await create_user(session, username=username, password_hash=hashed, role=role, display_name="", actor="tests")
        return str(user.id)

    async def login(self, username: str, password: str = PASSWORD) -> pb.LoginResponse:
        """Signs in."""
        return await (await self.stub()).Login(pb.LoginRequest(username=username, password=password))

    async def signed_in(self, username: str) -> AuthServiceAsyncStub:
        """Returns a stub of a user who has signed in."""
        return await self.stub((await self.login(username)).tokens.access_token)

    async def admin(self) -> AuthServiceAsyncStub:
        """Returns a stub of an admin, who is added."""
        await self.add_user("root", "admin")
        return await self.signed_in("root")


def create_settings(database_url: str, redis_url: str, **others: Any) -> AuthSettings:
    """Returns settings with fast password hashes."""
    return AuthSettings.model_validate({"database_url": database_url, "redis_url": redis_url, "service_secret": SECRET, "password_rounds": ROUNDS, **others})


@pytest.fixture
def settings(database_url: str, redis_url: str) -> AuthSettings:
    """Settings with fast password hashes."""
    return create_settings(database_url, redis_url)


@pytest.fixture
async def auth(settings: AuthSettings) -> AsyncIterator[Auth]:
    """A running auth service on this test's database."""
    async with AsyncExitStack() as stack:
        application = await stack.enter_async_context(build(settings))
        engine = await stack.enter_async_context(open_engine(settings, "tests"))
        address = await stack.enter_async_context(run_service(application))
        yield Auth(address, settings, application, engine, stack)
