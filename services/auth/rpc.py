"""AuthService: the RPC methods, each a transaction around the nouns."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy.ext.asyncio import AsyncEngine

from elis.auth.v1 import auth_pb2 as pb
from elis.auth.v1 import auth_pb2_grpc as rpc
from kit.auth import principal, public, requires
from kit.db import unit_of_work
from kit.errors import InvalidArgument, PermissionDenied, Unauthenticated
from kit.mapping import to_proto
from kit.paging import clamp_page_size, decode_token, encode_token
from services.auth import accounts, keys, revocations
from services.auth.passwords import PasswordHasher, PasswordPolicy
from services.auth.scopes import SERVICES, check_role
from services.auth.signin import SignedIn, SignIn
from services.auth.signing import KeyRing
from services.auth.tokens import TokenMint

if TYPE_CHECKING:
    from kit.interceptors import RpcContext

log = structlog.get_logger()


class AuthServicer(rpc.AuthServiceServicer):
    """Signs callers in and says who they are."""

    def __init__(
        self,
        engine: AsyncEngine,
        ring: KeyRing,
        mint: TokenMint,
        sign_in: SignIn,
        hasher: PasswordHasher,
        policy: PasswordPolicy,
        service_secret: str,
    ) -> None:
        self._engine = engine
        self._ring = ring
        self._mint = mint
        self._sign_in = sign_in
        self._hasher = hasher
        self._policy = policy
        self._service_secret = service_secret.encode()

    @public
    async def Login(self, request: pb.LoginRequest, context: RpcContext) -> pb.LoginResponse:
        """Checks a password and opens a refresh family."""
        signed_in = await self._sign_in.login(request.username, request.password)
        return pb.LoginResponse(tokens=_to_pair(signed_in), user=to_proto(pb.User, signed_in.user))

    @public
    async def Refresh(self, request: pb.RefreshRequest, context: RpcContext) -> pb.RefreshResponse:
        """Rotates a refresh token."""
        return pb.RefreshResponse(tokens=_to_pair(await self._sign_in.refresh(request.refresh_token)))

    @requires("self:write")
    async def Logout(self, request: pb.LogoutRequest, context: RpcContext) -> pb.LogoutResponse:
        """Closes the caller's session."""
        await self._sign_in.logout(principal(), request.refresh_token)
        return pb.LogoutResponse()

    @public
    async def ExchangeApiKey(self, request: pb.ExchangeApiKeyRequest, context: RpcContext) -> pb.ExchangeApiKeyResponse:
        """Turns an API key into a short-lived access token."""
        async with unit_of_work(self._engine) as session:
            key = await keys.find_key(session, request.key, keys.API)
            if key is None or not key.is_usable(datetime.now(UTC)):
                log.warning("api key refused", prefix=key.prefix if key is not None else "")
                raise Unauthenticated("the API key is unknown, has expired or was revoked")
            token = self._mint.for_key(key)
        return pb.ExchangeApiKeyResponse(access_token=token.text, expires_at=_to_timestamp(token.expires_at))

    @public
    async def IssueServiceToken(self, request: pb.IssueServiceTokenRequest, context: RpcContext) -> pb.IssueServiceTokenResponse:
        """Gives a target of ELIS its own identity."""
        if not hmac.compare_digest(request.secret.encode(), self._service_secret):
            log.warning("service secret refused", service=request.service[:64])
            raise Unauthenticated("the service secret is wrong; every target must have the same ELIS_SERVICE_SECRET")
        if request.service not in SERVICES:
            raise PermissionDenied(f"there is no service {request.service[:64]!r} that needs an identity")
        token = self._mint.for_service(request.service)
        return pb.IssueServiceTokenResponse(access_token=token.text, expires_at=_to_timestamp(token.expires_at))

    @public
    async def GetJwks(self, request: pb.GetJwksRequest, context: RpcContext) -> pb.GetJwksResponse:
        """Returns the public keys that verify access tokens."""
        return pb.GetJwksResponse(jwks=self._ring.public_keys())

    @requires("tokens:verify")
    async def VerifyIngestToken(self, request: pb.VerifyIngestTokenRequest, context: RpcContext) -> pb.VerifyIngestTokenResponse:
        """Says whether an agent's token may write, and to which source."""
        async with unit_of_work(self._engine) as session:
            key = await keys.find_key(session, request.token, keys.INGEST)
        if key is None:
            return pb.VerifyIngestTokenResponse(state=pb.VerifyIngestTokenResponse.STATE_UNKNOWN)
        usable = key.is_usable(datetime.now(UTC))
        state = pb.VerifyIngestTokenResponse.STATE_VALID if usable else pb.VerifyIngestTokenResponse.STATE_DISABLED
        return to_proto(pb.VerifyIngestTokenResponse, key, state=state)

    @requires("tokens:verify")
    async def ListRevocations(self, request: pb.ListRevocationsRequest, context: RpcContext) -> pb.ListRevocationsResponse:
        """Returns what ends access tokens before they expire."""
        since = _to_datetime("since", request.since) if request.HasField("since") else None
        async with unit_of_work(self._engine) as session:
            rows = await revocations.list_revocations(session, since)
        return pb.ListRevocationsResponse(revocations=[to_proto(pb.Revocation, row) for row in rows])

    @requires("self:read")
    async def GetMe(self, request: pb.GetMeRequest, context: RpcContext) -> pb.GetMeResponse:
        """Returns the caller."""
        caller = principal()
        return pb.GetMeResponse(caller=to_proto(pb.Caller, caller, scopes=sorted(caller.scopes)))

    @requires("users:read")
    async def ListUsers(self, request: pb.ListUsersRequest, context: RpcContext) -> pb.ListUsersResponse:
        """Returns users in order of name."""
        size = clamp_page_size(request.page_size)
        position = decode_token(request.page_token, str)
        after = accounts.fold_username(position[0]) if position is not None else None
        if position is not None and after is None:
            raise InvalidArgument("the cursor is not one that ELIS gave")
        async with unit_of_work(self._engine) as session:
            users = await accounts.list_users(session, size + 1, after)
        more = encode_token(users[size - 1].username_key) if len(users) > size else ""
        return pb.ListUsersResponse(users=[to_proto(pb.User, user) for user in users[:size]], next_page_token=more)

    @requires("users:write")
    async def CreateUser(self, request: pb.CreateUserRequest, context: RpcContext) -> pb.CreateUserResponse:
        """Adds a user."""
        username = accounts.check_username(request.username)
        check_role(request.role)
        self._policy.check(request.password, username)
        async with self._hasher.admission():
            password_hash = await self._hasher.hash(request.password)
        async with unit_of_work(self._engine) as session:
            user = await accounts.create_user(session, username=username, password_hash=password_hash, role=request.role, display_name=request.display_name)
        return pb.CreateUserResponse(user=to_proto(pb.User, user))

    @requires("users:write")
    async def UpdateUser(self, request: pb.UpdateUserRequest, context: RpcContext) -> pb.UpdateUserResponse:
        """Changes a user's role, name or state; takes effect at once."""
        async with unit_of_work(self._engine) as session:
            user = await accounts.update_user(
                session,
                _to_uuid("user", request.id),
                role=request.role if request.HasField("role") else None,
                disabled=request.disabled if request.HasField("disabled") else None,
                display_name=request.display_name if request.HasField("display_name") else None,
            )
        return pb.UpdateUserResponse(user=to_proto(pb.User, user))

    @requires("keys:read")
    async def ListApiKeys(self, request: pb.ListApiKeysRequest, context: RpcContext) -> pb.ListApiKeysResponse:
        """Returns API keys and ingest tokens, newest first."""
        size = clamp_page_size(request.page_size)
        position = decode_token(request.page_token, str)
        before = _to_uuid("key", position[0]) if position is not None else None
        async with unit_of_work(self._engine) as session:
            rows = await keys.list_keys(session, size + 1, before)
        more = encode_token(str(rows[size - 1].id)) if len(rows) > size else ""
        return pb.ListApiKeysResponse(keys=[to_proto(pb.ApiKey, row) for row in rows[:size]], next_page_token=more)

    @requires("keys:write")
    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, context: RpcContext) -> pb.CreateApiKeyResponse:
        """Makes an API key or an ingest token."""
        expires_at = _to_datetime("expires_at", request.expires_at) if request.HasField("expires_at") else None
        async with unit_of_work(self._engine) as session:
            key, secret = await keys.create_key(
                session,
                name=request.name,
                kind=request.kind,
                role=request.role,
                source=request.source,
                ack=request.ack,
                events_per_second=request.events_per_second,
                bytes_per_second=request.bytes_per_second,
                expires_at=expires_at,
                created_by=principal().subject,
            )
        return pb.CreateApiKeyResponse(key=to_proto(pb.ApiKey, key), secret=secret)

    @requires("keys:write")
    async def UpdateApiKey(self, request: pb.UpdateApiKeyRequest, context: RpcContext) -> pb.UpdateApiKeyResponse:
        """Changes the limits of an ingest token."""
        async with unit_of_work(self._engine) as session:
            key = await keys.update_key(
                session,
                _to_uuid("key", request.id),
                events_per_second=request.events_per_second if request.HasField("events_per_second") else None,
                bytes_per_second=request.bytes_per_second if request.HasField("bytes_per_second") else None,
            )
        return pb.UpdateApiKeyResponse(key=to_proto(pb.ApiKey, key))

    @requires("keys:write")
    async def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, context: RpcContext) -> pb.RevokeApiKeyResponse:
        """Ends a key."""
        async with unit_of_work(self._engine) as session:
            key = await keys.revoke_key(session, _to_uuid("key", request.id))
        return pb.RevokeApiKeyResponse(key=to_proto(pb.ApiKey, key))


def _to_pair(signed_in: SignedIn) -> pb.TokenPair:
    return pb.TokenPair(
        access_token=signed_in.access.text,
        refresh_token=signed_in.refresh_token,
        access_expires_at=_to_timestamp(signed_in.access.expires_at),
        refresh_expires_at=_to_timestamp(signed_in.refresh_expires_at),
    )


def _to_uuid(what: str, text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidArgument(f"{text[:64]!r} is not the id of a {what}") from None


def _to_timestamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def _to_datetime(what: str, value: Timestamp) -> datetime:
    try:
        return value.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument(f"{what} is not a time") from None
