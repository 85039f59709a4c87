"""Request bodies, bounded before and after decompression."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Collection

from starlette.requests import ClientDisconnect, Request

from kit.errors import InvalidArgument
from services.ingest.endpoints import Arrival
from services.ingest.tokens import Agent

_GZIP = zlib.MAX_WBITS | 16
_INLINE_BYTES = 16 * 1024
MAX_USER_AGENT = 200


class BodyTooLarge(InvalidArgument):
    """A body is larger than the bound."""


class UnsupportedEncoding(InvalidArgument):
    """A body is compressed in a way that the receiver does not read."""


class BrokenBody(InvalidArgument):
    """A compressed body cannot be decompressed, or ended early."""


async def read_body(request: Request, limit: int, *, left: Collection[str] = ()) -> bytes:
    """Reads and decompresses a request body of at most `limit` bytes, counted on both sides of gzip.

    A body in one of the encodings `left` is returned as it came.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", "") and encoding not in left:
        raise UnsupportedEncoding(f"the content encoding {encoding[:40]!r} is not supported; use gzip or none")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise BodyTooLarge(f"the body has {declared} bytes, more than {limit}")
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise BodyTooLarge(f"the body has more than {limit} bytes")
            parts.append(part)
    except ClientDisconnect:
        raise BrokenBody("the sender hung up before the end of the body") from None
    body = b"".join(parts)
    if encoding not in ("gzip", "x-gzip"):
        return body
    # zlib lets other threads run meanwhile.
    return decompress_gzip(body, limit) if size < _INLINE_BYTES else await asyncio.to_thread(decompress_gzip, body, limit)


def decompress_gzip(body: bytes, limit: int) -> bytes:
    """Returns the content of one or several gzip members; stops at `limit` bytes, whatever the body promises."""
    parts: list[bytes] = []
    size = 0
    while body:
        member = zlib.decompressobj(_GZIP)
        try:
            part = member.decompress(body, limit - size + 1)
        except zlib.error as error:
            raise BrokenBody(f"the body is not valid gzip: {error}") from None
        size += len(part)
        if size > limit:
            raise BodyTooLarge(f"the body has more than {limit} bytes when it is decompressed")
        if not member.eof:
            raise BrokenBody("the gzip body ends early")
        parts.append(part)
        body = member.unused_data
    return b"".join(parts)


def arrival_of(request: Request, protocol: str, agent: Agent) -> Arrival:
    """Returns who sends an HTTP request."""
    return Arrival(protocol, agent, request.client.host if request.client else "", request.headers.get("user-agent", "")[:MAX_USER_AGENT])


def admitted_size(request: Request, limit: int) -> int:
    """Returns the room to reserve for a request: its declared length, or the limit when it declares none.

    A compressed body is counted ten times, which is what logs compress to.
    """
    declared = request.headers.get("content-length", "")
    size = int(declared) if declared.isdigit() else limit // 8
    factor = 10 if request.headers.get("content-encoding", "") else 1
    return min(size * factor, limit)
