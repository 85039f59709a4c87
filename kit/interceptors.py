"""What happens around every RPC on the server: request id, deadline, identity, scope, errors."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import grpc
import structlog
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

from kit.auth import PUBLIC, Verifier, current_principal
from kit.errors import (
    METADATA_KEY,
    DeadlineExceeded,
    ElisError,
    Internal,
    InvalidArgument,
    RateLimited,
    Unauthenticated,
    Unavailable,
    encode_error,
)

if TYPE_CHECKING:
    RpcContext = grpc.aio.ServicerContext[Any, Any]
    """Type of the `context` argument of every RPC method."""

log = structlog.get_logger()

REQUEST_ID_KEY = "x-request-id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
STATUS_DETAILS_KEY = "grpc-status-details-bin"

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the request that is being served, passed on to every target it reaches."""


def choose_request_id(given: str | None) -> str:
    """Returns the caller's request id when it is harmless text, else a new one."""
    return given if given and _REQUEST_ID.fullmatch(given) else uuid4().hex


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler. `scopes` maps each method path to its declared scope (PUBLIC for none)."""

    def __init__(self, verifier: Verifier, scopes: Mapping[str, str]) -> None:
        self._verifier = verifier
        self._scopes = scopes

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Replaces the method's handler by one that does all of the above around it."""
        handler = await continuation(details)
        scope = self._scopes.get(details.method)
        if handler is None or scope is None:  # an unknown method, or grpc.health
            return handler
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._wrap_unary(handler.unary_unary, scope, details.method),
                handler.request_deserializer,
                handler.response_serializer,
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                self._wrap_stream(handler.unary_stream, scope, details.method),
                handler.request_deserializer,
                handler.response_serializer,
            )
        raise NotImplementedError(f"{details.method}: requests that are streams are not served")

    def _wrap_unary(self, method: Any, scope: str, path: str) -> Any:
        async def serve(request: Any, context: RpcContext) -> Any:
            try:
                await self._admit(context, scope)
                remaining = context.time_remaining()
                if remaining is None:
                    raise InvalidArgument("the call has no deadline", method=path)
                return await method(request, context)
            except Exception as error:
                await abort(context, error, path)

        return serve

    def _wrap_stream(self, method: Any, scope: str, path: str) -> Any:
        async def serve(request: Any, context: RpcContext) -> AsyncIterator[Any]:
            try:
                await self._admit(context, scope)
                async for response in method(request, context):
                    yield response
            except Exception as error:
                await abort(context, error, path)

        return serve

    async def _admit(self, context: RpcContext, scope: str) -> None:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        request_id.set(choose_request_id(metadata.get(REQUEST_ID_KEY)))
        current_principal.set(None)
        authorization = metadata.get("authorization")
        if authorization is not None:
            kind, _, token = authorization.partition(" ")
            if kind != "Bearer":
                raise Unauthenticated("the authorization must be a bearer token")
            caller = await self._verifier.verify(token)
            current_principal.set(caller)
            if scope != PUBLIC:
                caller.require(scope)
        elif scope != PUBLIC:
            raise Unauthenticated("sign in first")


async def abort(context: RpcContext, error: Exception, path: str) -> None:
    """Ends the call with the error's status; what is not an ElisError is logged and told as nothing."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, asyncio.TimeoutError | TimeoutError):
        error = DeadlineExceeded("the time for the call ran out")
    if not isinstance(error, ElisError):
        log.error("rpc failed", method=path, request_id=request_id.get(), exc_info=error)
        error = Internal("internal error", request_id=request_id.get())
    metadata: list[tuple[str, bytes]] = [(METADATA_KEY, encode_error(error))]
    if isinstance(error, RateLimited | Unavailable):
        metadata.append((STATUS_DETAILS_KEY, retry_details(error)))
    await context.abort(error.status, error.message, tuple(metadata))


def retry_details(error: ElisError) -> bytes:
    """Returns a google.rpc.Status with RetryInfo: OTLP clients retry only with it."""
    delay = duration_pb2.Duration()
    delay.FromTimedelta(timedelta(seconds=float(error.detail.get("retry_after", 1.0))))
    status = status_pb2.Status(code=error.status.value[0], message=error.message)
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    encoded: bytes = status.SerializeToString()
    return encoded
