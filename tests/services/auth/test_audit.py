"""The audit chain: complete, in the transaction of the change, and every changed byte is found."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from elis.auth.v1 import auth_pb2 as pb
from kit.db import unit_of_work
from kit.errors import Internal
from services.auth import audit
from tests.services.auth.conftest import PASSWORD, Auth


async def verify(auth: Auth) -> audit.ChainReport:
    async with unit_of_work(auth.engine) as session:
        return await audit.verify_chain(session)


async def write(auth: Auth, count: int) -> None:
    for number in range(count):
        async with unit_of_work(auth.engine) as session:
            await audit.record(session, "tested", f"thing {number}", {"text": "naïve ☃\u0000"}, actor="tests")


async def test_every_change_leaves_its_entry(auth: Auth) -> None:
    root = await auth.admin()
    me = (await root.GetMe(pb.GetMeRequest())).caller.subject
    user = (await root.CreateUser(pb.CreateUserRequest(username="ada", password=PASSWORD, role="viewer"))).user
    await root.UpdateUser(pb.UpdateUserRequest(id=user.id, role="analyst"))
    await root.UpdateUser(pb.UpdateUserRequest(id=user.id, role="analyst"))  # no change, no entry
    await root.UpdateUser(pb.UpdateUserRequest(id=user.id, disabled=True))
    key = (await root.CreateApiKey(pb.CreateApiKeyRequest(name="ci", kind="api", role="viewer"))).key
    await root.RevokeApiKey(pb.RevokeApiKeyRequest(id=key.id))
    async with unit_of_work(auth.engine) as session:
        rows = (await session.execute(text("SELECT actor, action, target, detail, request_id FROM auth.audit_entries ORDER BY sequence"))).all()
    assert [(row.actor, row.action, row.target) for row in rows][-5:] == [
        (me, "user_created", f"user:{user.id}"),
        (me, "privilege_permissions_changed", f"user:{user.id}"),
        (me, "user_updated", f"user:{user.id}"),
        (me, "authn_token_created", f"key:{key.id}"),
        (me, "authn_token_revoked", f"key:{key.id}"),
    ]
    assert rows[-4].detail == '{"role":["viewer","analyst"],"username":"ada"}'
    assert all(row.request_id for row in rows[-5:])
    assert PASSWORD not in str(rows)
    assert (await verify(auth)).broken_at is None


async def test_parallel_writers_make_one_chain(auth: Auth) -> None:
    before = (await verify(auth)).entries
    await asyncio.gather(*(write(auth, 5) for _ in range(6)))
    report = await verify(auth)
    assert (report.entries, report.broken_at) == (before + 30, None)


TAMPERING = [
    "UPDATE auth.audit_entries SET detail = replace(detail, 'naïve', 'naive') WHERE sequence = 4",
    "UPDATE auth.audit_entries SET actor = 'testz' WHERE sequence = 4",
    "UPDATE auth.audit_entries SET at = at + interval '1 microsecond' WHERE sequence = 4",
    "UPDATE auth.audit_entries SET hash = set_byte(hash, 31, get_byte(hash, 31) # 1) WHERE sequence = 4",
    "UPDATE auth.audit_entries SET previous_hash = set_byte(previous_hash, 0, get_byte(previous_hash, 0) # 1) WHERE sequence = 4",
    "DELETE FROM auth.audit_entries WHERE sequence = 4",
]


async def test_one_changed_byte_is_found(auth: Auth) -> None:
    await write(auth, 6)
    assert (await verify(auth)).broken_at is None
    for statement in TAMPERING:
        async with AsyncSession(auth.engine) as session:  # never committed
            await session.execute(text("ALTER TABLE auth.audit_entries DISABLE TRIGGER append_only"))
            await session.execute(text(statement))
            report = await audit.verify_chain(session)
        assert report.broken_at in (4, 5), statement
        assert report.entries == 3


async def test_database_itself_refuses_changes(auth: Auth) -> None:
    await write(auth, 1)
    for statement in ("UPDATE auth.audit_entries SET actor = ''", "DELETE FROM auth.audit_entries", "TRUNCATE auth.audit_entries"):
        with pytest.raises(DBAPIError, match="append-only"):
            async with unit_of_work(auth.engine) as session:
                await session.execute(text(statement))


async def test_change_that_cannot_be_audited_does_not_happen(auth: Auth) -> None:
    root = await auth.admin()
    async with unit_of_work(auth.engine) as session:
        await session.execute(text("ALTER TABLE auth.audit_entries ADD CONSTRAINT full_disk CHECK (false) NOT VALID"))
    with pytest.raises(Internal):
        await root.CreateUser(pb.CreateUserRequest(username="ada", password=PASSWORD, role="viewer"))
    async with unit_of_work(auth.engine) as session:
        assert (await session.execute(text("SELECT count(*) FROM auth.users WHERE username = 'ada'"))).scalar_one() == 0
