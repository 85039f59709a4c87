"""Who calls, and what they may do: verification only. The auth service issues."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic, time
from typing import Any, TypeVar

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, OKPKey

from kit.errors import PermissionDenied, Unauthenticated, Unavailable

AUDIENCE = "elis"
ALGORITHMS = ["Ed25519", "ES256"]
MAX_TOKEN_BYTES = 8192
LEEWAY_SECONDS = 30
_COMPACT = re.compile(r"[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]{2,}")
_REFETCH_SECONDS = 10.0
_VERIFIED_TOKENS = 10_000
"""Tokens remembered as verified: a signature check costs 0.1 ms, and a page asks several services."""

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller."""

    subject: str
    name: str
    kind: str
    """user, key or service."""
    role: str
    scopes: frozenset[str]
    token: str
    """The access token itself, to be forwarded: the owning service decides again."""
    expires_at: int
    """Seconds since 1970."""
    token_id: str

    def require(self, scope: str) -> None:
        """Raises PermissionDenied unless the caller has the scope."""
        if scope not in self.scopes:
            raise PermissionDenied(f"the scope {scope} is needed", scope=scope)


PUBLIC = ""
"""Declared scope of a method that anyone may call."""

current_principal: ContextVar[Principal | None] = ContextVar("current_principal", default=None)


def requires(scope: str) -> Callable[[FunctionT], FunctionT]:
    """Declares the scope that an RPC method demands; the interceptor enforces it before the method runs."""
    if not re.fullmatch(r"[a-z]+:[a-z]+", scope):
        raise ValueError(f"a scope is noun:verb, not {scope!r}")

    def declare(method: FunctionT) -> FunctionT:
        method.__elis_scope__ = scope  # type: ignore[attr-defined]
        return method

    return declare


def public(method: FunctionT) -> FunctionT:
    """Declares that anyone may call an RPC method."""
    method.__elis_scope__ = PUBLIC  # type: ignore[attr-defined]
    return method


def principal() -> Principal:
    """Returns the caller of the RPC that runs; raises Unauthenticated in a public method without a caller."""
    caller = current_principal.get()
    if caller is None:
        raise Unauthenticated("sign in first")
    return caller


class Verifier:
    """Verifies access tokens (RFC 9068 profile: RFC 8725 rules, one issuer, asymmetric keys only).

    `fetch_jwks` returns the JSON Web Key Set of the auth service; it is called again, at most once in ten
    seconds, when a token names a key that is not known.
    """

    def __init__(self, fetch_jwks: Callable[[], Awaitable[str]], issuer: str) -> None:
        self._fetch_jwks = fetch_jwks
        self._issuer = issuer
        self._keys: dict[str, OKPKey | ECKey] = {}
        self._fetched_at = -_REFETCH_SECONDS
        self._verified: dict[str, Principal] = {}
        self._registry = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": AUDIENCE},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            jti={"essential": True},
            client_id={"essential": True},
        )

    async def verify(self, token: str) -> Principal:
        """Returns the principal of a token; raises Unauthenticated, or Unavailable when no key can be had."""
        known = self._verified.get(token)
        if known is not None and known.expires_at > time():
            return known
        if len(token) > MAX_TOKEN_BYTES or not _COMPACT.fullmatch(token):
            raise Unauthenticated("the access token is malformed")
        key = await self._key(_read_header(token))
        try:
            decoded = jwt.decode(token, KeySet([key]), algorithms=ALGORITHMS)
            if decoded.header.get("typ") != "at+jwt":
                raise Unauthenticated("the token is not an access token")
            claims = decoded.claims
            self._registry.validate(claims)
        except (JoseError, ValueError, TypeError, OverflowError) as error:
            expired = type(error).__name__ == "ExpiredTokenError"
            raise Unauthenticated("the access token has expired" if expired else "the access token is not valid") from None
        caller = _to_principal(token, claims)
        if len(self._verified) >= _VERIFIED_TOKENS:
            self._verified.clear()
        self._verified[token] = caller
        return caller

    async def _key(self, header: dict[str, Any]) -> OKPKey | ECKey:
        key_id = header.get("kid")
        if not isinstance(key_id, str):
            raise Unauthenticated("the access token names no key")
        if key_id not in self._keys and monotonic() - self._fetched_at >= _REFETCH_SECONDS:
            try:
                content = json.loads(await self._fetch_jwks())
            except Unauthenticated:
                raise Unavailable("the keys that verify tokens cannot be read") from None
            self._fetched_at = monotonic()
            self._keys = {
                key["kid"]: OKPKey.import_key(key) if key["kty"] == "OKP" else ECKey.import_key(key) for key in content["keys"] if key["kty"] in ("OKP", "EC")
            }
        key = self._keys.get(key_id)
        if key is None:
            raise Unauthenticated("the access token was signed with an unknown key")
        return key


def _read_header(token: str) -> dict[str, Any]:
    head = token.partition(".")[0]
    try:
        header = json.loads(urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (ValueError, RecursionError):
        raise Unauthenticated("the access token is malformed") from None
    if not isinstance(header, dict):
        raise Unauthenticated("the access token is malformed")
    return header


def _to_principal(token: str, claims: dict[str, Any]) -> Principal:
    texts = [claims.get(name) for name in ("sub", "name", "kind", "role", "scope", "jti")]
    expires_at = claims["exp"]
    if not all(isinstance(text, str) for text in texts) or not isinstance(expires_at, int) or isinstance(expires_at, bool):
        raise Unauthenticated("the access token is not valid")
    subject, name, kind, role, scope, token_id = (str(text) for text in texts)
    if expires_at + LEEWAY_SECONDS < time():
        raise Unauthenticated("the access token has expired")
    return Principal(subject, name, kind, role, frozenset(scope.split()), token, expires_at, token_id)
