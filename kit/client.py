"""Channels to the other targets: deadline, identity, request id, and errors rebuilt as their classes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from datetime import timedelta
from time import monotonic, time
from typing import Any

import grpc

from kit.auth import current_principal
from kit.errors import METADATA_KEY, decode_error
from kit.interceptors import REQUEST_ID_KEY, request_id

TokenSource = Callable[[], Awaitable[str]]
"""Returns the access token of a call; an empty one makes it anonymous."""

deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
"""Monotonic time after which nobody waits for the work that is being done: its calls get what is left until then."""

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Blocks travel whole; everything else is far smaller."""

_CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    (
        "grpc.service_config",
        # One HTTP/2 connection pins to one pod: spread calls over all that a headless service names.
        json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}),
    ),
]


async def forward_caller() -> str:
    """Token source that passes the caller's own token on, so that the owning service decides."""
    caller = current_principal.get()
    return caller.token if caller is not None else ""


async def stay_anonymous() -> str:
    """Token source for public methods."""
    return ""


class ServiceIdentity:
    """Token source of a target that calls for itself: fetches its token and renews it in time.

    `issue` returns (token, expiry in seconds since 1970).
    """

    _RENEW_BEFORE_SECONDS = 60

    def __init__(self, issue: Callable[[], Awaitable[tuple[str, float]]]) -> None:
        self._issue = issue
        self._token = ""
        self._expires_at = 0.0

    async def __call__(self) -> str:
        """Returns a token that is valid for another minute at least."""
        if time() > self._expires_at - self._RENEW_BEFORE_SECONDS:
            self._token, self._expires_at = await self._issue()
        return self._token


def connect(address: str, token_source: TokenSource, timeout: timedelta) -> grpc.aio.Channel:
    """Opens a channel. Calls without a deadline of their own get `timeout` (streams run until they end)."""
    outgoing = _Outgoing(token_source, timeout.total_seconds())
    return grpc.aio.insecure_channel(
        address,
        options=_CHANNEL_OPTIONS,
        interceptors=[_UnaryInterceptor(outgoing), _StreamInterceptor(outgoing)],
    )


class _Outgoing:
    """Completes the details of a call."""

    def __init__(self, token_source: TokenSource, timeout_seconds: float) -> None:
        self._token_source = token_source
        self._timeout_seconds = timeout_seconds

    async def complete(self, details: grpc.aio.ClientCallDetails, *, bounded: bool) -> grpc.aio.ClientCallDetails:
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        token = await self._token_source()
        if token:
            metadata.add("authorization", f"Bearer {token}")
        if request_id.get():
            metadata.add(REQUEST_ID_KEY, request_id.get())
        timeout = details.timeout
        if timeout is None and bounded:
            timeout = self._timeout_seconds
            until = deadline.get()
            if until is not None:
                timeout = min(timeout, max(until - monotonic(), 0.0))
        return grpc.aio.ClientCallDetails(
            method=details.method,
            timeout=timeout,
            metadata=metadata,
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
        )


class _UnaryInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, outgoing: _Outgoing) -> None:
        self._outgoing = outgoing

    async def intercept_unary_unary(self, continuation: Any, details: grpc.aio.ClientCallDetails, request: Any) -> Any:
        try:
            call = await continuation(await self._outgoing.complete(details, bounded=True), request)
            return await call
        except grpc.aio.AioRpcError as error:
            raise rebuild(error) from None


class _StreamInterceptor(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, outgoing: _Outgoing) -> None:
        self._outgoing = outgoing

    async def intercept_unary_stream(self, continuation: Any, details: grpc.aio.ClientCallDetails, request: Any) -> AsyncIterator[Any]:
        call = await continuation(await self._outgoing.complete(details, bounded=False), request)

        async def responses() -> AsyncIterator[Any]:
            try:
                async for response in call:
                    yield response
            except grpc.aio.AioRpcError as error:
                raise rebuild(error) from None
            finally:
                call.cancel()

        return responses()


def rebuild(error: grpc.aio.AioRpcError) -> Exception:
    """Returns the error of `kit.errors` that the service raised."""
    encoded = next((value for key, value in error.trailing_metadata() or () if key == METADATA_KEY and isinstance(value, bytes)), None)
    return decode_error(error.code(), error.details() or "", encoded)
