"""Signing in, the caller, users, API keys."""

# The names of arguments are those of the API. Strawberry's decorators lose the types of resolvers.
# ruff: noqa: A002
# mypy: disallow-untyped-decorators=False
from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from elis.auth.v1 import auth_pb2 as pb
from gateway.context import Info
from gateway.paging import PAGE_SIZE, After, Connection, First, Page, read_page
from gateway.scalars import NANOSECONDS, BigInt, DateTime
from kit.auth import principal


@strawberry.type(description="A person who signs in.")
class User:
    """Shows elis.auth.v1.User."""

    id: strawberry.ID = strawberry.field(description="Identifies the user.")
    username: str = strawberry.field(description="Name to sign in with.")
    display_name: str | None = strawberry.field(description="Name to show.")
    role: str = strawberry.field(description="`viewer`, `analyst`, `operator` or `admin`.")
    disabled: bool = strawberry.field(description="Whether the user may not sign in.")
    created_at: DateTime | None = strawberry.field(description="When the user was added.")
    last_login_at: DateTime | None = strawberry.field(description="When the user signed in last.")


@strawberry.type(description="A key of a machine. The secret itself is shown once, by `createApiKey`.")
class ApiKey:
    """Shows elis.auth.v1.ApiKey."""

    id: strawberry.ID = strawberry.field(description="Identifies the key.")
    name: str = strawberry.field(description="What the key is for.")
    prefix: str = strawberry.field(description="First characters of the secret, enough to recognise it.")
    kind: str = strawberry.field(description="`api` for clients of this API, `ingest` for log agents.")
    role: str | None = strawberry.field(description="Role of an API key; null for an ingest token.")
    source: str | None = strawberry.field(description="The source that an ingest token is bound to; null when the sender names it.")
    ack: bool = strawberry.field(description="Whether Splunk clients of an ingest token use indexer acknowledgement.")
    events_per_second: BigInt | None = strawberry.field(description="Events that an ingest token may send per second; null: what the installation allows.")
    bytes_per_second: BigInt | None = strawberry.field(description="Bytes that an ingest token may send per second; null: what the installation allows.")
    created_at: DateTime | None = strawberry.field(description="When the key was made.")
    expires_at: DateTime | None = strawberry.field(description="When the key ends; null: never by itself.")
    last_used_at: DateTime | None = strawberry.field(description="When the key was used last.")
    revoked: bool = strawberry.field(description="Whether the key has been ended.")


@strawberry.type(description="What a signed-in caller works with.")
class TokenPair:
    """Shows elis.auth.v1.TokenPair."""

    access_token: str = strawberry.field(description="For the header `Authorization: Bearer …`, for ten minutes.")
    refresh_token: str = strawberry.field(description="For `refresh`, once. Using an old one again ends the session.")
    access_expires_at: DateTime | None = strawberry.field(description="When the access token ends.")
    refresh_expires_at: DateTime | None = strawberry.field(description="When the refresh token ends.")


@strawberry.type(description="The outcome of signing in.")
class LoginPayload:
    """Shows elis.auth.v1.LoginResponse."""

    tokens: TokenPair = strawberry.field(description="The tokens.")
    user: User = strawberry.field(description="Who signed in.")


@strawberry.type(description="Who is calling.")
class Caller:
    """Shows elis.auth.v1.Caller."""

    subject: str = strawberry.field(description="Identifies the caller: `user:…`, `key:…` or `service:…`.")
    name: str = strawberry.field(description="Name of the user or key.")
    kind: str = strawberry.field(description="`user`, `key` or `service`.")
    role: str = strawberry.field(description="Role of the caller.")
    scopes: list[str] = strawberry.field(description="What the caller may do, as `noun:verb`.")


@strawberry.type(description="A new key with its secret.")
class CreateApiKeyPayload:
    """Shows elis.auth.v1.CreateApiKeyResponse."""

    key: ApiKey = strawberry.field(description="The key.")
    secret: str = strawberry.field(description="The secret, shown this once.")


@strawberry.type
class AuthQuery:
    """Part of Query."""

    @strawberry.field(graphql_type=Caller, description="The caller. Needs the scope `self:read`.")
    async def me(self, info: Info) -> pb.Caller:
        """Returns the caller as the auth service sees them."""
        return (await info.context.services.auth.GetMe(pb.GetMeRequest())).caller

    @strawberry.field(graphql_type=Connection[User], description="Users by name. Needs the scope `users:read`.")
    async def users(self, info: Info, first: First = PAGE_SIZE, after: After = None) -> Page:
        """Returns a page of users."""

        async def fetch(size: int, token: str) -> tuple[Sequence[pb.User], str]:
            response = await info.context.services.auth.ListUsers(pb.ListUsersRequest(page_size=size, page_token=token))
            return response.users, response.next_page_token

        return await read_page(fetch, first, after)

    @strawberry.field(graphql_type=Connection[ApiKey], description="API keys and ingest tokens, newest first. Needs the scope `keys:read`.")
    async def api_keys(self, info: Info, first: First = PAGE_SIZE, after: After = None) -> Page:
        """Returns a page of keys."""

        async def fetch(size: int, token: str) -> tuple[Sequence[pb.ApiKey], str]:
            response = await info.context.services.auth.ListApiKeys(pb.ListApiKeysRequest(page_size=size, page_token=token))
            return response.keys, response.next_page_token

        return await read_page(fetch, first, after)


