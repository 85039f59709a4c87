"""Signing in and staying signed in: the steps of Login, Refresh and Logout, each in its transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from kit.auth import Principal
from kit.db import unit_of_work
from kit.errors import Conflict, InvalidArgument, PermissionDenied, Unauthenticated
from services.auth import audit
from services.auth.accounts import find_user, get_user
from services.auth.attempts import LoginAttempts
from services.auth.models import User
from services.auth.passwords import PasswordHasher
from services.auth.refresh import RefreshTokens, end_family, find_family, find_owner
from services.auth.revocations import revoke
from services.auth.tokens import AccessToken, TokenMint

_MOST_OF_A_NAME = 64
_NOT_HONOURED = "the refresh token is not valid; sign in again"


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Tokens of a session."""

    access: AccessToken
    refresh_token: str
    refresh_expires_at: datetime
    user: User


class SignIn:
    """Opens, continues and closes sessions of users."""

    def __init__(self, engine: AsyncEngine, hasher: PasswordHasher, attempts: LoginAttempts, refresh: RefreshTokens, mint: TokenMint) -> None:
        self._engine = engine
        self._hasher = hasher
        self._attempts = attempts
        self._refresh = refresh
        self._mint = mint

    async def login(self, username: str, password: str) -> SignedIn:
        """Checks a password and opens a refresh family.

        Raises Unauthenticated with one and the same text and after the same work for a wrong password, an unknown
        and a disabled user; RateLimited after too many failures of the name.
        """
        async with self._hasher.admission(), self._attempts.turn(username):
            await self._attempts.begin(username)
            # No connection is held while the password is hashed.
            async with unit_of_work(self._engine) as session:
                found = await find_user(session, username)
            verdict = await self._hasher.check(password, found.password_hash if found is not None else None)
            if found is not None and verdict.matches and not found.disabled:
                signed_in = await self._open(found, verdict.rehashed)
                if signed_in is not None:
                    await self._attempts.succeeded(username)
                    return signed_in
            async with unit_of_work(self._engine) as session:
                target = f"user:{found.id}" if found is not None else ""
                await audit.record(session, audit.LOGIN_FAILED, target, {"username": username[:_MOST_OF_A_NAME]})
        raise Unauthenticated("the username or the password is wrong")

    async def _open(self, found: User, rehashed: str | None) -> SignedIn | None:
        async with unit_of_work(self._engine) as session:
            user = await find_user(session, found.username, lock=True)
            if user is None or user.disabled:
                return None
            if user.password_hash != found.password_hash:
                raise Conflict("the account changed while you signed in; sign in again")
            user.last_login_at = datetime.now(UTC)
            if rehashed is not None:
                user.password_hash = rehashed
            family, token = await self._refresh.open_family(session, user.id)
            access = self._mint.for_user(user, str(family.id))
            await audit.record(session, audit.LOGIN_SUCCEEDED, f"user:{user.id}", {"username": user.username}, actor=f"user:{user.id}")
        return SignedIn(access, token, family.expires_at, user)

    async def refresh(self, token: str) -> SignedIn:
        """Rotates a refresh token; raises Unauthenticated. Reuse of an old one closes the family for good."""
        async with unit_of_work(self._engine) as session:
            # Users are locked before their families, here and where users are changed.
            owner = await find_owner(session, token)
            user = await get_user(session, owner, lock=True) if owner is not None else None
            if user is None:
                raise Unauthenticated(_NOT_HONOURED)
            rotation = await self._refresh.rotate(session, token)
            family = rotation.family
            if rotation.token is not None and not user.disabled:
                return SignedIn(self._mint.for_user(user, str(family.id)), rotation.token, family.expires_at, user)
            if rotation.reused:
                await end_family(session, family.id, "an old refresh token was used again")
                await revoke(session, f"session:{family.id}")
                await audit.record(session, audit.TOKEN_REUSED, f"user:{family.user_id}", {"session": str(family.id)})
        # After the commit: the end of the family must last.
        raise Unauthenticated(_NOT_HONOURED)

    async def logout(self, caller: Principal, token: str) -> None:
        """Closes the caller's session, and the refresh token's when another one of the same user is given."""
        if caller.kind != "user":
            raise InvalidArgument(f"a {caller.kind} has no session to close")
        async with unit_of_work(self._engine) as session:
            ending = {caller.session_id} if caller.session_id else set()
            if token:
                family = await find_family(session, token)
                if family is not None:
                    if f"user:{family.user_id}" != caller.subject:
                        raise PermissionDenied("the refresh token belongs to somebody else")
                    ending.add(str(family.id))
            for session_id in sorted(ending):
                await end_family(session, UUID(session_id), "signed out")
                await revoke(session, f"session:{session_id}")
            await audit.record(session, audit.SESSION_ENDED, caller.subject, {"sessions": sorted(ending)})
