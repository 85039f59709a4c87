"""Routes of hot paths: found at once, without the middlewares that a request would otherwise pass twice for every event.

Starlette serves whatever is not found here: routes with parameters, other methods, unknown paths. A handler that fails is
answered by the server, as Starlette's own middleware would: logged, status 500.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from kit.web import WHOLE_BODY, WHOLE_REPLY


class DirectHeaders(Headers):
    """Headers that are looked up in a dictionary; the first of equal names counts."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope=scope)
        self._first = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(self._list)}

    def get(self, key: str, default: Any = None) -> Any:
        """Returns a header's value."""
        return self._first.get(key.lower(), default)


class DirectRequest(Request):
    """A request whose headers are asked for many times."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        super().__init__(scope, receive)
        self._headers = DirectHeaders(scope)

    @property
    def headers(self) -> Headers:
        """The headers."""
        return self._headers


class DirectResponse(Response):
    """A reply whose headers are made already, in lower case, with its content's type and length."""

    def __init__(self, status_code: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.status_code = status_code
        self.body = body
        self.raw_headers = headers
        self.background = None


class DirectRoutes:
    """An ASGI application."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._others = Starlette(routes=routes)
        # To the path with or without a slash at its end: with the scheme that ELIS sees, which behind a proxy with TLS is another one.
        self._others.router.redirect_slashes = False
        self._endpoints: dict[tuple[str, str], Callable[[Request], Awaitable[Response]]] = {}
        for route in routes:
            for method in route.methods or ():
                if not route.param_convertors:
                    self._endpoints.setdefault((method, route.path), route.endpoint)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request."""
        endpoint = self._endpoints.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if endpoint is None:
            await self._others(scope, receive, send)
            return
        response = await endpoint(DirectRequest(scope, receive))
        if not _reply_at_once(scope, response):
            await response(scope, receive, send)


def _reply_at_once(scope: Scope, response: Response) -> bool:
    """Sends a reply whose content is there, if the server can; returns whether it did."""
    if type(response).__call__ is not Response.__call__ or response.background is not None:
        return False
    extension: dict[str, Any] | None = scope.get("extensions", {}).get(WHOLE_REPLY)
    return extension is not None and extension["give"](response.status_code, response.raw_headers, response.body)


def whole_body(request: Request) -> bytes | None:
    """Returns the body of a request if all of it has come, else None: it is to be read then."""
    extension: dict[str, Any] | None = request.scope.get("extensions", {}).get(WHOLE_BODY)
    body: bytes | None = extension["take"]() if extension is not None else None
    return body