@strawberry.type
class AuthMutation:
    """Part of Mutation."""

    @strawberry.mutation(graphql_type=LoginPayload, description="Signs a user in. Open to everybody.")
    async def login(
        self,
        info: Info,
        username: Annotated[str, strawberry.argument(description="Name of the user.")],
        password: Annotated[str, strawberry.argument(description="Password of the user.")],
    ) -> pb.LoginResponse:
        """Checks a password. Every login of a request counts, however many it holds."""
        await info.context.rates.spend("logins", info.context.address)
        await info.context.rates.spend("login", info.context.address, username[:100].lower())
        return await info.context.services.auth.Login(pb.LoginRequest(username=username, password=password))

    @strawberry.mutation(graphql_type=TokenPair, description="Trades a refresh token for a new pair of tokens. Open to everybody.")
    async def refresh(
        self,
        info: Info,
        refresh_token: Annotated[str, strawberry.argument(description="The refresh token of the last pair.")],
    ) -> pb.TokenPair:
        """Rotates a refresh token."""
        await info.context.rates.spend("refresh", info.context.address)
        return (await info.context.services.auth.Refresh(pb.RefreshRequest(refresh_token=refresh_token))).tokens

    @strawberry.mutation(description="Ends the caller's session. Needs the scope `self:write`.")
    async def logout(
        self,
        info: Info,
        refresh_token: Annotated[str, strawberry.argument(description="The refresh token of the session.")],
    ) -> bool:
        """Closes a refresh family."""
        await info.context.services.auth.Logout(pb.LogoutRequest(refresh_token=refresh_token))
        return True

    @strawberry.mutation(graphql_type=User, description="Adds a user. Needs the scope `users:write`.")
    async def create_user(
        self,
        info: Info,
        username: Annotated[str, strawberry.argument(description="Name to sign in with.")],
        password: Annotated[str, strawberry.argument(description="First password.")],
        role: Annotated[str, strawberry.argument(description="`viewer`, `analyst`, `operator` or `admin`.")],
        display_name: Annotated[str | None, strawberry.argument(description="Name to show.")] = None,
    ) -> pb.User:
        """Adds a user."""
        await info.context.rates.spend("account", principal().subject)
        request = pb.CreateUserRequest(username=username, password=password, role=role, display_name=display_name or "")
        return (await info.context.services.auth.CreateUser(request)).user

    @strawberry.mutation(graphql_type=User, description="Changes a user, at once. Needs the scope `users:write`.")
    async def update_user(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The user.")],
        role: Annotated[str | None, strawberry.argument(description="New role; left as it is when left out.")] = None,
        disabled: Annotated[bool | None, strawberry.argument(description="Whether the user may no longer sign in; left as it is when left out.")] = None,
        display_name: Annotated[str | None, strawberry.argument(description="New name to show; left as it is when left out.")] = None,
    ) -> pb.User:
        """Changes a user."""
        await info.context.rates.spend("account", principal().subject)
        request = pb.UpdateUserRequest(id=id, role=role, disabled=disabled, display_name=display_name)
        return (await info.context.services.auth.UpdateUser(request)).user

    @strawberry.mutation(graphql_type=CreateApiKeyPayload, description="Makes an API key or an ingest token. Needs the scope `keys:write`.")
    async def create_api_key(
        self,
        info: Info,
        name: Annotated[str, strawberry.argument(description="What the key is for.")],
        kind: Annotated[str, strawberry.argument(description="`api` for clients of this API, `ingest` for log agents.")] = "api",
        role: Annotated[str | None, strawberry.argument(description="Role of an API key.")] = None,
        source: Annotated[str | None, strawberry.argument(description="Binds an ingest token to a source.")] = None,
        ack: Annotated[
            bool, strawberry.argument(description="Indexer acknowledgement for Splunk clients of an ingest token: each request names a channel and gets an id.")
        ] = False,
        events_per_second: Annotated[int | None, strawberry.argument(description="Events that an ingest token may send per second.")] = None,
        bytes_per_second: Annotated[BigInt | None, strawberry.argument(description="Bytes that an ingest token may send per second.")] = None,
        expires_at: Annotated[DateTime | None, strawberry.argument(description="When the key ends; never by itself when left out.")] = None,
    ) -> pb.CreateApiKeyResponse:
        """Makes a key."""
        await info.context.rates.spend("account", principal().subject)
        expiry = None if expires_at is None else Timestamp(seconds=expires_at // NANOSECONDS, nanos=expires_at % NANOSECONDS)
        request = pb.CreateApiKeyRequest(
            name=name,
            kind=kind,
            role=role or "",
            source=source or "",
            expires_at=expiry,
            ack=ack,
            events_per_second=events_per_second or 0,
            bytes_per_second=bytes_per_second or 0,
        )
        return await info.context.services.auth.CreateApiKey(request)

    @strawberry.mutation(graphql_type=ApiKey, description="Changes the limits of an ingest token, within a minute. Needs the scope `keys:write`.")
    async def update_api_key(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The token.")],
        events_per_second: Annotated[
            int | None, strawberry.argument(description="Events that it may send per second; 0: no limit of its own. Left as it is when left out.")
        ] = None,
        bytes_per_second: Annotated[
            BigInt | None, strawberry.argument(description="Bytes that it may send per second; 0: no limit of its own. Left as it is when left out.")
        ] = None,
    ) -> pb.ApiKey:
        """Changes a key."""
        await info.context.rates.spend("account", principal().subject)
        request = pb.UpdateApiKeyRequest(id=id, events_per_second=events_per_second, bytes_per_second=bytes_per_second)
        return (await info.context.services.auth.UpdateApiKey(request)).key

    @strawberry.mutation(graphql_type=ApiKey, description="Ends a key. Needs the scope `keys:write`.")
    async def revoke_api_key(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The key.")],
    ) -> pb.ApiKey:
        """Ends a key, and forgets the access token that it was exchanged for."""
        await info.context.rates.spend("account", principal().subject)
        response = await info.context.services.auth.RevokeApiKey(pb.RevokeApiKeyRequest(id=id))
        info.context.callers.forget_key(id)
        return response.key
