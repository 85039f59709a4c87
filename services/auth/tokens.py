"""Access tokens: JWTs of the RFC 9068 profile that `kit.auth.Verifier` demands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import time
from uuid import uuid4

from joserfc import jwt

from kit.auth import AUDIENCE
from services.auth.models import ApiKey, User
from services.auth.scopes import ROLES, SERVICE_ROLE, SERVICE_SCOPES
from services.auth.signing import ALGORITHM, KeyRing

FIRST_PARTY = "elis"
"""`client_id` of users: they sign in with ELIS itself."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A signed token and when it expires."""

    text: str
    expires_at: datetime


class TokenMint:
    """Signs access tokens.

    `iat` has microseconds: a revocation ends what was issued before it, and what follows within
    the same second must work. So mint within the transaction that holds the lock on the row told of.
    """

    def __init__(self, ring: KeyRing, issuer: str, lifetime: timedelta) -> None:
        self._ring = ring
        self._issuer = issuer
        self._lifetime = lifetime

    def for_user(self, user: User, session_id: str) -> AccessToken:
        """Returns a token of a signed-in user; `session_id` is the refresh family."""
        return self._sign(f"user:{user.id}", user.username, "user", user.role, ROLES[user.role], FIRST_PARTY, session_id=session_id)

    def for_key(self, key: ApiKey) -> AccessToken:
        """Returns a token of an API client; it does not outlive the key."""
        return self._sign(f"key:{key.id}", key.name, "key", key.role, ROLES[key.role], key.prefix, not_after=key.expires_at)

    def for_service(self, service: str) -> AccessToken:
        """Returns a target's own token."""
        return self._sign(f"service:{service}", service, "service", SERVICE_ROLE, SERVICE_SCOPES, service)

    def _sign(
        self,
        subject: str,
        name: str,
        kind: str,
        role: str,
        scopes: Iterable[str],
        client_id: str,
        *,
        session_id: str = "",
        not_after: datetime | None = None,
    ) -> AccessToken:
        signer = self._ring.signer()
        now = time()
        expires_at = int(now + self._lifetime.total_seconds())
        if not_after is not None:
            expires_at = min(expires_at, int(not_after.timestamp()))
        claims = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": subject,
            "name": name,
            "kind": kind,
            "role": role,
            "scope": " ".join(sorted(scopes)),
            "iat": round(now, 6),
            "exp": expires_at,
            "jti": uuid4().hex,
            "client_id": client_id,
        }
        if session_id:
            claims["sid"] = session_id
        text = jwt.encode({"alg": ALGORITHM, "typ": "at+jwt", "kid": signer.id}, claims, signer.key, algorithms=[ALGORITHM])
        return AccessToken(text, datetime.fromtimestamp(expires_at, UTC))
