"""A target's ties to the auth service: the verifier of callers and the target's own token.

This is the one module of the kit that knows a service's protocol: who verifies must know who issues.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

from elis.auth.v1 import auth_pb2 as pb
from elis.auth.v1 import auth_pb2_grpc as rpc
from kit.auth import Verifier
from kit.client import ServiceIdentity, TokenSource, connect, forward_caller, stay_anonymous
from kit.revocations import RevocationList
from kit.settings import Settings


@dataclass(frozen=True, slots=True)
class Identity:
    """How a target knows its callers and how it is known itself."""

    verifier: Verifier
    own_token: TokenSource
    """For calls that the target makes for itself, such as reading the feed of blocks."""


@asynccontextmanager
async def open_identity(settings: Settings, target: str) -> AsyncIterator[Identity]:
    """Connects to the auth service; needs no answer yet."""
    async with connect(settings.address("auth"), stay_anonymous, settings.call_timeout) as channel:
        auth = rpc.AuthServiceStub(channel)

        async def fetch_jwks() -> str:
            response: pb.GetJwksResponse = await auth.GetJwks(pb.GetJwksRequest())
            return response.jwks

        async def issue() -> tuple[str, float]:
            request = pb.IssueServiceTokenRequest(service=target, secret=settings.service_secret.get_secret_value())
            response: pb.IssueServiceTokenResponse = await auth.IssueServiceToken(request)
            return response.access_token, response.expires_at.seconds

        own_token = ServiceIdentity(issue)
        async with connect(settings.address("auth"), own_token, settings.call_timeout) as own_channel:
            asked = rpc.AuthServiceStub(own_channel)

            async def fetch_revocations(since: float | None) -> Mapping[str, float]:
                request = pb.ListRevocationsRequest()
                if since is not None:
                    request.since.FromMicroseconds(round(since * 1e6))
                response: pb.ListRevocationsResponse = await asked.ListRevocations(request)
                return {one.subject: one.revoked_at.ToMicroseconds() / 1e6 for one in response.revocations}

            yield Identity(Verifier(fetch_jwks, settings.token_issuer, RevocationList(fetch_revocations)), own_token)


def connect_as_caller(settings: Settings, target: str) -> grpc.aio.Channel:
    """Opens a channel to a target whose calls carry the token of the caller that is being served."""
    return connect(settings.address(target), forward_caller, settings.call_timeout)


def connect_as_self(settings: Settings, target: str, identity: Identity) -> grpc.aio.Channel:
    """Opens a channel to a target whose calls carry this target's own token."""
    return connect(settings.address(target), identity.own_token, settings.call_timeout)
