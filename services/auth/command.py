"""`elis admin`: what an operator does to the accounts of a stack, on its database."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated, TypeVar

import typer
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from kit.auth import LEEWAY_SECONDS
from kit.db import open_engine, unit_of_work
from kit.errors import AlreadyExists, ElisError
from kit.settings import load_settings
from kit.telemetry import configure_logging
from kit.terminal import complain, console
from services.auth import accounts
from services.auth.audit import ChainReport, verify_chain
from services.auth.bootstrap import Credentials
from services.auth.bootstrap import bootstrap as make_credentials
from services.auth.passwords import PasswordHash, load_policy
from services.auth.scopes import check_role
from services.auth.settings import AuthSettings
from services.auth.signing import PUBLISHED_AHEAD, KeySealer, rotate

ACTOR = "elis admin"
_PASSWORD_BYTES = 18

ResultT = TypeVar("ResultT")

app = typer.Typer(no_args_is_help=True, help="Accounts, keys and the audit log; works on the database that ELIS_DATABASE_URL names.")


@app.command()
def bootstrap() -> None:
    """Makes the first admin, an API key and an ingest token, and prints them this once."""

    async def make(settings: AuthSettings, engine: AsyncEngine) -> Credentials:
        async with unit_of_work(engine) as session:
            if await accounts.has_admin(session):
                raise AlreadyExists("an admin exists already; add another one with `elis admin create-user`")
        return await make_credentials(engine, settings.password_rounds, {})

    made = _run(make)
    console.print("shown this once; keep it safe")
    print(f"username      {made.admin_username}")
    print(f"password      {made.admin_password}")
    print(f"api key       {made.admin_api_key}")
    print(f"ingest token  {made.ingest_token}")


@app.command()
def create_user(
    username: str,
    role: Annotated[str, typer.Option(help="viewer, analyst, operator or admin.")],
    display_name: Annotated[str, typer.Option(help="The username when not given.")] = "",
) -> None:
    """Adds a user with a random password and prints it this once."""
    password = secrets.token_urlsafe(_PASSWORD_BYTES)

    async def create(settings: AuthSettings, engine: AsyncEngine) -> None:
        check_role(role)
        load_policy().check(password, accounts.check_username(username))
        hashed = str(PasswordHash.create(password, settings.password_rounds))
        async with unit_of_work(engine) as session:
            await accounts.create_user(session, username=username, password_hash=hashed, role=role, display_name=display_name, actor=ACTOR)

    _run(create)
    console.print(f"user {username} may sign in as {role}; the password is shown this once")
    print(password)


@app.command()
def verify_audit() -> None:
    """Reads the whole audit log and checks that nothing in it was changed; exits with 1 when something was."""

    async def verify(_: AuthSettings, engine: AsyncEngine) -> ChainReport:
        async with unit_of_work(engine) as session:
            return await verify_chain(session)

    report = _run(verify)
    if report.broken_at is not None:
        complain(f"the audit log was changed: entry {report.broken_at} does not follow from the {report.entries} before it")
        raise SystemExit(1)
    print(f"{report.entries} entries, unchanged, last hash {report.last_hash}")


@app.command()
def rotate_keys(
    drop_old: Annotated[bool, typer.Option("--drop-old", help="End the old keys, and all access tokens with them, at once: for a stolen key.")] = False,
) -> None:
    """Makes a new key for access tokens. It signs after a minute; the old one verifies until its tokens have expired."""

    async def make(settings: AuthSettings, engine: AsyncEngine) -> str:
        sealer = KeySealer(settings.service_secret.get_secret_value())
        kept_for = settings.access_token_lifetime + timedelta(seconds=2 * LEEWAY_SECONDS)
        async with unit_of_work(engine) as session:
            key = await rotate(session, sealer, kept_for, ahead=timedelta(0) if drop_old else PUBLISHED_AHEAD, drop_old=drop_old, actor=ACTOR)
            return f"key {key.id} signs from {key.signs_from.isoformat(timespec='seconds')}"

    print(_run(make))


def _run(work: Callable[[AuthSettings, AsyncEngine], Awaitable[ResultT]]) -> ResultT:
    """Runs work on the database; an error becomes one sentence and exit code 1."""
    settings = load_settings(AuthSettings)
    # What was done is said on the terminal; the log would repeat it.
    configure_logging("admin", settings.model_copy(update={"log_level": "warning"}))

    async def run() -> ResultT:
        async with open_engine(settings, "admin") as engine:
            return await work(settings, engine)

    try:
        return asyncio.run(run())
    except ElisError as error:
        complain(error.message)
    except SQLAlchemyError as error:
        complain(f"{str(error).splitlines()[0]}; run `elis migrate auth` first if the database is new")
    raise SystemExit(1)
