"""GraphiQL at /, from our own files: it works offline and under a content security policy without inline script."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).with_name("static")
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "connect-src 'self' ws: wss:; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {"content-security-policy": CONTENT_POLICY, "cache-control": "no-cache"}


async def show_page(_: Request) -> Response:
    """Returns the page."""
    return FileResponse(STATIC / "index.html", headers=_HEADERS)


def create_routes() -> list[BaseRoute]:
    """Returns the routes of the page and its files."""
    return [Route("/", show_page), Mount("/static", StaticFiles(directory=STATIC))]
