"""Who may call which RPC: the whole table, and for every RPC a refused anonymous and a refused wrong-role call.

The calls are made from the descriptors, on the real servers: an RPC that is added without a row here fails.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from kit.auth import PUBLIC
from kit.errors import ElisError, PermissionDenied, Unauthenticated
from kit.server import Application, collect_scopes
from services.auth.scopes import ROLES, SERVICE_SCOPES
from tests.fixtures.callers import Issuer
from tests.fixtures.servers import run_service

SERVICES = ("auth", "ingest", "search", "correlate")

SCOPES: dict[str, dict[str, str]] = {
    "auth": {
        "Login": PUBLIC,
        "Refresh": PUBLIC,
        "Logout": "self:write",
        "ExchangeApiKey": PUBLIC,
        "IssueServiceToken": PUBLIC,
        "GetJwks": PUBLIC,
        "VerifyIngestToken": "tokens:verify",
        "ListRevocations": "tokens:verify",
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
        "ListRejectedEvents": "rejected:read",
        "ListHeldSources": "blocks:read",
        "GetRejectedTotals": "rejected:read",
        "ListRejectedRecords": "rejected:read",
        "RevealRejected": "events:reveal",
        "ReplayRejected": "rejected:replay",
        "GetSource": "sources:read",
        "UpdateSource": "sources:write",
        "ListServiceDependencies": "statistics:read",
        "ListEndpoints": "rejected:read",
        "TestFormat": "sources:read",
        "ListMaskingRules": "sources:read",
        "PutMaskingRule": "rules:write",
        "DeleteMaskingRule": "rules:write",
        "PutMaskingException": "rules:write",
        "DeleteMaskingException": "rules:write",
        "PreviewMasking": "rules:write",
        "ListMaskingEquivalents": "events:read",
        "RevealMasked": "events:reveal",
        "ListMaskingAudit": "audit:read",
        "GetDataQuality": "sources:read",
        "ListDataQuality": "sources:read",
    },
    "search": {
        "SearchEvents": "events:read",
        "GetEvent": "events:read",
        "Histogram": "events:read",
        "Facets": "events:read",
        "Patterns": "events:read",
        "Tail": "events:read",
    },
    "correlate": {
        "ListIncidents": "incidents:read",
        "GetIncident": "incidents:read",
        "ChangeIncidentState": "incidents:write",
        "ListFindings": "incidents:read",
        "ResolveTemplates": "templates:read",
        "ListTemplates": "templates:read",
        "GetStatistics": "statistics:read",
    },
}
ALL_SCOPES = frozenset.union(SERVICE_SCOPES, *ROLES.values())


@asynccontextmanager
async def build(service: str, database_url: str, redis_url: str, data_dir: Path) -> AsyncIterator[Application]:
    """Builds a service as it is in production."""
    settings_class = getattr(import_module(f"services.{service}.settings"), f"{service.capitalize()}Settings")
    settings = settings_class(
        database_url=database_url,
        redis_url=redis_url,
        data_dir=data_dir,
        service_secret="s" * 64,
        masking_key="0" * 64,
        seal_key="0" * 64,
        port_offset=random.randrange(1_000, 10_000),
    )
    async with import_module(f"services.{service}.app").build(settings) as application:
        yield application


async def call(channel: grpc.aio.Channel, method: MethodDescriptor) -> None:
    """Calls a method with an empty request, until its first answer."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    request_class: Any = GetMessageClass(method.input_type)
    response_class: Any = GetMessageClass(method.output_type)
    if method.server_streaming:
        await anext(aiter(channel.unary_stream(path, request_class.SerializeToString, response_class.FromString)(request_class(), timeout=5.0)))
    else:
        await channel.unary_unary(path, request_class.SerializeToString, response_class.FromString)(request_class(), timeout=5.0)


async def outcome_of(channel: grpc.aio.Channel, method: MethodDescriptor) -> type[BaseException] | None:
    """Returns the class of the error that a call ends with; None when it succeeds."""
    try:
        await call(channel, method)
    except ElisError as error:
        return type(error)
    return None


@pytest.mark.parametrize("service", SERVICES)
async def test_every_rpc_refuses_anonymous_and_wrong_role_calls(service: str, database_url: str, redis_url: str, tmp_path: Path, issuer: Issuer) -> None:
    async with build(service, database_url, redis_url, tmp_path) as built:
        application = replace(built, verifier=issuer.verifier(), background=())
        declared = {path.rpartition("/")[2]: scope for path, scope in collect_scopes(application.servicers).items()}
        assert declared == SCOPES[service]
        async with run_service(application) as address, issuer.connect(address) as anonymous:
            for method in (method for servicer in application.servicers for method in servicer.descriptor.methods):
                scope = declared[method.name]
                if scope == PUBLIC:
                    assert await outcome_of(anonymous, method) is not PermissionDenied
                    continue
                assert await outcome_of(anonymous, method) is Unauthenticated, method.name
                async with issuer.connect(address, *(ALL_SCOPES - {scope})) as wrong:
                    assert await outcome_of(wrong, method) is PermissionDenied, method.name
                if not method.server_streaming:
                    async with issuer.connect(address, scope) as right:
                        assert await outcome_of(right, method) not in (Unauthenticated, PermissionDenied), method.name


@pytest.mark.parametrize("service", SERVICES)
def test_every_scope_is_held_by_somebody(service: str) -> None:
    assert set(SCOPES[service].values()) - {PUBLIC} <= ALL_SCOPES


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "eyJhbGciOiJub25lIn0.e30."])
async def test_what_is_not_a_token_is_refused_also_where_none_is_needed(token: str, database_url: str, redis_url: str, tmp_path: Path, issuer: Issuer) -> None:
    async with build("auth", database_url, redis_url, tmp_path) as application, run_service(application) as address:
        async with grpc.aio.insecure_channel(address) as channel:
            method = application.servicers[0].descriptor.methods_by_name["GetJwks"]
            request_class: Any = GetMessageClass(method.input_type)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/elis.auth.v1.AuthService/GetJwks", request_class.SerializeToString)(
                    request_class(), timeout=5.0, metadata=(("authorization", f"Bearer {token}"),)
                )
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_roles_have_the_scopes_that_the_documents_promise() -> None:
    viewer = {"self:read", "self:write", "events:read", "sources:read", "statistics:read", "incidents:read", "templates:read"}
    analyst = viewer | {"incidents:comment", "searches:write"}
    operator = analyst | {"events:write", "events:reveal", "incidents:write", "rejected:read", "rejected:replay", "sources:write", "rules:write"}
    admin = operator | {"users:read", "users:write", "keys:read", "keys:write", "audit:read", "flags:write", "retention:write"}
    assert {"viewer": viewer, "analyst": analyst, "operator": operator, "admin": admin} == ROLES
