"""/graphql: one HTTP request, or one WebSocket connection with many operations."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from json import JSONDecodeError
from time import monotonic, perf_counter, time
from typing import Any, cast

import orjson
import structlog
from cross_web import HTTPException
from graphql import GraphQLError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from starlette.websockets import WebSocketDisconnected as StarletteDisconnected
from strawberry.asgi import ASGIWebSocketAdapter, GraphQL
from strawberry.http import GraphQLHTTPResponse
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.schema import BaseSchema
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler, Operation
from strawberry.subscriptions.protocols.graphql_transport_ws.types import ConnectionInitMessage
from strawberry.types import ExecutionResult
from strawberry.types.unset import UNSET, UnsetType

from gateway.callers import Callers, read_credential, read_parameters
from gateway.context import Context, Services
from gateway.errors import describe, present
from gateway.metrics import Metrics
from gateway.rates import Rates
from gateway.settings import GatewaySettings
from kit.auth import current_principal
from kit.client import deadline
from kit.errors import DeadlineExceeded, ElisError, Internal, InvalidArgument, RateLimited, Unauthenticated, Unavailable
from kit.interceptors import REQUEST_ID_KEY, choose_request_id, request_id

log = structlog.get_logger()

_STATUSES: dict[type[ElisError], int] = {InvalidArgument: 400, RateLimited: 429, Unavailable: 503, DeadlineExceeded: 504}
"""HTTP status of a request that is refused as a whole. What happens inside an operation is status 200."""

_UNAUTHENTICATED = Unauthenticated("").code

UNAUTHORIZED = 4401
"""Close code for a client that named no caller; graphql-ws clients give up."""
FORBIDDEN = 4403
"""Close code for a caller who is not valid, or no longer; graphql-ws clients come back with a new token."""
TRY_AGAIN_LATER = 1013
CHECK_SECONDS = 5.0
"""How often the caller of an open WebSocket is verified again: revocation ends a connection within this time."""


class TransportHandler(BaseGraphQLTransportWSHandler[Context, None]):
    """graphql-transport-ws, with a caller whose time runs out."""

    _expiry: asyncio.Task[None] | None = None

    async def handle_message(self, message: Any) -> None:
        """Refuses what has not the shape of a message, then handles it."""
        payload = message.get("payload")
        well_formed = isinstance(message.get("type"), str)
        if message.get("type") == "subscribe":
            well_formed = isinstance(message.get("id"), str) and isinstance(payload, dict) and isinstance(payload.get("query"), str)
            well_formed = well_formed and all(isinstance(payload.get(name), kind | None) for name, kind in (("variables", dict), ("operationName", str)))
        elif message.get("type") == "complete":
            well_formed = isinstance(message.get("id"), str)
        if not well_formed:
            await self.handle_invalid_message("Failed to parse message")
            return
        await super().handle_message(message)
        if self.connection_acknowledged and self._expiry is None:
            self._expiry = asyncio.create_task(self._end_with_caller())

    async def handle_connection_init(self, message: ConnectionInitMessage) -> None:
        """Acknowledges a connection whose caller is known, closes any other."""
        try:
            await super().handle_connection_init(message)
        except Unauthenticated as error:
            await self.websocket.close(FORBIDDEN if self.context.credential else UNAUTHORIZED, error.message)
        except ElisError as error:
            await self.websocket.close(TRY_AGAIN_LATER, error.message)

    async def run_operation(self, operation: Operation[Context, None]) -> None:
        """Runs an operation as the caller of the connection, under a request id of its own."""
        current_principal.set(self.context.caller)
        request_id.set(choose_request_id(None))
        deadline.set(None)
        if self.context.caller is not None:
            try:
                await self.context.rates.spend("request", self.context.caller.subject)
            except RateLimited as error:
                await operation.send_initial_errors([present(GraphQLError(error.message, original_error=error))])
                return
        await super().run_operation(operation)

    async def handle_task_exception(self, error: Exception) -> None:
        """Logs the failure of an operation; that its client has gone is none."""
        if not isinstance(error, WebSocketDisconnected):
            log.error("operation failed", exc_info=error)

    async def shutdown(self) -> None:
        """Ends the operations and the watch over the caller."""
        if self._expiry is not None:
            self._expiry.cancel()
            with suppress(asyncio.CancelledError):
                await self._expiry
        await super().shutdown()

    async def _end_with_caller(self) -> None:
        """Closes the connection when its caller's token expires or is revoked. An API key that still holds gets a new one."""
        deadline.set(None)
        while (caller := self.context.caller) is not None:
            await asyncio.sleep(max(min(caller.expires_at - time(), CHECK_SECONDS), 0.1))
            try:
                caller = await self.context.callers.identify(self.context.credential)
            except Unavailable:
                pass  # auth is away: the caller stays until the token expires
            except ElisError:
                caller = None
            if caller is None or caller.expires_at <= time():
                await self.websocket.close(FORBIDDEN, "the access token is no longer valid")
                return
            self.context.caller = caller


class SocketAdapter(ASGIWebSocketAdapter):
    """Sends messages as text: the protocol knows no binary ones."""

    async def send_json(self, message: Mapping[str, object]) -> None:
        """Sends one message; raises WebSocketDisconnected when the client has gone."""
        try:
            await self.ws.send_text(orjson.dumps(message).decode())
        except (WebSocketDisconnect, StarletteDisconnected):
            raise WebSocketDisconnected from None


