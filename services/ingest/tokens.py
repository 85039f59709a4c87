"""Tokens of agents: verified by the auth service, remembered for a minute."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING

from elis.auth.v1 import auth_pb2 as pb
from kit.errors import ElisError, Unavailable

if TYPE_CHECKING:
    from elis.auth.v1.auth_pb2_grpc import AuthServiceAsyncStub

VALID_SECONDS = 60.0
UNKNOWN_SECONDS = 5.0
STALE_SECONDS = 900.0
"""While the auth service is away, a token that was valid this recently still is: agents must not lose data."""
MAX_TOKENS = 10_000
MAX_TOKEN_LENGTH = 200


class TokenState(Enum):
    """What a token is worth."""

    VALID = "valid"
    UNKNOWN = "unknown"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Agent:
    """The owner of a valid token."""

    id: str
    name: str
    source: str
    """The source that the token is bound to; empty when the sender names it."""
    ack: bool = False
    """Whether HEC clients of the token use indexer acknowledgement."""
    events_per_second: int = 0
    """What it may send; 0: it has no limit of its own."""
    bytes_per_second: int = 0


NOBODY = Agent("", "", "")
"""Who sends without a token that is known."""

_STATES = {
    pb.VerifyIngestTokenResponse.STATE_VALID: TokenState.VALID,
    pb.VerifyIngestTokenResponse.STATE_DISABLED: TokenState.DISABLED,
}


class TokenBook:
    """Answers whose token it is, asking the auth service at most once a minute per token."""

    def __init__(self, auth: AuthServiceAsyncStub) -> None:
        self._auth = auth
        self._known: dict[str, tuple[float, TokenState, Agent]] = {}

    async def verify(self, token: str) -> tuple[TokenState, Agent]:
        """Returns the state of a token and its owner; raises Unavailable when the auth service is needed but away."""
        now = monotonic()
        known = self._known.get(token)
        if known is not None:
            checked_at, state, agent = known
            if now - checked_at < (VALID_SECONDS if state is TokenState.VALID else UNKNOWN_SECONDS):
                return state, agent
        if len(token) > MAX_TOKEN_LENGTH:
            return TokenState.UNKNOWN, NOBODY
        try:
            response: pb.VerifyIngestTokenResponse = await self._auth.VerifyIngestToken(pb.VerifyIngestTokenRequest(token=token))
        except ElisError:
            if known is not None and known[1] is TokenState.VALID and now - known[0] < STALE_SECONDS:
                return known[1], known[2]
            raise Unavailable("the token cannot be checked now; try again", retry_after=1.0) from None
        state = _STATES.get(response.state, TokenState.UNKNOWN)
        agent = Agent(response.id, response.name, response.source, response.ack, response.events_per_second, response.bytes_per_second)
        if len(self._known) >= MAX_TOKENS:
            self._known.clear()
        self._known[token] = (now, state, agent)
        return state, agent
