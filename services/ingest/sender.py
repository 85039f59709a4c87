"""Sends requests to the receivers as a well-behaved agent does: waits while ELIS is busy, stops when it is refused."""

from __future__ import annotations

import httpx
import stamina
from msgspec import DecodeError, Struct, ValidationError, json

from kit.errors import InvalidArgument, PermissionDenied, Unavailable

REQUEST_SECONDS = 30.0
PATIENCE_SECONDS = 60.0
"""How long a busy or absent ELIS is asked again."""
MAX_CONNECTIONS = 8
_TOO_MANY = 429
_REFUSED = frozenset({401, 403})


class HecReply(Struct, rename="kebab"):
    """The body of a reply to HEC; `invalid_event_number` counts from 0."""

    text: str = ""
    code: int = 0
    invalid_event_number: int | None = None


class Busy(Exception):
    """ELIS asks to be asked again, and was, for as long as patience lasts."""

    def __init__(self, after: float | None) -> None:
        super().__init__("ELIS is busy")
        self.after = after


def open_client() -> httpx.AsyncClient:
    """Returns a client for senders, to be used as a context manager."""
    limits = httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS)
    return httpx.AsyncClient(timeout=REQUEST_SECONDS, limits=limits, trust_env=False)


async def post(client: httpx.AsyncClient, url: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
    """Posts until the reply is final; raises Busy when patience ends, else what `post_once` raises."""
    async for attempt in stamina.retry_context(on=_backoff, attempts=None, timeout=PATIENCE_SECONDS, wait_initial=0.2, wait_max=5.0):
        with attempt:
            response = await post_once(client, url, body, headers)
            if response.status_code == _TOO_MANY or response.is_server_error:
                raise Busy(_retry_after(response))
    return response


async def post_once(client: httpx.AsyncClient, url: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
    """Posts; raises Unavailable when nobody answers and PermissionDenied when the token is refused."""
    try:
        response = await client.post(url, content=body, headers=headers)
    except httpx.ConnectError:
        raise Unavailable(f"nobody answers at {url}; start ELIS with `elis up` and try again", url=url) from None
    except httpx.TransportError as error:
        raise Unavailable(f"the connection to {url} broke ({type(error).__name__}); see whether ELIS still runs", url=url) from None
    except httpx.InvalidURL as error:
        raise InvalidArgument(f"the credentials file has an address that is none: {url!r} ({error})", url=url) from None
    if response.status_code in _REFUSED:
        raise PermissionDenied(f"ELIS at {url} refuses the ingest token; take the credentials file of this ELIS with --credentials", url=url)
    return response


def read_hec(response: httpx.Response) -> HecReply:
    """Returns the body of a HEC reply; code -1 when it is not one."""
    try:
        return json.decode(response.content, type=HecReply)
    except (DecodeError, ValidationError):
        return HecReply(response.text[:200], -1)


def _retry_after(response: httpx.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


def _backoff(error: Exception) -> bool | float:
    """Tells stamina whether to try again, and when if ELIS said so."""
    if isinstance(error, Busy):
        return True if error.after is None else error.after
    return isinstance(error, Unavailable)
