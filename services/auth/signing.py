"""The keys that sign access tokens: kept sealed in PostgreSQL, published as a key set, rotated without a gap."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc.jwk import OKPKey
from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from kit.auth import LEEWAY_SECONDS
from kit.db import unit_of_work
from kit.errors import Unavailable
from kit.rows import uuid7
from services.auth import audit
from services.auth.derivation import derive_key
from services.auth.models import SigningKey

log = structlog.get_logger()

ALGORITHM: Final = "Ed25519"
PUBLISHED_AHEAD = timedelta(seconds=60)
"""A new key is published so long before it signs: verifiers read the key set anew every 30 s."""
_RELOAD_SECONDS = 10.0
_RETRY_SECONDS = 1.0
_NONCE_BYTES = 12
_ADVISORY_LOCK = 0x6B657973  # "keys": replicas that start together make one first key


@dataclass(frozen=True, slots=True)
class Signer:
    """The key that signs now."""

    id: str
    key: OKPKey


class KeySealer:
    """Seals private keys (AES-256-GCM) under a key derived from the service secret."""

    def __init__(self, service_secret: str) -> None:
        self._cipher = AESGCM(derive_key(service_secret, "signing keys"))

    def seal(self, key_id: str, private_jwk: dict[str, Any]) -> bytes:
        """Returns nonce and ciphertext, bound to the key's id."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, json.dumps(private_jwk).encode(), key_id.encode())

    def open(self, key_id: str, sealed: bytes) -> OKPKey:
        """Returns the private key; raises InvalidTag when another secret sealed it."""
        plain = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], key_id.encode())
        return OKPKey.import_key(json.loads(plain))


class KeyRing:
    """The signing keys of this process, in memory; `watch` keeps them up to date."""

    def __init__(self, engine: AsyncEngine, sealer: KeySealer, token_lifetime: timedelta) -> None:
        self._engine = engine
        self._sealer = sealer
        self._kept_for = token_lifetime + timedelta(seconds=2 * LEEWAY_SECONDS)
        self._rows: list[SigningKey] = []
        self._opened: dict[str, OKPKey] = {}

    def signer(self) -> Signer:
        """Returns the newest key whose time to sign has come; raises Unavailable before the keys were read."""
        now = datetime.now(UTC)
        for row in sorted(self._rows, key=lambda row: row.signs_from, reverse=True):
            if row.signs_from <= now and row.id in self._opened:
                return Signer(row.id, self._opened[row.id])
        raise Unavailable("no key can sign tokens yet; try again", retry_after=1.0)

    def public_keys(self) -> str:
        """Returns the key set (RFC 7517): every key that a valid token may be signed with, public halves only."""
        self.signer()
        now = datetime.now(UTC)
        keys = [json.loads(row.public_jwk) for row in self._rows if row.retired_at is None or now < row.retired_at + self._kept_for]
        return json.dumps({"keys": keys})

    async def load(self) -> None:
        """Reads the keys from the database; raises Unavailable while it is away."""
        async with unit_of_work(self._engine) as session:
            self._rows = await self._read(session)

    async def watch(self) -> None:
        """Reads the keys again every ten seconds, as long as the process runs."""
        while True:
            await asyncio.sleep(_RELOAD_SECONDS if self._rows else _RETRY_SECONDS)
            try:
                await self.load()
            except Unavailable as error:
                log.warning("signing keys not read", reason=error.message)

    async def _read(self, session: AsyncSession) -> list[SigningKey]:
        """Reads all keys; makes the first one, and a new one when the service secret was changed."""
        rows = await self._select(session)
        if not any(self._can_sign(row) for row in rows):
            await session.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
            rows = await self._select(session)
            if not any(self._can_sign(row) for row in rows):
                await rotate(session, self._sealer, self._kept_for, ahead=timedelta(0))
                rows = await self._select(session)
        opened: dict[str, OKPKey] = {}
        for row in rows:
            key = self._opened.get(row.id) or self._open(row)
            if key is not None:
                opened[row.id] = key
        self._opened = opened
        return rows

    async def _select(self, session: AsyncSession) -> list[SigningKey]:
        return list((await session.scalars(select(SigningKey).order_by(SigningKey.created_at))).all())

    def _can_sign(self, row: SigningKey) -> bool:
        now = datetime.now(UTC)
        return row.signs_from <= now and (row.id in self._opened or self._open(row) is not None)

    def _open(self, row: SigningKey) -> OKPKey | None:
        try:
            return self._sealer.open(row.id, row.sealed_private_jwk)
        except InvalidTag:
            log.warning("signing key sealed with another service secret", key_id=row.id)
            return None


async def rotate(
    session: AsyncSession, sealer: KeySealer, kept_for: timedelta, *, ahead: timedelta = PUBLISHED_AHEAD, drop_old: bool = False, actor: str | None = None
) -> SigningKey:
    """Adds a key that signs after `ahead` and retires the others then; those retired for `kept_for` are deleted.

    `drop_old` deletes the others at once: every access token signed with them stops working (a stolen key).
    """
    now = datetime.now(UTC)
    key_id = str(uuid7())
    pair = OKPKey.generate_key(ALGORITHM, {"kid": key_id, "use": "sig", "alg": ALGORITHM})
    if drop_old:
        await session.execute(delete(SigningKey))
    else:
        await session.execute(delete(SigningKey).where(SigningKey.retired_at < now - kept_for))
        await session.execute(
            update(SigningKey).where(or_(SigningKey.retired_at.is_(None), SigningKey.retired_at > now + ahead)).values(retired_at=now + ahead)
        )
    row = SigningKey(
        id=key_id,
        public_jwk=json.dumps(pair.as_dict(private=False)),
        sealed_private_jwk=sealer.seal(key_id, pair.as_dict(private=True)),
        created_at=now,
        signs_from=now + ahead,
        retired_at=None,
    )
    session.add(row)
    await session.flush()
    await audit.record(session, audit.SIGNING_KEY_ROTATED, key_id, {"old_dropped": drop_old}, actor=actor)
    return row
