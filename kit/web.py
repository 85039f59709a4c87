"""HTTP/1.1 connections of a target: bounded in number and in patience, drained without cutting a request.

uvicorn's protocol with what it leaves open: a connection that sends no request, or the head of one byte by byte, is closed; idle
connections are no work and take no room from others; a peer that has closed its side still gets its reply; a reply that ends
before the request's body is not lost in a reset; and on shutdown a request that is on its way on an idle connection is answered.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from functools import lru_cache, partial
from math import inf
from typing import Any, cast

from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

WHOLE_BODY = "elis.whole_body"
"""ASGI extension; its `take` returns the body of a request, once, when all of it has come, else None."""
WHOLE_REPLY = "elis.whole_reply"
"""ASGI extension; its `give` sends status, headers and body at once, and returns False when the usual way must be taken."""
MAX_CONNECTIONS = 2_000
"""Connections of a port; for a further one the one that is idle for longest is closed."""
MAX_REQUESTS = 1_000
"""Requests in work; further ones get status 503."""
HEAD_SECONDS = 30.0
"""Time for the head of a request, and of a new connection for its first one."""
KEEP_ALIVE_SECONDS = 75
"""How long a connection may be idle after a reply. Longer than load balancers wait, so that they, not ELIS, close it."""
DISCARD_SECONDS = 10.0
"""How long the rest of a body is read and dropped after its reply: closing at once would reset the connection, reply and all."""
_SPECIAL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]|^(?i:connection|transfer-encoding):")
"""Headers that say more than the reply's content, or that cannot be sent."""
_TIMER_SECONDS = 0.01
"""How much too early a timer may come."""
LINGER_SECONDS = 0.5
"""How long idle connections are still read after the shutdown began."""


class WebProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.limit_concurrency = None  # it counts idle connections as work
        self._in_head = False
        self._draining = False
        self._timer: asyncio.TimerHandle | None = None
        self._close_at = inf
        """When the connection is closed unless something happens before, by the clock of the loop."""
        self._idle_since = 0.0

    @property
    def idle(self) -> bool:
        """Whether no request is in work on this connection."""
        return self.cycle is None or (self.cycle.response_complete and not self.pipeline)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Makes room for a new connection, and waits for its first request."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._idle_since = self.loop.time()
        self._close_in(HEAD_SECONDS)
        if len(self.connections) > MAX_CONNECTIONS:
            known = [other for other in self.connections if isinstance(other, WebProtocol) and other.idle and other is not self]
            min(known, key=lambda other: other._idle_since, default=self).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the requests of the connection."""
        self._stay_open()
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Lets requests that came whole get their replies after the peer has closed its side."""
        if self.idle or self.cycle.more_body:
            return False
        self._close_after_last()
        return True

    def on_message_begin(self) -> None:
        """Gives the head of a request its time."""
        super().on_message_begin()
        self._in_head = True
        self._close_in(HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        """Starts a request."""
        self._in_head = False
        self._stay_open()
        super().on_headers_complete()
        cycle = self.cycle
        if cycle is None or cycle.scope is not self.scope:
            return  # it becomes a WebSocket
        self.scope["extensions"] = {WHOLE_BODY: {"take": partial(_take_whole_body, cycle)}, WHOLE_REPLY: {"give": partial(_give_whole_reply, cycle)}}
        if self._draining:
            self.shutdown()

    def on_message_complete(self) -> None:
        """Ends the body of a request."""
        self._stay_open()
        if self.cycle is not None:
            self.cycle.more_body = False
            if self.cycle.response_complete:
                self._close_in(self.timeout_keep_alive)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Ends a reply, and begins the next request that has come already."""
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self.cycle.response_complete and self.cycle.more_body:
            self._close_in(DISCARD_SECONDS)
        else:
            self._close_in(self.timeout_keep_alive)

    def shutdown(self) -> None:
        """Closes the connection once nothing is in work, and nothing on its way."""
        self._draining = True
        if self.idle:
            self.loop.call_later(LINGER_SECONDS, self._close_idle)
        else:
            self._close_after_last()
            if self.cycle.more_body:
                # Less than uvicorn waits: a request that it cancels would be answered with 500, which is final for some senders.
                self._close_in((self.config.timeout_graceful_shutdown or 2 * LINGER_SECONDS) / 2)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        super()._start_asgi_task(cycle, app if len(self.tasks) < MAX_REQUESTS else service_unavailable)

    def _close_after_last(self) -> None:
        """Lets the last request that came be the last of the connection."""
        last = self.pipeline[0][0] if self.pipeline else self.cycle
        last.keep_alive = False

    def _close_idle(self) -> None:
        if self.idle and not self._in_head:
            self.transport.close()

    def _close_in(self, seconds: float) -> None:
        """Closes the connection after so long, unless `_stay_open` or another time comes before.

        Every request sets a few such times, which nearly never come: one timer waits for the earliest, and is not taken back.
        """
        self._close_at = at = self.loop.time() + seconds
        if self._timer is None or self._timer.when() > at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_at(at, self._close_late)

    def _stay_open(self) -> None:
        self._close_at = inf

    def _close_late(self) -> None:
        self._timer = None
        if self._close_at <= self.loop.time() + _TIMER_SECONDS:
            self.transport.close()
        elif self._close_at < inf:
            self._timer = self.loop.call_at(self._close_at, self._close_late)


def _take_whole_body(cycle: RequestResponseCycle) -> bytes | None:
    """Returns the body of a request if all of it has come and nothing of it was read before, else None."""
    if cycle.more_body or cycle.response_complete or cycle.disconnected:
        return None
    body, cycle.body = bytes(cycle.body), bytearray()
    return body


def _give_whole_reply(cycle: RequestResponseCycle, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
    """Sends a reply with one write; returns False, and sends nothing, for any but a plain one with its content's length."""
    if cycle.response_started or cycle.disconnected or cycle.flow.write_paused or cycle.scope["method"] == "HEAD":
        return False
    head = _encode_head(status, (*cycle.default_headers, *headers), len(body), cycle.keep_alive)
    if head is None:
        return False
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(head + body)
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


@lru_cache(256)
def _encode_head(status: int, headers: tuple[tuple[bytes, bytes], ...], length: int, keep_alive: bool) -> bytes | None:
    """Returns the head of a reply, or None when it is not plain. Nearly all replies of an agent have one of a few heads."""
    if dict(headers).get(b"content-length") != b"%d" % length or any(_SPECIAL.search(b"%s:%s" % line) for line in headers):
        return None
    return b"".join([STATUS_LINE[status], *(b"%s: %s\r\n" % line for line in headers), b"" if keep_alive else b"connection: close\r\n", b"\r\n"])
