"""HTTP/1.1 connections of a target: bounded in number and in patience, drained without cutting a request.

uvicorn's protocol with what it leaves open: a connection that sends no request, or the head of one byte by byte, is closed; idle
connections are no work and take no room from others; a peer that has closed its side still gets its reply; a reply that ends
before the request's body is not lost in a reset; and on shutdown a request that is on its way on an idle connection is answered.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

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
        if self._draining and self.cycle is not None:
            self.shutdown()

    def on_message_complete(self) -> None:
        """Ends the body of a request."""
        self._stay_open()
        if self.cycle is not None:
            self.cycle.more_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Ends a reply."""
        super().on_response_complete()
        self._idle_since = self.loop.time()
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            self._close_in(DISCARD_SECONDS)

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
        self._stay_open()
        self._timer = self.loop.call_later(seconds, self.transport.close)

    def _stay_open(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
