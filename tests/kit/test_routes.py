"""Routes of hot paths, and what is left to Starlette."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.server import ServerState

from kit.routes import DirectHeaders, DirectResponse, DirectRoutes
from kit.web import WebProtocol


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
        ("GET", "/made/", 404, "Not Found"),  # a redirect would lead away from TLS behind a proxy, token and all
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


@pytest.mark.parametrize(
    ("request_head", "begins", "ends"),
    [
        (b"GET /made HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 201 Created\r\n", b"x-made: yes\r\n\r\nmade"),
        (b"GET /made HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"HTTP/1.1 201 Created\r\n", b"connection: close\r\n\r\nmade"),
        (b"HEAD /made HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 201 Created\r\n", b"x-made: yes\r\n\r\n"),
        (b"GET /bad HTTP/1.1\r\nHost: x\r\n\r\n", b"", b""),  # a header that would end early
        (b"GET /empty HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 204 No Content\r\n", b"\r\n\r\n"),
    ],
)
async def test_a_reply_goes_out_whole(request_head: bytes, begins: bytes, ends: bytes) -> None:
    async def bad(_: Request) -> Response:
        return DirectResponse(200, b"bad", [(b"content-length", b"3"), (b"x-made", b"yes\r\nx-more: no")])

    async def empty(_: Request) -> Response:
        return Response(status_code=204)

    application = DirectRoutes([Route("/made", _made), Route("/bad", bad), Route("/empty", empty)])
    config = uvicorn.Config(application, http=WebProtocol, log_config=None, access_log=False, lifespan="off", server_header=False, date_header=False)
    state, loop = ServerState(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: WebProtocol(config, state, {}, loop), "127.0.0.1", 0)
    async with server, asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(request_head)
        writer.write_eof()
        reply = await reader.read()
        writer.close()
    assert reply.startswith(begins)
    assert reply.endswith(ends)
    assert b"x-more" not in reply
