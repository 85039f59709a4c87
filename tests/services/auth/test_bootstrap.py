"""The first admin: made once, found again, made anew when its credentials are lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from sqlalchemy import text, update

from elis.auth.v1 import auth_pb2 as pb
from kit.db import unit_of_work
from kit.errors import Unauthenticated
from services.auth.bootstrap import Credentials, bootstrap
from services.auth.models import ApiKey
from tests.services.auth.conftest import ROUNDS, SECRET, Auth
from tests.services.auth.test_keys import exchange, verify

ROOT = Path(__file__).parents[3]


async def make(auth: Auth, known: Credentials | None = None, **changed: str) -> Credentials:
    return await bootstrap(auth.engine, ROUNDS, {**(asdict(known) if known is not None else {}), **changed})


async def check(auth: Auth, credentials: Credentials) -> None:
    assert (await auth.login(credentials.admin_username, credentials.admin_password)).user.role == "admin"
    await exchange(auth, credentials.admin_api_key)
    assert (await verify(auth, credentials.ingest_token)).state == pb.VerifyIngestTokenResponse.STATE_VALID


async def test_first_credentials_work_and_are_found_again(auth: Auth) -> None:
    first = await make(auth)
    await check(auth, first)
    assert await make(auth, first, graphql_url="http://ignored") == first
    async with unit_of_work(auth.engine) as session:
        assert len((await session.execute(text("SELECT 1 FROM auth.api_keys"))).all()) == 2


async def test_lost_credentials_are_made_anew_and_old_sessions_of_admin_end(auth: Auth) -> None:
    first = await make(auth)
    session = await auth.login("admin", first.admin_password)
    second = await make(auth)
    await check(auth, second)
    assert len({*asdict(first).values(), *asdict(second).values()}) == 7
    with pytest.raises(Unauthenticated):
        await auth.login("admin", first.admin_password)
    with pytest.raises(Unauthenticated):
        await (await auth.stub()).Refresh(pb.RefreshRequest(refresh_token=session.tokens.refresh_token))
    # An agent may still send with the token that was lost here.
    assert (await verify(auth, first.ingest_token)).state == pb.VerifyIngestTokenResponse.STATE_VALID


async def test_password_of_admin_stays_when_another_admin_can_help(auth: Auth) -> None:
    first = await make(auth)
    await auth.add_user("other", "admin")
    second = await make(auth)
    assert second.admin_password == ""
    assert second.admin_api_key != first.admin_api_key
    await auth.login("admin", first.admin_password)


async def test_revoked_key_is_replaced(auth: Auth) -> None:
    first = await make(auth)
    async with unit_of_work(auth.engine) as session:
        await session.execute(update(ApiKey).where(ApiKey.kind == "api").values(revoked_at=text("now()")))
    second = await make(auth, first)
    assert second.admin_api_key != first.admin_api_key
    assert (second.admin_password, second.ingest_token) == (first.admin_password, first.ingest_token)
    await check(auth, second)


def run(arguments: list[str], database_url: str, known: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {
        "ELIS_DATABASE_URL": database_url,
        "ELIS_REDIS_URL": "redis://127.0.0.1:1/0",
        "ELIS_SERVICE_SECRET": SECRET,
        "ELIS_PASSWORD_ROUNDS": str(ROUNDS),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'protos/gen'}",
        "COLUMNS": "200",
    }
    return subprocess.run([sys.executable, *arguments], env={**os.environ, **settings, **environment}, input=known, capture_output=True, text=True, cwd=ROOT)


def test_program_prints_json_and_finds_it_again(database_url: str) -> None:
    first = run(["-m", "services.auth.bootstrap"], database_url, "{}")
    assert first.returncode == 0, first.stderr
    assert set(json.loads(first.stdout)) == {"admin_username", "admin_password", "admin_api_key", "ingest_token"}
    second = run(["-m", "services.auth.bootstrap"], database_url, first.stdout)
    assert json.loads(second.stdout) == json.loads(first.stdout)


def test_program_says_in_one_sentence_what_is_wrong(database_url: str) -> None:
    for result in (
        run(["-m", "services.auth.bootstrap"], database_url, "[1]"),
        run(["-m", "services.auth.bootstrap"], "postgresql://nobody@127.0.0.1:1/none", "{}"),
        run(["-m", "services.auth.bootstrap"], database_url.replace("/test_", "/absent_"), "{}"),
    ):
        assert result.returncode == 1
        assert result.stdout == ""
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr


# One process for all commands: starting Python costs more than what they do.
_ADMIN = """
import sys, json
from services.auth.command import app
for arguments in json.loads(sys.stdin.read()):
    for stream in (sys.stdout, sys.stderr):
        print("$", *arguments, file=stream)
    try:
        app(arguments)
    except SystemExit as ended:
        print("exit code", ended.code)
"""


def test_elis_admin_commands(database_url: str) -> None:
    commands = [
        ["bootstrap"],
        ["bootstrap"],
        ["create-user", "ada", "--role", "viewer"],
        ["create-user", "ADA", "--role", "viewer"],
        ["create-user", "bob", "--role", "god"],
        ["rotate-keys"],
        ["verify-audit"],
    ]
    result = run(["-c", _ADMIN], database_url, json.dumps(commands))
    said = [part.splitlines()[1:] for part in result.stdout.split("$ ")[1:]]
    complained = [part.splitlines()[1:] for part in result.stderr.split("$ ")[1:]]
    assert [lines[-1] for lines in said] == [f"exit code {code}" for code in (0, 1, 0, 1, 1, 0, 0)], result.stderr
    assert [line.split()[0] for line in said[0]] == ["username", "password", "api", "ingest", "exit"]
    assert complained[1] == ["elis: an admin exists already; add another one with `elis admin create-user`"]
    assert complained[3] == ["elis: user ADA exists already"]
    assert complained[4] == ["elis: the role must be one of viewer, analyst, operator, admin, not 'god'"]
    assert said[5][0].startswith("key ")
    assert said[6][0].startswith("5 entries, unchanged, last hash ")
