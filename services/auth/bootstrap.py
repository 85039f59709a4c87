"""The first admin, an admin's API key and an ingest token, for whoever owns the machine.

`python -m services.auth.bootstrap` works on the database itself: it reads the credentials that are known (a JSON
object, may be empty) from stdin and prints all of them to stdout. What still works is returned unchanged. What is
missing, or works no longer, is made anew:

* no admin: user `admin` with a random password;
* the password of `admin` is not known: it is reset, which ends the sessions of `admin` - unless another enabled
  admin exists, who can look after the accounts; then it stays as it is and the password is returned empty;
* the API key or the ingest token is not known: a new one is added. The lost one keeps working, because an agent
  somewhere may use it; revoke it when it should not.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from kit.db import open_engine, unit_of_work
from kit.errors import ElisError
from kit.settings import load_settings
from kit.telemetry import configure_logging
from services.auth import accounts, audit, keys
from services.auth.passwords import PasswordHash
from services.auth.scopes import ADMIN
from services.auth.settings import AuthSettings

ACTOR = "bootstrap"
USERNAME = "admin"
_PASSWORD_BYTES = 18
_ADVISORY_LOCK = 0x626F6F74  # "boot": one bootstrap at a time


@dataclass(frozen=True, slots=True)
class Credentials:
    """What opens ELIS."""

    admin_username: str
    admin_password: str
    """Empty when it is not known and another admin has to be asked."""
    admin_api_key: str
    ingest_token: str


async def bootstrap(engine: AsyncEngine, password_rounds: int, known: dict[str, str]) -> Credentials:
    """Returns working credentials, made where the known ones do not work."""
    async with unit_of_work(engine) as session:
        await session.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        # All that is known is looked at before the first change: the audit log is locked from then on.
        api_key = await _check_key(session, keys.API, ADMIN, known.get("admin_api_key", ""))
        ingest_token = await _check_key(session, keys.INGEST, "", known.get("ingest_token", ""))
        password = await _ensure_admin(session, password_rounds, known.get("admin_password", ""))
        return Credentials(
            USERNAME,
            password,
            api_key or await _make_key(session, keys.API, ADMIN, "first API key"),
            ingest_token or await _make_key(session, keys.INGEST, "", "first ingest token"),
        )


async def _ensure_admin(session: AsyncSession, rounds: int, password: str) -> str:
    user = await accounts.find_user(session, USERNAME, lock=True)
    if user is not None and password and PasswordHash.parse(user.password_hash).matches(password):
        return password
    if await accounts.has_admin(session, besides=user.id if user is not None else None):
        return ""
    password = secrets.token_urlsafe(_PASSWORD_BYTES)
    password_hash = str(PasswordHash.create(password, rounds))
    if user is None:
        await accounts.create_user(session, username=USERNAME, password_hash=password_hash, role=ADMIN, display_name="Administrator", actor=ACTOR)
        return password
    user.password_hash = password_hash
    user.role = ADMIN
    user.disabled = False
    await accounts.end_sessions(session, user, "password reset")
    await audit.record(session, audit.PASSWORD_RESET, f"user:{user.id}", {"username": user.username}, actor=ACTOR)
    return password


async def _check_key(session: AsyncSession, kind: str, role: str, secret: str) -> str | None:
    """Returns the secret when it opens what it should."""
    key = await keys.find_key(session, secret, kind) if secret else None
    return secret if key is not None and key.is_usable(datetime.now(UTC)) and key.role == role else None


async def _make_key(session: AsyncSession, kind: str, role: str, name: str) -> str:
    _, secret = await keys.create_key(session, name=name, kind=kind, role=role, actor=ACTOR, created_by=ACTOR)
    return secret


async def open_and_bootstrap(settings: AuthSettings, known: dict[str, str]) -> Credentials:
    """Does it on the database of the settings."""
    async with open_engine(settings, "bootstrap") as engine:
        return await bootstrap(engine, settings.password_rounds, known)


def main() -> None:
    """Reads known credentials from stdin and prints working ones; exits with 1 and one sentence when it cannot."""
    settings = load_settings(AuthSettings)
    configure_logging("bootstrap", settings.model_copy(update={"log_level": "warning"}))
    try:
        known = json.loads(sys.stdin.read() or "{}")
        if not isinstance(known, dict) or not all(isinstance(value, str) for value in known.values()):
            raise ValueError("it is not an object of texts")
    except ValueError as error:
        raise SystemExit(f"the known credentials on stdin cannot be read: {error}") from None
    try:
        credentials = asyncio.run(open_and_bootstrap(settings, known))
    except (ElisError, SQLAlchemyError) as error:
        raise SystemExit(str(error).splitlines()[0]) from None
    print(json.dumps(asdict(credentials)))


if __name__ == "__main__":
    main()