class Endpoint(GraphQL[Context, None]):
    """The ASGI application of /graphql."""

    graphql_transport_ws_handler_class = TransportHandler
    websocket_adapter_class = SocketAdapter

    def __init__(self, schema: BaseSchema, settings: GatewaySettings, services: Services, callers: Callers, rates: Rates, metrics: Metrics) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            allow_queries_via_get=False,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,),
            connection_init_wait_timeout=settings.connection_init_timeout,
            max_subscriptions_per_connection=settings.max_subscriptions,
            allowed_origins=settings.allowed_origins,
        )
        self._settings = settings
        self._services = services
        self._callers = callers
        self._rates = rates
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request or connection."""
        current_principal.set(None)
        if scope["type"] == "websocket":
            with self._metrics.connections.track_inprogress():
                await self.run(WebSocket(scope, receive=receive, send=send))
            return
        request = Request(scope, receive=receive)
        request_id.set(choose_request_id(request.headers.get(REQUEST_ID_KEY)))
        deadline.set(monotonic() + self._settings.request_timeout.total_seconds())
        started = perf_counter()
        with self._metrics.in_flight.track_inprogress():
            response = await self._answer(request)
        self._metrics.seconds.observe(perf_counter() - started)
        self._metrics.requests.labels(str(response.status_code)).inc()
        response.headers[REQUEST_ID_KEY] = request_id.get()
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        context = self._open_context(request)
        try:
            async with asyncio.timeout(self._settings.request_timeout.total_seconds()):
                await self._admit(context)
                return await self.run(request, context=context)
        except TimeoutError:
            return self._refuse(DeadlineExceeded("the time for the request ran out"), 504)
        except HTTPException as error:
            return self._refuse(InvalidArgument(error.reason), error.status_code)
        except ElisError as error:
            return self._refuse(error, _STATUSES.get(type(error), 500))

    def _open_context(self, request: Request | WebSocket) -> Context:
        return Context(
            services=self._services,
            callers=self._callers,
            rates=self._rates,
            metrics=self._metrics,
            address=request.client.host if request.client else "",
            credential=read_credential(request.headers),
            socket=isinstance(request, WebSocket),
            introspection=self._settings.introspection,
            timeout=self._settings.request_timeout,
        )

    async def _admit(self, context: Context) -> None:
        """Finds the caller and counts the request: of a known caller by name, of anybody else by address.

        A caller whose token has expired may still sign in or refresh it, so the refusal waits for the document.
        """
        try:
            context.caller = await self._callers.identify(context.credential)
        except Unauthenticated as error:
            context.refusal = error
        current_principal.set(context.caller)
        if context.caller is None:
            await self._rates.spend("refused", context.address)
        else:
            await self._rates.spend("request", context.caller.subject)

    def _refuse(self, error: ElisError, status: int) -> Response:
        """Returns the answer to a request that is refused before its operation runs."""
        self._metrics.errors.labels(error.code).inc()
        body = orjson.dumps({"errors": [{"message": error.message, "extensions": describe(error)}]}, default=str)
        headers = {}
        if isinstance(error, RateLimited | Unavailable):
            headers["Retry-After"] = str(max(1, round(float(error.detail.get("retry_after", 1)))))
        return Response(body, status, headers, media_type="application/json")

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:  # noqa: ARG002
        """Returns the context of a WebSocket; its caller is known after connection_init."""
        return self._open_context(request)

    async def on_ws_connect(self, context: Context) -> UnsetType | dict[str, object] | None:
        """Finds the caller of a WebSocket in the payload of connection_init, or in the header of its handshake."""
        context.credential = read_parameters(context.connection_params or {}) or context.credential
        request_id.set(choose_request_id(None))
        deadline.set(monotonic() + self._settings.request_timeout.total_seconds())
        await self._admit(context)
        if context.caller is None:
            raise context.refusal
        return cast(UnsetType, UNSET)

    async def process_result(self, request: Request, result: ExecutionResult) -> GraphQLHTTPResponse:
        """Counts what went wrong in an operation."""
        for error in result.errors or ():
            self._metrics.errors.labels((error.extensions or {}).get("code", Internal("").code)).inc()
        return await super().process_result(request, result)

    def create_response(self, response_data: GraphQLHTTPResponse | list[GraphQLHTTPResponse], sub_response: Response) -> Response:
        """Returns the answer; its status is 401 when the operation was refused as a whole for want of a caller."""
        response = super().create_response(response_data, sub_response)
        errors: list[Any] = [] if isinstance(response_data, list) else response_data.get("errors") or []
        if errors and "path" not in errors[0] and errors[0]["extensions"]["code"] == _UNAUTHENTICATED:
            response.status_code = 401
            response.headers["www-authenticate"] = 'Bearer realm="elis"'
        return response

    def decode_json(self, data: str | bytes) -> object:
        """Returns the object of a request or message; raises JSONDecodeError for anything else."""
        content = orjson.loads(data)
        if not isinstance(content, dict):
            raise JSONDecodeError("an object is needed", "", 0)
        return content

    def encode_json(self, data: object) -> bytes:
        """Returns the bytes of an answer; spliced rows go in as they are."""
        return orjson.dumps(data)
