"""Refresh tokens: opaque, valid once, in families that end when an old one shows up again.

A client whose answer got lost repeats its call with the token it has. For ten seconds the immediate predecessor
of the newest token is therefore honoured and gets the same successor again: it is not kept, but derived from
the predecessor, a random salt in the database and a key that is not there.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from kit.rows import uuid7
from services.auth.derivation import derive_key
from services.auth.models import RefreshFamily, RefreshToken

GRACE = timedelta(seconds=10)
TOKEN_BYTES = 32
_REMEMBERED = timedelta(days=7)
"""How long ended and expired families are kept, for whoever looks into an incident."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """What presenting a refresh token led to."""

    family: RefreshFamily
    token: str | None
    """The successor; None: the token is not honoured."""
    reused: bool = False
    """The token was used before: the family has to end."""


class RefreshTokens:
    """Issues and rotates. Callers hold the transaction and decide about users."""

    def __init__(self, service_secret: str, lifetime: timedelta) -> None:
        self._key = derive_key(service_secret, "refresh tokens")
        self._lifetime = lifetime

    async def open_family(self, session: AsyncSession, user_id: UUID) -> tuple[RefreshFamily, str]:
        """Begins a family; returns it and its first token."""
        now = datetime.now(UTC)
        family = RefreshFamily(
            id=uuid7(),
            user_id=user_id,
            generation=1,
            created_at=now,
            expires_at=now + self._lifetime,
            ended_at=None,
            end_reason="",
        )
        session.add(family)
        await session.flush()
        token = _encode(os.urandom(TOKEN_BYTES))
        session.add(_row(token, family, now))
        return family, token

    async def rotate(self, session: AsyncSession, token: str) -> Rotation:
        """Uses a token, one of ours, up and returns its successor. Serialised by the lock on the family."""
        family = await find_family(session, token)
        assert family is not None
        # Read after the lock was had: it shows what a concurrent use did.
        row = (await session.scalars(select(RefreshToken).where(RefreshToken.token_hash == _hash(token)))).one()
        now = datetime.now(UTC)
        if family.ended_at is not None or now >= family.expires_at:
            return Rotation(family, None)
        if row.used_at is None:
            row.used_at = now
            row.successor_salt = os.urandom(TOKEN_BYTES)
            family.generation += 1
            successor = self._successor(token, row.successor_salt)
            session.add(_row(successor, family, now))
            return Rotation(family, successor)
        if row.generation == family.generation - 1 and now - row.used_at <= GRACE and row.successor_salt is not None:
            return Rotation(family, self._successor(token, row.successor_salt))
        return Rotation(family, None, reused=True)

    def _successor(self, token: str, salt: bytes) -> str:
        return _encode(hmac.digest(self._key, salt + token.encode(), "sha256"))


async def find_owner(session: AsyncSession, token: str) -> UUID | None:
    """Returns the id of the user whose token this is; None when the token is not one of ours."""
    statement = select(RefreshFamily.user_id).join(RefreshToken, RefreshToken.family_id == RefreshFamily.id)
    return await session.scalar(statement.where(RefreshToken.token_hash == _hash(token)))


async def find_family(session: AsyncSession, token: str) -> RefreshFamily | None:
    """Returns the family of a token, used or not, locked; None when the token is not one of ours."""
    statement = select(RefreshFamily).join(RefreshToken, RefreshToken.family_id == RefreshFamily.id).where(RefreshToken.token_hash == _hash(token))
    return (await session.scalars(statement.with_for_update(of=RefreshFamily))).one_or_none()


async def end_family(session: AsyncSession, family_id: UUID, reason: str) -> None:
    """Ends a family, once."""
    statement = update(RefreshFamily).where(RefreshFamily.id == family_id, RefreshFamily.ended_at.is_(None))
    await session.execute(statement.values(ended_at=datetime.now(UTC), end_reason=reason))


async def end_families_of(session: AsyncSession, user_id: UUID, reason: str) -> None:
    """Ends every family of a user."""
    statement = update(RefreshFamily).where(RefreshFamily.user_id == user_id, RefreshFamily.ended_at.is_(None))
    await session.execute(statement.values(ended_at=datetime.now(UTC), end_reason=reason))


async def prune_families(session: AsyncSession) -> None:
    """Removes families, with their tokens, that have been of no use for a week."""
    oldest = datetime.now(UTC) - _REMEMBERED
    await session.execute(delete(RefreshFamily).where((RefreshFamily.expires_at < oldest) | (RefreshFamily.ended_at < oldest)))


def _row(token: str, family: RefreshFamily, now: datetime) -> RefreshToken:
    return RefreshToken(token_hash=_hash(token), family_id=family.id, generation=family.generation, created_at=now, used_at=None, successor_salt=None)


def _hash(token: str) -> bytes:
    # 256 random bits need no salt and no slow hash.
    return hashlib.sha256(token.encode()).digest()


def _encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")
