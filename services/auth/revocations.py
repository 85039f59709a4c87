"""Access tokens that end before they expire: which subjects' tokens, issued until when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from kit.auth import LEEWAY_SECONDS
from services.auth.models import Revocation

MOST = 10_000
"""Revocations in one answer."""


async def revoke(session: AsyncSession, *subjects: str) -> None:
    """Ends all access tokens of these subjects that were issued until now."""
    now = datetime.now(UTC)
    for subject in subjects:
        statement = insert(Revocation).values(subject=subject, revoked_at=now)
        await session.execute(statement.on_conflict_do_update(index_elements=[Revocation.subject], set_={"revoked_at": now}))


async def list_revocations(session: AsyncSession, since: datetime | None) -> Sequence[Revocation]:
    """Returns the oldest `MOST` revocations after `since`, in order of time; from the first one when None."""
    statement = select(Revocation).order_by(Revocation.revoked_at, Revocation.subject).limit(MOST)
    if since is not None:
        statement = statement.where(Revocation.revoked_at > since)
    return (await session.scalars(statement)).all()


async def prune_revocations(session: AsyncSession, token_lifetime: timedelta) -> None:
    """Removes revocations of which no unexpired token can be left."""
    oldest = datetime.now(UTC) - token_lifetime - timedelta(seconds=2 * LEEWAY_SECONDS)
    await session.execute(delete(Revocation).where(Revocation.revoked_at < oldest))
