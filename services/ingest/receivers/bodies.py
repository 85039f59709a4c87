"""Request bodies, bounded before and after decompression."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Collection

from starlette.requests import ClientDisconnect, Request

from kit.errors import InvalidArgument, Unavailable
from kit.routes import whole_body
from services.ingest.endpoints import Arrival
from services.ingest.intake import Room
from services.ingest.tokens import Agent

_GZIP = zlib.MAX_WBITS | 16
_INLINE_BYTES = 160 * 1024
"""What is decompressed on the event loop: handing it over would cost more."""
_PIECE_BYTES = 64 * 1024
MAX_USER_AGENT = 200
USUAL_RATIO = 10
MAX_MEMBERS = 10_000
MAX_RECORDS = 250_000
"""Records of one request: tiny ones take a hundred times more memory in work than in the body."""
BODY_SECONDS = 30.0
BODY_PROGRESS_BYTES = 16 * 1024
"""A body of which not as many bytes come in that time, nor its end, is given up."""


class BodyTooLarge(InvalidArgument):
    """A body is larger than the bound."""


class UnsupportedEncoding(InvalidArgument):
    """A body is compressed in a way that the receiver does not read."""


class BrokenBody(InvalidArgument):
    """A compressed body cannot be decompressed, or ended early."""


async def read_body(request: Request, limit: int, room: Room, *, left: Collection[str] = ()) -> bytes:
    """Reads and decompresses a request body of at most `limit` bytes, counted on both sides of gzip.

    `room` holds what has come of it. A body in one of the encodings `left` is returned as it came. Raises Unavailable when
    there is no more room, or when the body comes too slowly.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", "") and encoding not in left:
        raise UnsupportedEncoding(f"the content encoding {encoding[:40]!r} is not supported; use gzip or none")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise BodyTooLarge(f"the body has {declared} bytes, more than {limit}")
    body = whole_body(request)
    if body is None:
        body = await _read_parts(request, limit, room)
    elif len(body) > limit:
        raise BodyTooLarge(f"the body has more than {limit} bytes")
    if body and encoding in ("gzip", "x-gzip"):
        body = await _inflate(body, limit, room)
    room.decode(len(body))
    return body


async def _read_parts(request: Request, limit: int, room: Room) -> bytes:
    """Reads a body as it comes."""
    parts: list[bytes] = []
    size = awaited = 0
    try:
        async with asyncio.timeout(BODY_SECONDS) as patience:
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise BodyTooLarge(f"the body has more than {limit} bytes")
                room.resize(size)
                parts.append(part)
                if size >= awaited + BODY_PROGRESS_BYTES:
                    awaited = size
                    patience.reschedule(asyncio.get_running_loop().time() + BODY_SECONDS)
    except ClientDisconnect:
        raise BrokenBody("the sender hung up before the end of the body") from None
    except TimeoutError:
        raise Unavailable(f"less than {BODY_PROGRESS_BYTES} bytes of the body came in {BODY_SECONDS:.0f} s; try again", retry_after=1.0) from None
    return b"".join(parts)


async def _inflate(body: bytes, limit: int, room: Room) -> bytes:
    """Decompresses a body step by step, each when there is room for what it may make."""
    inflation = Inflation(body, limit)
    bound = min(max(len(body) * USUAL_RATIO, 1), limit + 1)
    while True:
        room.resize(len(body) + bound)
        # zlib lets other threads run meanwhile.
        if inflation.run(bound) if bound <= _INLINE_BYTES else await asyncio.to_thread(inflation.run, bound):
            break
        bound = min(bound * 4, limit + 1)
    return inflation.content()


class Inflation:
    """Decompresses one or several gzip members, at most `limit` bytes, whatever the body promises."""

    def __init__(self, body: bytes, limit: int) -> None:
        self._body = memoryview(body)
        self._limit = limit
        self._position = 0
        self._member = zlib.decompressobj(_GZIP)
        self._members = 1
        self._parts: list[bytes] = []
        self._size = 0

    def run(self, bound: int) -> bool:
        """Goes on until there are `bound` bytes; returns whether that is all. Raises BrokenBody and BodyTooLarge."""
        while self._position < len(self._body) or not self._member.eof:
            # zlib copies what it leaves of its input: it gets pieces, lest many small members cost the square of their number.
            piece = self._body[self._position : self._position + _PIECE_BYTES]
            try:
                part = self._member.decompress(piece, bound - self._size)
            except zlib.error as error:
                raise BrokenBody(f"the body is not valid gzip: {error}") from None
            # At its end a member tells what it left as both.
            left = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            self._position += len(piece) - len(left)
            self._add(part)
            if self._member.eof and self._position < len(self._body):
                self._next_member()
            elif not piece and not part and not self._member.eof:
                raise BrokenBody("the gzip body ends early")
            if self._size >= bound:
                return False
        return True

    def content(self) -> bytes:
        """Returns what was decompressed."""
        return b"".join(self._parts)

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._limit:
            raise BodyTooLarge(f"the body has more than {self._limit} bytes when it is decompressed")
        self._parts.append(part)

    def _next_member(self) -> None:
        if self._members == MAX_MEMBERS:
            raise BrokenBody(f"the body has more than {MAX_MEMBERS} gzip members")
        self._members += 1
        self._member = zlib.decompressobj(_GZIP)


def decompress_gzip(body: bytes, limit: int) -> bytes:
    """Returns the content of one or several gzip members; stops at `limit` bytes, whatever the body promises."""
    inflation = Inflation(body, limit)
    inflation.run(limit + 1)
    return inflation.content()


def arrival_of(request: Request, protocol: str, agent: Agent) -> Arrival:
    """Returns who sends an HTTP request."""
    return Arrival(protocol, agent, request.client.host if request.client else "", request.headers.get("user-agent", "")[:MAX_USER_AGENT])


def expected_size(request: Request, limit: int) -> int:
    """Returns the room that a request may need: its declared length, or an eighth of the limit when it declares none.

    A compressed body is counted ten times, which is what logs compress to.
    """
    declared = request.headers.get("content-length", "")
    size = int(declared) if declared.isdigit() else limit // 8
    factor = USUAL_RATIO if request.headers.get("content-encoding", "") else 1
    return min(size * factor, limit)
