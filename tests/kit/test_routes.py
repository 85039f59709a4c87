"""Routes of hot paths, and what is left to Starlette."""

from __future__ import annotations

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from kit.routes import DirectHeaders, DirectResponse, DirectRoutes


async def _say(request: Request) -> Response:
    return PlainTextResponse(f"{request.method} {request.url.path} {sorted(request.path_params)} {request.headers.get('X-Word')} {request.query_params}")


async def _fail(_: Request) -> Response:
    raise KeyError("no such thing")


async def _made(_: Request) -> Response:
    return DirectResponse(201, b"made", [(b"content-length", b"4"), (b"x-made", b"yes")])


def _client() -> httpx.AsyncClient:
    routes = [
        Route("/say", _say, methods=["POST"]),
        Route("/say/{name}", _say, methods=["GET"]),
        Route("/say", _fail, methods=["POST", "PUT"]),
        Route("/fail", _fail),
        Route("/made", _made),
    ]
    return httpx.AsyncClient(transport=httpx.ASGITransport(DirectRoutes(routes)), base_url="http://routes")


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("POST", "/say?a=1", 200, "POST /say [] hello a=1"),  # the first route of a path serves it
        ("GET", "/say/it", 200, "GET /say/it ['name'] hello "),
        ("GET", "/say", 405, "Method Not Allowed"),
        ("GET", "/unknown", 404, "Not Found"),
        ("POST", "/made", 405, "Method Not Allowed"),
        ("GET", "/made", 201, "made"),
    ],
)
async def test_every_request_is_served_as_its_route_says(method: str, path: str, status: int, text: str) -> None:
    async with _client() as web:
        response = await web.request(method, path, headers={"x-word": "hello"})
    assert (response.status_code, response.text) == (status, text)


async def test_a_handler_that_fails_is_left_to_the_server() -> None:
    async with _client() as web:
        with pytest.raises(KeyError):
            await web.get("/fail")


def test_the_first_of_equal_headers_counts() -> None:
    headers = DirectHeaders({"headers": [(b"x-word", b"one"), (b"x-word", b"two")]})
    assert (headers.get("X-Word"), headers.get("x-other"), headers.get("x-other", ""), headers.getlist("x-word")) == ("one", None, "", ["one", "two"])
