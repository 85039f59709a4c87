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

import structlog
from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import ECKey, OKPKey

from kit.errors import ElisError, PermissionDenied, Unauthenticated, Unavailable
from kit.revocations import RevocationList

log = structlog.get_logger()

AUDIENCE = "elis"
ALGORITHMS = ["Ed25519", "ES256"]
MAX_TOKEN_BYTES = 8192
LEEWAY_SECONDS = 30
_COMPACT = re.compile(r"[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]{2,}")
_REFETCH_SECONDS = 10.0
_KEYS_FRESH_SECONDS = 30.0
"""A new key is published a minute before it signs, so it is known here when the first token comes."""
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
    issued_at: float = 0.0
    """Seconds since 1970, with microseconds."""
    session_id: str = ""
    """The sign-in that a user's token belongs to; empty for keys and services."""

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

    `fetch_jwks` returns the JSON Web Key Set of the auth service; it is called again every 30 seconds, and when a
    token names a key that is not known, at most once in ten. Without `revocations` a token lasts until it expires.
    """

    def __init__(self, fetch_jwks: Callable[[], Awaitable[str]], issuer: str, revocations: RevocationList | None = None) -> None:
        self._fetch_jwks = fetch_jwks
        self._issuer = issuer
        self._revocations = revocations
        self._keys: dict[str, OKPKey | ECKey] = {}
        self._fetched_at = -_KEYS_FRESH_SECONDS
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
        if self._keys and monotonic() - self._fetched_at >= _KEYS_FRESH_SECONDS:
            await self._refresh_keys()
        caller = self._verified.get(token)
        if caller is None or caller.expires_at <= time():
            caller = await self._read_token(token)
            if len(self._verified) >= _VERIFIED_TOKENS:
                self._verified.clear()
            self._verified[token] = caller
        if self._revocations is not None:
            await self._revocations.check(caller.issued_at, caller.subject, f"session:{caller.session_id}")
        return caller

    async def verify_signature(self, token: str) -> tuple[dict[str, Any], bytes]:
        """Returns header and payload of what one of the keys signed; raises Unauthenticated. Says nothing about claims."""
        if len(token) > MAX_TOKEN_BYTES or not _COMPACT.fullmatch(token):
            raise Unauthenticated("the access token is malformed; programs send an API key (elis_…), ingest tokens are for log agents only")
        header = _read_header(token)
        key = await self._key(header)
        if "crit" in header:  # our issuer marks nothing as critical
            raise Unauthenticated("the access token is not valid")
        try:
            signed = jws.deserialize_compact(token, key, algorithms=ALGORITHMS)
        except (JoseError, ValueError, TypeError):
            raise Unauthenticated("the access token is not valid") from None
        return header, signed.payload

    async def _read_token(self, token: str) -> Principal:
        header, payload = await self.verify_signature(token)
        if header.get("typ") != "at+jwt":
            raise Unauthenticated("the token is not an access token")
        try:
            claims = json.loads(payload)
            if not isinstance(claims, dict):
                raise ValueError("no object")
            self._registry.validate(claims)
        except ExpiredTokenError:
            raise Unauthenticated("the access token has expired") from None
        except (JoseError, ValueError, TypeError, OverflowError, RecursionError):
            raise Unauthenticated("the access token is not valid") from None
        return _to_principal(token, claims)

    async def _key(self, header: dict[str, Any]) -> OKPKey | ECKey:
        key_id = header.get("kid")
        if not isinstance(key_id, str):
            raise Unauthenticated("the access token names no key")
        if key_id not in self._keys and monotonic() - self._fetched_at >= _REFETCH_SECONDS:
            try:
                await self._read_keys()
            except Unauthenticated:
                raise Unavailable("the keys that verify tokens cannot be read") from None
        key = self._keys.get(key_id)
        if key is None:
            raise Unauthenticated("the access token was signed with an unknown key")
        return key

    async def _refresh_keys(self) -> None:
        """Reads the key set again; the known keys stay in use while the auth service is away."""
        self._fetched_at = monotonic() - _KEYS_FRESH_SECONDS + _REFETCH_SECONDS  # others do not wait for this
        try:
            await self._read_keys()
        except ElisError as error:
            log.warning("token keys not read", reason=error.message)

    async def _read_keys(self) -> None:
        content = json.loads(await self._fetch_jwks())
        self._fetched_at = monotonic()
        keys = {key["kid"]: key for key in content["keys"] if key["kty"] in ("OKP", "EC") and key.get("use", "sig") == "sig"}
        if not self._keys.keys() <= keys.keys():
            self._verified.clear()  # a key is gone, and with it what it signed
        self._keys = {key_id: OKPKey.import_key(key) if key["kty"] == "OKP" else ECKey.import_key(key) for key_id, key in keys.items()}


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
    texts.append(claims.get("sid", ""))
    expires_at = claims["exp"]
    if not all(isinstance(text, str) for text in texts) or not isinstance(expires_at, int) or isinstance(expires_at, bool):
        raise Unauthenticated("the access token is not valid")
    subject, name, kind, role, scope, token_id, session_id = (str(text) for text in texts)
    if expires_at + LEEWAY_SECONDS < time():
        raise Unauthenticated("the access token has expired")
    return Principal(subject, name, kind, role, frozenset(scope.split()), token, expires_at, token_id, float(claims["iat"]), session_id)
