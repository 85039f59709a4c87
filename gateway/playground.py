"""GraphiQL at /, from our own files: it works offline and under a content security policy without inline script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).with_name("static")
CONTENT_POLICY = (
    # GraphiQL positions things with style attributes; scripts come from our own files only.
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class _Files(StaticFiles):
    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers["content-security-policy"] = CONTENT_POLICY
        # Asked for each time and mostly answered 304, so that an upgrade shows at once.
        response.headers["cache-control"] = "no-cache"
        return response


def create_routes() -> list[BaseRoute]:
    """Returns the routes of the page and its files."""
    files = _Files(directory=STATIC)

    async def show_page(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    return [Route("/", show_page), Mount("/static", files)]
