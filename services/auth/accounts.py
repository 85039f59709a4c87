"""Users: found, listed, added, changed. ELIS never loses its last admin."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from kit.errors import AlreadyExists, InvalidArgument, NotFound
from kit.rows import uuid7
from services.auth import audit
from services.auth.labels import check_label
from services.auth.models import User
from services.auth.refresh import end_families_of
from services.auth.revocations import revoke
from services.auth.scopes import ADMIN, check_role

_USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def fold_username(username: str) -> str | None:
    """Returns the form that is unique; None when nobody can have this name."""
    return username.lower() if _USERNAME.fullmatch(username) else None


def check_username(username: str) -> str:
    """Returns the username; raises InvalidArgument when nobody may have it."""
    if fold_username(username) is None:
        raise InvalidArgument(f"the username must be 1 to 64 letters, digits or . _ @ - and begin with a letter or digit, not {username[:80]!r}")
    return username


async def find_user(session: AsyncSession, username: str, *, lock: bool = False) -> User | None:
    """Returns the user of this name in any case, locked when asked; None when there is none."""
    folded = fold_username(username)
    if folded is None:
        return None
    statement = select(User).where(User.username_key == folded)
    return (await session.scalars(statement.with_for_update(key_share=True) if lock else statement)).one_or_none()


async def get_user(session: AsyncSession, user_id: UUID, *, lock: bool = False) -> User | None:
    """Returns the user with this id, share-locked when asked; None when there is none."""
    statement = select(User).where(User.id == user_id)
    return (await session.scalars(statement.with_for_update(read=True) if lock else statement)).one_or_none()


async def list_users(session: AsyncSession, limit: int, after: str | None) -> Sequence[User]:
    """Returns users in order of name, those after the name `after`."""
    statement = select(User).order_by(User.username_key).limit(limit)
    if after is not None:
        statement = statement.where(User.username_key > after)
    return (await session.scalars(statement)).all()


async def has_admin(session: AsyncSession, *, besides: UUID | None = None) -> bool:
    """Says whether an enabled admin exists; holds every such row until the commit, so that it stays true."""
    statement = select(User.id).where(User.role == ADMIN, User.disabled.is_(False)).order_by(User.id).with_for_update()
    return any(user_id != besides for user_id in (await session.scalars(statement)).all())


async def create_user(session: AsyncSession, *, username: str, password_hash: str, role: str, display_name: str, actor: str | None = None) -> User:
    """Adds a user whose password was checked and hashed before. Raises InvalidArgument or AlreadyExists."""
    check_username(username)
    check_role(role)
    user = {
        "id": uuid7(),
        "username": username,
        "username_key": username.lower(),
        "display_name": check_label("display name", display_name or username),
        "role": role,
        "password_hash": password_hash,
        "disabled": False,
        "created_at": datetime.now(UTC),
        "last_login_at": None,
    }
    statement = insert(User).values(user).on_conflict_do_nothing(index_elements=[User.username_key]).returning(User)
    row = (await session.scalars(statement)).one_or_none()
    if row is None:
        raise AlreadyExists(f"user {username} exists already", username=username)
    await audit.record(session, audit.USER_CREATED, f"user:{row.id}", {"username": username, "role": role}, actor=actor)
    return row


async def update_user(
    session: AsyncSession,
    user_id: UUID,
    *,
    role: str | None = None,
    disabled: bool | None = None,
    display_name: str | None = None,
) -> User:
    """Changes what is given. A new role and disabling end every session of the user at once.

    Raises NotFound, or InvalidArgument, also when it would leave ELIS without an admin.
    """
    if role is not None:
        check_role(role)
    if display_name is not None:
        check_label("display name", display_name)
    if role not in (None, ADMIN) or disabled:
        # Before the row itself, so that two admins who demote each other do not wait for each other.
        other_admin = await has_admin(session, besides=user_id)
    else:
        other_admin = True
    user = (await session.scalars(select(User).where(User.id == user_id).with_for_update().execution_options(populate_existing=True))).one_or_none()
    if user is None:
        raise NotFound(f"user {user_id} does not exist", id=str(user_id))
    new_role = user.role if role is None else role
    new_disabled = user.disabled if disabled is None else disabled
    was_admin = user.role == ADMIN and not user.disabled
    if was_admin and not other_admin and (new_role != ADMIN or new_disabled):
        raise InvalidArgument(f"user {user.username} is the last admin; make another one first", id=str(user_id))
    changes: dict[str, object] = {}
    if new_role != user.role:
        changes["role"] = [user.role, new_role]
    if new_disabled != user.disabled:
        changes["disabled"] = [user.disabled, new_disabled]
    if display_name is not None and display_name != user.display_name:
        changes["display_name"] = [user.display_name, display_name]
        user.display_name = display_name
    user.role = new_role
    user.disabled = new_disabled
    if "role" in changes or changes.get("disabled") == [False, True]:
        await end_sessions(session, user, "role changed" if "role" in changes else "user disabled")
    if changes:
        action = audit.ROLE_CHANGED if "role" in changes else audit.USER_UPDATED
        await audit.record(session, action, f"user:{user.id}", {"username": user.username, **changes})
    return user


async def end_sessions(session: AsyncSession, user: User, reason: str) -> None:
    """Ends every refresh family and every access token of a user."""
    await end_families_of(session, user.id, reason)
    await revoke(session, f"user:{user.id}")
