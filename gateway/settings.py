"""Settings of the gateway."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from limits import parse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from kit.settings import Settings


def _check_rate(text: str) -> str:
    parse(text)
    return text


Rate = Annotated[str, AfterValidator(_check_rate)]
"""So many in such a time: "100/second", "6000 per minute", "10 per 5 minutes"."""


class RateLimits(BaseModel):
    """How often one caller may do what. `login`, `logins`, `refresh` and `refused` count per network address."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: Rate = "12000/minute"
    """Operations of one signed-in caller."""
    ingest: Rate = "1200/minute"
    """`ingest` mutations of one caller."""
    account: Rate = "120/minute"
    """Mutations of one caller that change users and keys."""
    login: Rate = "10/minute"
    """Passwords tried from one address for one user name."""
    logins: Rate = "60/minute"
    """Passwords tried from one address for all user names."""
    refresh: Rate = "120/minute"
    """Refresh tokens used from one address."""
    refused: Rate = "120/minute"
    """Requests without a valid credential from one address."""


class GatewaySettings(Settings):
    """What the gateway needs to know beside what every process does."""

    allowed_origins: tuple[str, ...] = ()
    """Other web origins whose pages may use the API (CORS, WebSocket), for example ["https://ops.example.org"]."""
    trusted_proxies: str = "127.0.0.1"
    """Addresses or networks, separated by commas, whose X-Forwarded-For names the client that rates are counted for."""
    playground: bool = True
    """Whether / serves GraphiQL."""
    introspection: bool = True
    """Whether signed-in callers may read the schema. Anonymous callers never may."""
    max_query_bytes: Annotated[int, Field(ge=1_000, le=64_000_000)] = 1_000_000
    """Largest body of a request; a larger one gets status 413."""
    max_message_bytes: Annotated[int, Field(ge=1_000, le=16_000_000)] = 131_072
    """Largest message on a WebSocket."""
    max_subscriptions: Annotated[int, Field(ge=1, le=1_000)] = 10
    """Operations in flight on one WebSocket."""
    request_timeout: timedelta = timedelta(seconds=5)
    """Time for one query or mutation; what is left of it is the deadline of every call it makes."""
    connection_init_timeout: timedelta = timedelta(seconds=5)
    """How long a WebSocket may be open before its client has said who it is."""
    rate_limits: RateLimits = RateLimits()
