"""API keys and ingest tokens: made, found, used, ended. Secrets are shown once and kept as SHA-256."""

from __future__ import annotations

import hashlib
import os
import secrets
from base64 import b32encode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from kit.errors import InvalidArgument, NotFound
from kit.rows import uuid7
from services.auth import audit
from services.auth.labels import check_label
from services.auth.models import ApiKey
from services.auth.revocations import revoke
from services.auth.scopes import check_role

API = "api"
INGEST = "ingest"
KEY_MARK = "elis_"
"""Makes a leaked key easy to find for secret scanners."""
SECRET_BYTES = 20
_PREFIX_BYTES = 4
MAX_PER_SECOND = 10**12
_USE_NOTED_EVERY = timedelta(minutes=1)


def make_api_key() -> str:
    """Returns `elis_` + 8 characters to recognise it by + 160 random bits in base32."""
    return f"{KEY_MARK}{secrets.token_hex(_PREFIX_BYTES)}_{b32encode(os.urandom(SECRET_BYTES)).decode().lower()}"


def make_ingest_token() -> str:
    """Returns a GUID with 122 random bits: Splunk clients take nothing else."""
    return str(uuid4())


async def create_key(
    session: AsyncSession,
    *,
    name: str,
    kind: str,
    role: str = "",
    source: str = "",
    ack: bool = False,
    events_per_second: int | None = None,
    bytes_per_second: int | None = None,
    expires_at: datetime | None = None,
    actor: str | None = None,
    created_by: str = "",
) -> tuple[ApiKey, str]:
    """Makes a key; returns it and its secret. Raises InvalidArgument naming what is wrong."""
    now = datetime.now(UTC)
    check_label("name", name)
    limits = {"events_per_second": _check_limit("events", events_per_second), "bytes_per_second": _check_limit("bytes", bytes_per_second)}
    if kind == API:
        check_role(role)
        if source:
            raise InvalidArgument("only ingest tokens are bound to a source", source=source)
        if ack:
            raise InvalidArgument("only ingest tokens have acknowledgement")
        if any(limits.values()):
            raise InvalidArgument("only ingest tokens have limits")
        secret = make_api_key()
        prefix = secret.rpartition("_")[0]
    elif kind == INGEST:
        if role:
            raise InvalidArgument("an ingest token has no role", role=role)
        if source:
            check_label("source", source)
        secret = make_ingest_token()
        prefix = secret.partition("-")[0]
    else:
        raise InvalidArgument(f"the kind must be {API} or {INGEST}, not {kind!r}", kind=kind)
    if expires_at is not None and expires_at <= now:
        raise InvalidArgument(f"the key would already have expired at {expires_at.isoformat()}")
    key = ApiKey(
        id=uuid7(),
        name=name,
        kind=kind,
        prefix=prefix,
        secret_hash=hash_secret(secret),
        role=role,
        source=source,
        ack=ack,
        **limits,
        created_at=now,
        created_by=created_by,
        expires_at=expires_at,
        last_used_at=None,
        revoked_at=None,
    )
    session.add(key)
    await session.flush()
    detail = {"name": name, "kind": kind, "role": role, "source": source, "ack": ack, **{limit: value for limit, value in limits.items() if value}}
    await audit.record(session, audit.KEY_CREATED, f"key:{key.id}", detail, actor=actor)
    return key, secret


async def update_key(session: AsyncSession, key_id: UUID, *, events_per_second: int | None = None, bytes_per_second: int | None = None) -> ApiKey:
    """Changes the limits of an ingest token: None leaves one as it is, 0 takes it off.

    Raises NotFound, and InvalidArgument for a key that has no limits, has been ended, or for a number out of range.
    """
    key = await _lock_key(session, key_id)
    if key.kind != INGEST:
        raise InvalidArgument("only ingest tokens have limits", id=str(key_id))
    if key.revoked:
        raise InvalidArgument(f"key {key_id} has been ended; make a new one", id=str(key_id))
    given = {"events_per_second": events_per_second, "bytes_per_second": bytes_per_second}
    changes = {limit: _check_limit(limit.partition("_")[0], value) for limit, value in given.items() if value is not None}
    before = {limit: getattr(key, limit) for limit in changes}
    if changes == before:
        return key
    for limit, value in changes.items():
        setattr(key, limit, value)
    detail = {"name": key.name, "from": {limit: value or 0 for limit, value in before.items()}, "to": {limit: value or 0 for limit, value in changes.items()}}
    await audit.record(session, audit.KEY_UPDATED, f"key:{key.id}", detail)
    return key


async def find_key(session: AsyncSession, secret: str, kind: str) -> ApiKey | None:
    """Returns the key with this secret, usable or not, locked; notes the use of a usable one, once a minute."""
    statement = select(ApiKey).where(ApiKey.secret_hash == hash_secret(secret), ApiKey.kind == kind)
    key = (await session.scalars(statement.with_for_update(key_share=True))).one_or_none()
    if key is None:
        return None
    now = datetime.now(UTC)
    if key.is_usable(now) and (key.last_used_at is None or key.last_used_at < now - _USE_NOTED_EVERY):
        key.last_used_at = now
    return key


async def list_keys(session: AsyncSession, limit: int, before: UUID | None) -> Sequence[ApiKey]:
    """Returns keys of both kinds, newest first, those older than the key `before`."""
    statement = select(ApiKey).order_by(ApiKey.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(ApiKey.id < before)
    return (await session.scalars(statement)).all()


async def revoke_key(session: AsyncSession, key_id: UUID) -> ApiKey:
    """Ends a key and the access tokens it was exchanged for; an ended one stays as it is. Raises NotFound."""
    key = await _lock_key(session, key_id)
    if key.revoked_at is None:
        key.revoked_at = datetime.now(UTC)
        await revoke(session, f"key:{key.id}")
        await audit.record(session, audit.KEY_REVOKED, f"key:{key.id}", {"name": key.name})
    return key


async def _lock_key(session: AsyncSession, key_id: UUID) -> ApiKey:
    key = (await session.scalars(select(ApiKey).where(ApiKey.id == key_id).with_for_update())).one_or_none()
    if key is None:
        raise NotFound(f"key {key_id} does not exist", id=str(key_id))
    return key


def _check_limit(what: str, limit: int | None) -> int | None:
    """Returns a limit as it is kept: None for none."""
    if limit is not None and not 0 <= limit <= MAX_PER_SECOND:
        raise InvalidArgument(f"a limit is 1 to {MAX_PER_SECOND} {what} per second, or 0 for none, not {limit}")
    return limit or None


def hash_secret(secret: str) -> bytes:
    """Returns what is kept of a secret. Upper and lower case of a GUID are the same token."""
    return hashlib.sha256((secret if secret.startswith(KEY_MARK) else secret.lower()).encode()).digest()
