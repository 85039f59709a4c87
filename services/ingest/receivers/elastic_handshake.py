"""What Beats, Logstash, Fluent Bit, Vector and Elasticsearch's own clients ask before and beside `_bulk`.

Source: reference wire-formats §3. ELIS has no templates, policies, pipelines or data streams: it says that those asked for
exist and takes those that are sent without keeping them. Every answer needs a valid token, so that a wrong one shows at once.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kit.errors import ElisError
from services.ingest.intake import Intake
from services.ingest.receivers.bodies import arrival_of
from services.ingest.receivers.credentials import authenticate
from services.ingest.receivers.elastic_bulk import PROTOCOL
from services.ingest.receivers.elastic_replies import MEDIA_TYPE, PRODUCT, error_body, error_reply, json_reply
from services.ingest.settings import IngestSettings
from services.ingest.tokens import NOBODY, TokenBook

CLUSTER: Final = "elis"
_UID: Final = "elis-0000000000000000000"
_ADDRESS = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_ANY: Final = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
_LICENSE: Final = {"status": "active", "uid": _UID, "type": "basic", "mode": "basic", "issued_to": CLUSTER, "issuer": CLUSTER}
_HEALTH: Final = {
    "cluster_name": CLUSTER,
    "status": "green",
    "timed_out": False,
    "number_of_nodes": 1,
    "number_of_data_nodes": 1,
    "active_primary_shards": 1,
    "active_shards": 1,
    "relocating_shards": 0,
    "initializing_shards": 0,
    "unassigned_shards": 0,
}
_KINDS: Final = ("_ilm/policy", "_index_template", "_component_template", "_template", "_data_stream", "_ingest/pipeline")
"""Things that agents look for and set up."""

_Answer = Callable[[Request], Response]


class ElasticHandshake:
    """Serves what clients ask of Elasticsearch besides `_bulk`."""

    def __init__(self, settings: IngestSettings, intake: Intake, tokens: TokenBook) -> None:
        self._version = settings.elastic_version
        self._intake = intake
        self._tokens = tokens

    def routes(self) -> list[Route]:
        """Returns the routes, the last of which take every path that only Elasticsearch has."""
        things = [path for kind in _KINDS for path in (f"/{kind}", f"/{kind}/{{name}}", f"/{kind}/{{name}}/{{part}}")]
        return [
            Route("/", self._guarded(self._describe), methods=["GET"]),
            Route("/_license", self._guarded(lambda request: _reply(request, {"license": _LICENSE})), methods=["GET"]),
            Route("/_xpack", self._guarded(_describe_features), methods=["GET"]),
            Route("/_cluster/health", self._guarded(lambda request: _reply(request, _HEALTH)), methods=["GET"]),
            Route("/_cluster/health/{index}", self._guarded(lambda request: _reply(request, _HEALTH)), methods=["GET"]),
            *(Route(path, self._guarded(self._list_nodes), methods=["GET"]) for path in ("/_nodes", "/_nodes/http", "/_nodes/{node}/http")),
            *(Route(path, self._guarded(_accept_thing), methods=["GET", "PUT", "POST"]) for path in things),
            Route("/_{rest:path}", self._guarded(_refuse), methods=_ANY),
            Route("/{index}/_{rest:path}", self._guarded(_refuse), methods=_ANY),
            # Logstash looks for its alias and makes it.
            Route("/{index}", self._guarded(_accept_index), methods=["HEAD", "PUT"]),
        ]

    def _guarded(self, answer: _Answer) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                await authenticate(request.headers.get("authorization"), self._tokens)
                return answer(request)
            except ElisError as error:
                self._intake.endpoints.refused(arrival_of(request, PROTOCOL, NOBODY), error.message)
                return error_reply(error)

        return endpoint

    def _describe(self, request: Request) -> Response:
        return _reply(
            request,
            {
                "name": CLUSTER,
                "cluster_name": CLUSTER,
                "cluster_uuid": _UID,
                "version": {
                    "number": self._version,
                    "build_flavor": "default",
                    "build_type": "docker",
                    "build_hash": "0" * 40,
                    "build_date": "2026-01-01T00:00:00.000Z",
                    "build_snapshot": False,
                    "lucene_version": "10.0.0",
                    "minimum_wire_compatibility_version": "8.19.0",
                    "minimum_index_compatibility_version": "8.0.0",
                },
                "tagline": "You Know, for Search",
            },
        )

    def _list_nodes(self, request: Request) -> Response:
        """Names one node, at the address that the client used: a client that sniffs stays where it was sent."""
        address = request.headers.get("host", "")
        node = {"name": CLUSTER, "version": self._version, "roles": ["data", "ingest"], "http": {"publish_address": address}}
        return _reply(request, {"cluster_name": CLUSTER, "nodes": {_UID: node} if _ADDRESS.fullmatch(address) else {}})


def _describe_features(request: Request) -> Response:
    features = {"ilm": {"available": True, "enabled": True}, "security": {"available": True, "enabled": True}}
    return _reply(request, {"build": {"hash": "0" * 40}, "license": _LICENSE, "features": features, "tagline": "You know, for X"})


def _accept_thing(request: Request) -> Response:
    return _reply(request, {} if request.method in ("GET", "HEAD") else {"acknowledged": True})


def _accept_index(request: Request) -> Response:
    if request.method == "HEAD":
        return Response(None, 200, PRODUCT, MEDIA_TYPE)
    return _reply(request, {"acknowledged": True, "shards_acknowledged": True, "index": request.path_params["index"]})


def _refuse(request: Request) -> Response:
    reason = f"no handler found for uri [{request.url.path[:200]}] and method [{request.method}]; ELIS takes _bulk and is searched through GraphQL"
    return json_reply(error_body("resource_not_found_exception", reason, 404), status=404)


def _reply(request: Request, content: dict[str, Any]) -> Response:
    return json_reply(content, request.query_params.get("filter_path", ""))
