"""Credentials of agents: the ingest token in whatever form a client can send it, and whose it is."""

from __future__ import annotations

import binascii
from base64 import b64decode

from kit.errors import PermissionDenied, Unauthenticated
from services.ingest.tokens import Agent, TokenBook, TokenState


def parse_authorization(header: str) -> str | None:
    """Returns the token of an Authorization header, or None when there is none in it.

    Splunk and Bearer carry the token itself, Basic carries it as password, ApiKey (Elasticsearch) is base64 of `id:token`
    or the token itself.
    """
    scheme, _, value = header.partition(" ")
    scheme, value = scheme.lower(), value.strip()
    if not value:
        return None
    if scheme in ("splunk", "bearer"):
        return value
    if scheme == "basic":
        return _behind_colon(value)
    if scheme == "apikey":
        return _behind_colon(value) or value
    return None


async def authenticate(header: str | None, tokens: TokenBook) -> Agent:
    """Returns the agent of an Authorization header.

    Raises Unauthenticated without a token, PermissionDenied for one that is not valid, and Unavailable when it cannot be checked.
    """
    token = parse_authorization(header) if header else None
    if token is None:
        raise Unauthenticated("send the ingest token in the header Authorization, as Bearer or in another form of the protocol")
    state, agent = await tokens.verify(token)
    if state is not TokenState.VALID:
        raise PermissionDenied(f"the ingest token is {'disabled' if state is TokenState.DISABLED else 'not known'}")
    return agent


def _behind_colon(encoded: str) -> str | None:
    try:
        _, colon, secret = b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return secret if colon and secret else None
