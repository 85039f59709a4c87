"""Request bodies, bounded before and after decompression."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Collection
from typing import Final, Protocol

import zstandard
from starlette.requests import ClientDisconnect, Request

from kit.errors import InvalidArgument, Unavailable
from kit.routes import whole_body
from services.ingest.endpoints import Arrival
from services.ingest.intake import Room
from services.ingest.tokens import Agent

_INLINE_BYTES = 160 * 1024
"""What is decompressed on the event loop: handing it over would cost more."""
_PIECE_BYTES = 64 * 1024
_ZSTD_PIECE_BYTES = 256
"""Four bytes of zstd can stand for 128 KiB: so many at once make at most 8 MiB."""
_ZSTD_WINDOW = 2**23
"""The largest that zstd over HTTP may ask for (RFC 9659)."""
MAX_USER_AGENT = 200
USUAL_RATIO = 10
MAX_MEMBERS = 10_000
MAX_RECORDS = 250_000
"""Records of one request: tiny ones take a hundred times more memory in work than in the body."""
MAX_VALUES = 1_000_000
"""Attributes of one request, in protobuf with the members of their values: an empty one has a few bytes there and hundreds in work."""
MAX_CONTAINERS = 2_000_000
"""Objects and arrays that a request in JSON may open: an empty one has two bytes there and many here."""
BODY_SECONDS = 30.0
BODY_PROGRESS_BYTES = 16 * 1024
"""A body of which not as many bytes come in that time, nor its end, is given up."""


class _Member(Protocol):
    """Decompresses one member of a body: an object of zlib's kind."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    @property
    def unconsumed_tail(self) -> bytes: ...

    def decompress(self, data: memoryview, max_length: int, /) -> bytes: ...


class _ZstdMember:
    """A frame of zstd. It makes all that its input stands for, whatever length is asked for: it gets small pieces."""

    unconsumed_tail = b""

    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()

    @property
    def eof(self) -> bool:
        return self._frame.eof

    @property
    def unused_data(self) -> bytes:
        return self._frame.unused_data

    def decompress(self, data: memoryview, _: int, /) -> bytes:
        return self._frame.decompress(data) if data else b""


_MEMBERS: Final[dict[str, Callable[[], _Member]]] = {
    "gzip": lambda: zlib.decompressobj(zlib.MAX_WBITS | 16),
    "x-gzip": lambda: zlib.decompressobj(zlib.MAX_WBITS | 16),
    "deflate": zlib.decompressobj,
    "zlib": zlib.decompressobj,
    "zstd": _ZstdMember,
}
"""By content encoding. HTTP's `deflate` is the format of zlib (RFC 9110); the OpenTelemetry Collector also calls it so."""


class BodyTooLarge(InvalidArgument):
    """A body is larger than the bound."""


def check_containers(body: bytes) -> None:
    """Raises BodyTooLarge when JSON opens more objects and arrays than a request may."""
    check_marks(body, b"{[", MAX_CONTAINERS, "objects and arrays")


def check_marks(body: bytes, marks: bytes, largest: int, name: str) -> None:
    """Raises BodyTooLarge when JSON has more of some characters than so many; those in its texts do not count."""
    if len(body) > largest and _count_all(body, marks) > largest and _count_outside_texts(body, marks) > largest:
        raise BodyTooLarge(f"the request has more than {largest} {name}")


def _count_all(body: bytes, marks: bytes) -> int:
    return sum(body.count(mark) for mark in marks)


def _count_outside_texts(body: bytes, marks: bytes) -> int:
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # now every quote begins or ends a text
    found = inside = 0
    for start in range(0, len(plain), _PIECE_BYTES):
        parts = plain[start : start + _PIECE_BYTES].split(b'"')
        found += _count_all(b"".join(parts[inside::2]), marks)
        inside ^= (len(parts) - 1) & 1
    return found


class UnsupportedEncoding(InvalidArgument):
    """A body is compressed in a way that the receiver does not read."""


class BrokenBody(InvalidArgument):
    """A compressed body cannot be decompressed, or ended early."""


async def read_body(request: Request, limit: int, room: Room, *, left: Collection[str] = ()) -> bytes:
    """Reads and decompresses a request body of at most `limit` bytes, counted before and after.

    `room` holds what has come of it. A body in one of the encodings `left` is returned as it came. Raises Unavailable when
    there is no more room, or when the body comes too slowly.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in _MEMBERS and encoding not in ("identity", "") and encoding not in left:
        raise UnsupportedEncoding(f"the content encoding {encoding[:40]!r} is not supported; use gzip, zstd, deflate or none")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise BodyTooLarge(f"the body has {declared} bytes, more than {limit}")
    body = whole_body(request)
    if body is None:
        body = await _read_parts(request, limit, room)
    elif len(body) > limit:
        raise BodyTooLarge(f"the body has more than {limit} bytes")
    if body and encoding in _MEMBERS:
        body = await _inflate(body, limit, room, encoding)
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


async def _inflate(body: bytes, limit: int, room: Room, encoding: str) -> bytes:
    """Decompresses a body step by step, each when there is room for what it may make."""
    inflation = Inflation(body, limit, encoding)
    bound = min(max(len(body) * USUAL_RATIO, 1), limit + 1)
    while True:
        room.resize(len(body) + bound)
        # Both libraries let other threads run meanwhile.
        if inflation.run(bound) if bound <= _INLINE_BYTES else await asyncio.to_thread(inflation.run, bound):
            break
        bound = min(bound * 4, limit + 1)
    return inflation.content()


class Inflation:
    """Decompresses one or several members, at most `limit` bytes, whatever the body promises."""

    def __init__(self, body: bytes, limit: int, encoding: str = "gzip") -> None:
        self._body = memoryview(body)
        self._limit = limit
        self._encoding = encoding
        self._piece_bytes = _ZSTD_PIECE_BYTES if encoding == "zstd" else _PIECE_BYTES
        self._position = 0
        self._member = _MEMBERS[encoding]()
        self._members = 1
        self._parts: list[bytes] = []
        self._size = 0

    def run(self, bound: int) -> bool:
        """Goes on until there are `bound` bytes or, of zstd, some more; returns whether that is all. Raises BrokenBody and BodyTooLarge."""
        while self._position < len(self._body) or not self._member.eof:
            # zlib copies what it leaves of its input: it gets pieces, lest many small members cost the square of their number.
            piece = self._body[self._position : self._position + self._piece_bytes]
            try:
                part = self._member.decompress(piece, bound - self._size)
            except (zlib.error, zstandard.ZstdError) as error:
                raise BrokenBody(f"the body is not valid {self._encoding}: {error}") from None
            # At its end a member tells what it left as both.
            left = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            self._position += len(piece) - len(left)
            self._add(part)
            if self._member.eof and self._position < len(self._body):
                self._next_member()
            elif not piece and not part and not self._member.eof:
                raise BrokenBody(f"the {self._encoding} body ends early")
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
            raise BrokenBody(f"the body has more than {MAX_MEMBERS} {self._encoding} members")
        self._members += 1
        self._member = _MEMBERS[self._encoding]()


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
