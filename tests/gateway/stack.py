"""A gateway on a free port, in front of services with prepared answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from pydantic import SecretStr

from gateway.app import build
from gateway.settings import GatewaySettings
from kit.settings import Addresses
from tests.gateway.peers import Peers

ALL_SCOPES = [
    "self:read",
    "self:write",
    "events:read",
    "events:write",
    "sources:read",
    "sources:write",
    "rejected:read",
    "events:reveal",
    "rejected:replay",
    "statistics:read",
    "incidents:read",
    "incidents:write",
    "templates:read",
    "users:read",
    "users:write",
    "keys:read",
    "keys:write",
]


@dataclass
class Gateway:
    """A running gateway and a client of it."""

    url: str
    peers: Peers
    http: httpx.AsyncClient
    token: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def websocket_url(self) -> str:
        return self.url.replace("http", "ws") + "/graphql"

    async def post(self, query: str, variables: dict[str, Any] | None = None, *, token: str | None = None, **headers: str) -> httpx.Response:
        """Sends a request; as the default caller unless another token, or "" for none, is given."""
        credential = self.token if token is None else token
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if credential:
            given["authorization"] = f"Bearer {credential}"
        return await self.http.post("/graphql", json={"query": query, "variables": variables or {}}, headers=given)

    async def run(self, query: str, variables: dict[str, Any] | None = None, **options: str) -> dict[str, Any]:
        """Returns the data of an operation that must succeed."""
        response = await self.post(query, variables, **options)
        body = response.json()
        assert "errors" not in body, body
        data: dict[str, Any] = body["data"]
        return data

    async def fail(self, query: str, variables: dict[str, Any] | None = None, **options: str) -> dict[str, Any]:
        """Returns the one error of an operation that must fail."""
        body = (await self.post(query, variables, **options)).json()
        assert len(body["errors"]) == 1, body
        error: dict[str, Any] = body["errors"][0]
        return error


def create_settings(redis_url: str, addresses: dict[str, str], **settings: Any) -> GatewaySettings:
    """Returns settings of a gateway for tests."""
    return GatewaySettings(
        database_url=SecretStr("postgresql://nobody@nowhere/nothing"),
        redis_url=SecretStr(redis_url),
        service_secret=SecretStr("s" * 32),
        addresses=Addresses(**addresses),
        **settings,
    )


@asynccontextmanager
async def run_gateway(peers: Peers, addresses: dict[str, str], redis_url: str, **settings: Any) -> AsyncIterator[Gateway]:
    """Runs a gateway as production does: the same build, uvicorn with the same options."""
    async with build(create_settings(redis_url, addresses, **settings)) as application:
        listener = application.http[0]
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            port = bound.getsockname()[1]
            config = uvicorn.Config(
                listener.application,
                http="httptools",
                ws="websockets-sansio",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                lifespan="off",
                **listener.options,
            )
            server = uvicorn.Server(config)
            server.capture_signals = suppress  # type: ignore[method-assign,assignment]
            tasks = [asyncio.ensure_future(work()) for work in application.background]
            serving = asyncio.create_task(server.serve(sockets=[bound]))
            while not server.started:  # noqa: ASYNC110  uvicorn has no event for it
                await asyncio.sleep(0.005)
            url = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=url, timeout=20) as http:
                yield Gateway(url, peers, http, peers.issuer.token(*ALL_SCOPES, role="admin"))
            server.should_exit = True
            await serving
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
