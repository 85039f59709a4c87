"""Services with prepared answers, over real gRPC with the production interceptors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from elis.auth.v1 import auth_pb2, auth_pb2_grpc
from elis.correlate.v1 import correlate_pb2, correlate_pb2_grpc
from elis.ingest.v1 import (
    dependencies_pb2,
    dependencies_pb2_grpc,
    endpoints_pb2,
    endpoints_pb2_grpc,
    formats_pb2,
    formats_pb2_grpc,
    ingest_pb2,
    ingest_pb2_grpc,
    masking_pb2,
    masking_pb2_grpc,
    quality_pb2,
    quality_pb2_grpc,
    rejections_pb2,
    rejections_pb2_grpc,
    sources_pb2,
    sources_pb2_grpc,
)
from elis.search.v1 import search_pb2, search_pb2_grpc
from kit.auth import principal, public, requires
from kit.errors import NotFound, Unauthenticated
from kit.interceptors import request_id
from kit.server import Application, Servicer
from tests.fixtures.callers import Issuer
from tests.fixtures.servers import run_service

Answers = dict[str, Any]
"""Method to the message it answers, the error it raises, or a function of the request that returns one of these."""


@dataclass
class Peers:
    """What the services answer, and what they were asked."""

    issuer: Issuer
    answers: Answers = field(default_factory=dict)
    asked: list[tuple[str, Message]] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    remaining: list[float | None] = field(default_factory=list)
    tail: asyncio.Queue[search_pb2.TailResponse | Exception | None] = field(default_factory=asyncio.Queue)
    tails_ended: int = 0

    async def answer(self, method: str, request: Message, context: Any) -> Any:
        self.asked.append((method, request))
        self.request_ids.append(request_id.get())
        self.remaining.append(context.time_remaining())
        answer = self.answers[method]
        if callable(answer):
            answer = answer(request)
        if asyncio.iscoroutine(answer):
            answer = await answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def reset(self) -> None:
        """Forgets everything but how callers prove who they are."""
        self.asked.clear()
        self.callers.clear()
        self.request_ids.clear()
        self.remaining.clear()
        self.tail = asyncio.Queue()
        self.tails_ended = 0
        own = self.issuer.token("tokens:verify", name="gateway", kind="service", role="service")
        self.answers = {
            "GetJwks": auth_pb2.GetJwksResponse(jwks=json.dumps({"keys": [self.issuer.key.as_dict(private=False)]})),
            "ExchangeApiKey": lambda request: exchange(self, request),
            "ListRevocations": auth_pb2.ListRevocationsResponse(),
            "IssueServiceToken": auth_pb2.IssueServiceTokenResponse(access_token=own, expires_at=soon()),
        }

    def requests(self, method: str) -> list[Any]:
        return [request for name, request in self.asked if name == method]


def _method(peers: Peers, name: str, scope: str | None) -> Any:
    async def serve(_: Any, request: Message, context: Any) -> Any:
        if scope is not None and principal().kind != "service":
            peers.callers.append(principal().subject)
        return await peers.answer(name, request, context)

    return public(serve) if scope is None else requires(scope)(serve)


def _tail(peers: Peers) -> Any:
    @requires("events:read")
    async def serve(_: Any, request: Message, context: Any) -> AsyncIterator[search_pb2.TailResponse]:
        peers.asked.append(("Tail", request))
        peers.callers.append(principal().subject)
        try:
            while (item := await peers.tail.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            peers.tails_ended += 1

    return serve


SCOPES: dict[str, dict[str, str | None]] = {
    "auth": {
        "Login": None,
        "Refresh": None,
        "ExchangeApiKey": None,
        "IssueServiceToken": None,
        "GetJwks": None,
        "VerifyIngestToken": "tokens:verify",
        "ListRevocations": "tokens:verify",
        "Logout": "self:write",
        "GetMe": "self:read",
        "ListUsers": "users:read",
        "CreateUser": "users:write",
        "UpdateUser": "users:write",
        "ListApiKeys": "keys:read",
        "CreateApiKey": "keys:write",
        "UpdateApiKey": "keys:write",
        "RevokeApiKey": "keys:write",
    },
    "ingest": {
        "IngestEvents": "events:write",
        "ListBlocks": "blocks:read",
        "GetBlocks": "blocks:read",
        "GetEvents": "events:read",
        "RecentEvents": "events:read",
        "ListSources": "sources:read",
    },
    "search": dict.fromkeys(("SearchEvents", "GetEvent", "Histogram", "Facets", "Patterns"), "events:read"),
    "correlate": {
        "ListIncidents": "incidents:read",
        "GetIncident": "incidents:read",
        "ListFindings": "incidents:read",
        "ChangeIncidentState": "incidents:write",
        "ResolveTemplates": "templates:read",
        "ListTemplates": "templates:read",
        "GetStatistics": "statistics:read",
    },
}
_SERVICES = {
    "auth": (auth_pb2.DESCRIPTOR.services_by_name["AuthService"], auth_pb2_grpc.add_AuthServiceServicer_to_server),
    "ingest": (ingest_pb2.DESCRIPTOR.services_by_name["IngestService"], ingest_pb2_grpc.add_IngestServiceServicer_to_server),
    "search": (search_pb2.DESCRIPTOR.services_by_name["SearchService"], search_pb2_grpc.add_SearchServiceServicer_to_server),
    "correlate": (correlate_pb2.DESCRIPTOR.services_by_name["CorrelateService"], correlate_pb2_grpc.add_CorrelateServiceServicer_to_server),
}
_MORE: dict[str, list[tuple[Any, Any, dict[str, str | None]]]] = {
    "ingest": [
        (formats_pb2.DESCRIPTOR.services_by_name["FormatService"], formats_pb2_grpc.add_FormatServiceServicer_to_server, {"TestFormat": "sources:read"}),
        (
            rejections_pb2.DESCRIPTOR.services_by_name["RejectionService"],
            rejections_pb2_grpc.add_RejectionServiceServicer_to_server,
            {
                "ListRejectedEvents": "rejected:read",
                "GetRejectedTotals": "rejected:read",
                "ListRejectedRecords": "rejected:read",
                "RevealRejected": "events:reveal",
                "ReplayRejected": "rejected:replay",
            },
        ),
        (
            dependencies_pb2.DESCRIPTOR.services_by_name["DependencyService"],
            dependencies_pb2_grpc.add_DependencyServiceServicer_to_server,
            {"ListServiceDependencies": "statistics:read"},
        ),
        (
            endpoints_pb2.DESCRIPTOR.services_by_name["EndpointService"],
            endpoints_pb2_grpc.add_EndpointServiceServicer_to_server,
            {"ListEndpoints": "rejected:read"},
        ),
        (
            quality_pb2.DESCRIPTOR.services_by_name["QualityService"],
            quality_pb2_grpc.add_QualityServiceServicer_to_server,
            {"GetDataQuality": "sources:read", "ListDataQuality": "sources:read"},
        ),
        (
            sources_pb2.DESCRIPTOR.services_by_name["SourceService"],
            sources_pb2_grpc.add_SourceServiceServicer_to_server,
            {"GetSource": "sources:read", "UpdateSource": "sources:write"},
        ),
        (
            masking_pb2.DESCRIPTOR.services_by_name["MaskingService"],
            masking_pb2_grpc.add_MaskingServiceServicer_to_server,
            {
                "ListMaskingRules": "sources:read",
                "PutMaskingRule": "rules:write",
                "DeleteMaskingRule": "rules:write",
                "PutMaskingException": "rules:write",
                "DeleteMaskingException": "rules:write",
                "PreviewMasking": "rules:write",
                "ListMaskingEquivalents": "events:read",
                "RevealMasked": "events:reveal",
                "ListMaskingAudit": "audit:read",
            },
        ),
    ],
}
"""Further gRPC services of a target, with their methods and scopes."""


def create_service(peers: Peers, name: str) -> Application:
    """Returns one service."""
    methods = {method: _method(peers, method, scope) for method, scope in SCOPES[name].items()}
    if name == "search":
        methods["Tail"] = _tail(peers)
    descriptor, register = _SERVICES[name]
    implementation = type(f"{name.title()}Peer", (), methods)()
    servicers = [Servicer(descriptor, cast(Any, register), implementation)]
    for more, add, scopes in _MORE.get(name, ()):
        servicers.append(Servicer(more, add, type(f"{more.name}Peer", (), {method: _method(peers, method, scope) for method, scope in scopes.items()})()))
    return Application(servicers=servicers, verifier=peers.issuer.verifier())


@asynccontextmanager
async def run_peers(peers: Peers, names: tuple[str, ...] = tuple(SCOPES)) -> AsyncIterator[dict[str, str]]:
    """Serves the services; yields their addresses."""
    peers.reset()
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(run_service(create_service(peers, name))) for name in names}


KEY = "elis_admin"
"""Every API key that begins like this is valid."""
KEY_SCOPES = ("events:read", "events:write", "self:read", "incidents:read", "incidents:write", "users:read", "users:write", "keys:write", "rejected:read")


def exchange(peers: Peers, request: auth_pb2.ExchangeApiKeyRequest) -> auth_pb2.ExchangeApiKeyResponse | Exception:
    """Exchanges a key for a token."""
    if not request.key.startswith(KEY):
        return Unauthenticated("the API key is unknown, has expired or was revoked")
    return auth_pb2.ExchangeApiKeyResponse(access_token=peers.issuer.token(*KEY_SCOPES, name="robot", kind="key", role="admin"), expires_at=soon())


def soon(seconds: int = 600) -> Timestamp:
    """Returns a moment in the near future."""
    moment = Timestamp()
    moment.GetCurrentTime()
    moment.seconds += seconds
    return moment


def stamp(nanoseconds: int) -> Timestamp:
    """Returns a Timestamp."""
    return Timestamp(seconds=nanoseconds // 1_000_000_000, nanos=nanoseconds % 1_000_000_000)


def missing(what: str) -> NotFound:
    """Returns the error of something that is not there."""
    return NotFound(f"{what} does not exist")
