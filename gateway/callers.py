"""Who calls: access tokens are verified, API keys exchanged for access tokens."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from time import time

from kit.auth import Principal, Verifier
from kit.errors import Unauthenticated

KEY_PREFIX = "elis_"
MAX_CREDENTIAL_CHARACTERS = 8_192 + len("Bearer ")
KNOWN_KEYS = 2_000
"""API keys remembered with their access tokens."""
RENEW_BEFORE_SECONDS = 60

Exchange = Callable[[str], Awaitable[tuple[str, float]]]
"""Turns an API key into (access token, expiry in seconds since 1970)."""


class Callers:
    """Finds the caller that a credential stands for.

    An API key's access token is used until a minute before it expires, so that a key costs one exchange in
    nine minutes. Raises Unauthenticated for a credential that is not valid, Unavailable when nobody can say.
    """

    def __init__(self, verifier: Verifier, exchange: Exchange) -> None:
        self._verifier = verifier
        self._exchange = exchange
        self._tokens: OrderedDict[bytes, tuple[str, float, str]] = OrderedDict()
        self._exchanging: dict[bytes, asyncio.Task[str]] = {}

    async def identify(self, credential: str) -> Principal | None:
        """Returns the caller of a credential (`Bearer TOKEN`, `Bearer elis_…`, `elis_…`); None for the empty one."""
        if not credential:
            return None
        if len(credential) > MAX_CREDENTIAL_CHARACTERS:
            raise Unauthenticated("the credential is too long")
        secret = credential
        if not credential.startswith(KEY_PREFIX):
            kind, _, secret = credential.partition(" ")
            if kind.lower() != "bearer" or not secret:
                raise Unauthenticated("the authorization must be a bearer token or an API key")
        if not secret.startswith(KEY_PREFIX):
            return await self._verifier.verify(secret)
        try:
            return await self._verifier.verify(await self._token_of(secret))
        except Unauthenticated:
            # A remembered token may have been revoked while its key still holds, with another role.
            if self._tokens.pop(_digest(secret), None) is None:
                raise
            return await self._verifier.verify(await self._token_of(secret))

    def forget_key(self, key_id: str) -> None:
        """Drops the access token of a key that has been revoked."""
        for digest, (_, _, subject) in list(self._tokens.items()):
            if subject.rpartition(":")[2] == key_id:
                del self._tokens[digest]

    async def _token_of(self, key: str) -> str:
        digest = _digest(key)
        token, expires_at, _ = self._tokens.get(digest, ("", 0.0, ""))
        if expires_at - RENEW_BEFORE_SECONDS > time():
            self._tokens.move_to_end(digest)
            return token
        # Requests that arrive together with the same key share one exchange.
        exchanging = self._exchanging.get(digest)
        if exchanging is None:
            exchanging = asyncio.create_task(self._exchange_key(digest, key))
            self._exchanging[digest] = exchanging
            exchanging.add_done_callback(lambda task: self._end_exchange(digest, task))
        return await asyncio.shield(exchanging)

    def _end_exchange(self, digest: bytes, task: asyncio.Task[str]) -> None:
        del self._exchanging[digest]
        if not task.cancelled():
            task.exception()  # whoever waits raises it; when all of them are gone, nobody needs it

    async def _exchange_key(self, digest: bytes, key: str) -> str:
        token, expires_at = await self._exchange(key)
        caller = await self._verifier.verify(token)
        self._tokens[digest] = (token, expires_at, caller.subject)
        self._tokens.move_to_end(digest)
        while len(self._tokens) > KNOWN_KEYS:
            self._tokens.popitem(last=False)
        return token


def _digest(key: str) -> bytes:
    return sha256(key.encode()).digest()


def read_credential(headers: Mapping[str, str]) -> str:
    """Returns the credential in the headers of a request; empty when there is none."""
    return headers.get("authorization", "") or headers.get("x-api-key", "")


def read_parameters(parameters: Mapping[str, object]) -> str:
    """Returns the credential in the payload of connection_init; names in any case, empty when there is none."""
    found = {name.lower(): value for name, value in parameters.items() if isinstance(value, str)}
    return read_credential(found)
