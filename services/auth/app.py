"""Composition of the auth service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from elis.auth.v1 import auth_pb2 as pb
from elis.auth.v1 import auth_pb2_grpc as rpc
from kit.auth import Verifier
from kit.cache import open_redis
from kit.db import open_engine, ping_engine, unit_of_work
from kit.errors import Unavailable
from kit.revocations import RevocationList
from kit.server import Application, Servicer
from services.auth.attempts import LoginAttempts
from services.auth.passwords import PasswordHasher, load_policy
from services.auth.refresh import RefreshTokens, prune_families
from services.auth.revocations import list_revocations, prune_revocations
from services.auth.rpc import AuthServicer
from services.auth.settings import RECOMMENDED_ROUNDS, AuthSettings
from services.auth.signin import SignIn
from services.auth.signing import KeyRing, KeySealer
from services.auth.tokens import TokenMint

log = structlog.get_logger()

_PRUNE_SECONDS = 3_600.0


@asynccontextmanager
async def build(settings: AuthSettings) -> AsyncIterator[Application]:
    """Builds the application."""
    if settings.password_rounds < RECOMMENDED_ROUNDS:
        log.warning("password hashes are weaker than recommended", rounds=settings.password_rounds, recommended=RECOMMENDED_ROUNDS)
    secret = settings.service_secret.get_secret_value()
    async with open_engine(settings, "auth") as engine, open_redis(settings) as redis:
        ring = KeyRing(engine, KeySealer(secret), settings.access_token_lifetime)
        try:
            await ring.load()
        except Unavailable as error:
            log.warning("signing keys not read", reason=error.message)  # `watch` tries again
        mint = TokenMint(ring, settings.token_issuer, settings.access_token_lifetime)
        hasher = PasswordHasher(settings.password_rounds)
        attempts = LoginAttempts(redis, settings.login_attempts, settings.login_window)
        sign_in = SignIn(engine, hasher, attempts, RefreshTokens(secret, settings.refresh_lifetime), mint)
        servicer = AuthServicer(engine, ring, mint, sign_in, hasher, load_policy(), secret)

        async def fetch_jwks() -> str:
            return ring.public_keys()

        async def fetch_revocations(since: float | None) -> Mapping[str, float]:
            moment = datetime.fromtimestamp(since, UTC) if since is not None else None
            async with unit_of_work(engine) as session:
                return {row.subject: row.revoked_at.timestamp() for row in await list_revocations(session, moment)}

        async def ping() -> None:
            await ping_engine(engine)
            ring.signer()

        async def prune() -> None:
            await _prune(engine, settings.access_token_lifetime)

        try:
            yield Application(
                servicers=[Servicer(pb.DESCRIPTOR.services_by_name["AuthService"], rpc.add_AuthServiceServicer_to_server, servicer)],
                verifier=Verifier(fetch_jwks, settings.token_issuer, RevocationList(fetch_revocations)),
                background=[ring.watch, prune],
                ready=[ping],
            )
        finally:
            hasher.close()


async def _prune(engine: AsyncEngine, token_lifetime: timedelta) -> None:
    """Removes what has been of no use for long, every hour."""
    while True:
        try:
            async with unit_of_work(engine) as session:
                await prune_families(session)
                await prune_revocations(session, token_lifetime)
        except Unavailable as error:
            log.warning("old sessions not removed", reason=error.message)
        await asyncio.sleep(_PRUNE_SECONDS)
