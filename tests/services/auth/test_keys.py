"""API keys and ingest tokens."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text, update

from elis.auth.v1 import auth_pb2 as pb
from kit.db import unit_of_work
from kit.errors import InvalidArgument, NotFound, PermissionDenied, Unauthenticated
from kit.revocations import FRESH_SECONDS
from services.auth import audit
from services.auth.models import ApiKey, AuditEntry
from tests.services.auth.conftest import SECRET, Auth

State = pb.VerifyIngestTokenResponse


async def service_token(auth: Auth, name: str = "ingest") -> str:
    response = await (await auth.stub()).IssueServiceToken(pb.IssueServiceTokenRequest(service=name, secret=SECRET))
    return response.access_token


async def verify(auth: Auth, token: str) -> pb.VerifyIngestTokenResponse:
    return await (await auth.stub(await service_token(auth))).VerifyIngestToken(pb.VerifyIngestTokenRequest(token=token))


async def exchange(auth: Auth, key: str) -> pb.ExchangeApiKeyResponse:
    return await (await auth.stub()).ExchangeApiKey(pb.ExchangeApiKeyRequest(key=key))


async def test_api_key_is_exchanged_for_a_token_of_its_role(auth: Auth) -> None:
    made = await (await auth.admin()).CreateApiKey(pb.CreateApiKeyRequest(name="grafana", kind="api", role="operator"))
    assert made.secret.startswith(f"{made.key.prefix}_")
    assert made.key.prefix.startswith("elis_")
    caller = (await (await auth.stub((await exchange(auth, made.secret)).access_token)).GetMe(pb.GetMeRequest())).caller
    assert (caller.subject, caller.name, caller.kind, caller.role) == (f"key:{made.key.id}", "grafana", "key", "operator")


async def test_token_does_not_outlive_its_key(auth: Auth) -> None:
    request = pb.CreateApiKeyRequest(name="short", kind="api", role="viewer")
    request.expires_at.FromDatetime(datetime.now(UTC) + timedelta(seconds=90))
    made = await (await auth.admin()).CreateApiKey(request)
    response = await exchange(auth, made.secret)
    assert response.expires_at.seconds <= request.expires_at.seconds


async def test_ingest_token_is_a_guid_and_says_its_source(auth: Auth) -> None:
    made = await (await auth.admin()).CreateApiKey(pb.CreateApiKeyRequest(name="web tier", kind="ingest", source="web"))
    assert str(UUID(made.secret)) == made.secret
    for spelling in (made.secret, made.secret.upper()):
        answer = await verify(auth, spelling)
        assert (answer.state, answer.id, answer.name, answer.source) == (State.STATE_VALID, made.key.id, "web tier", "web")


async def test_ingest_token_says_whether_its_clients_use_acknowledgement(auth: Auth) -> None:
    admin = await auth.admin()
    for ack in (False, True):
        made = await admin.CreateApiKey(pb.CreateApiKeyRequest(name="firehose", kind="ingest", ack=ack))
        assert (made.key.ack, (await verify(auth, made.secret)).ack) == (ack, ack)
    with pytest.raises(InvalidArgument, match="only ingest tokens have acknowledgement"):
        await admin.CreateApiKey(pb.CreateApiKeyRequest(name="grafana", kind="api", role="viewer", ack=True))


async def test_unknown_ingest_tokens_are_unknown(auth: Auth) -> None:
    for token in ("", "\x00", "nothing", str(uuid4()), "elis_0000_aaaa", "ü" * 10_000):
        assert await verify(auth, token) == pb.VerifyIngestTokenResponse(state=State.STATE_UNKNOWN)


async def test_revoked_and_expired_ingest_tokens_are_disabled(auth: Auth) -> None:
    root = await auth.admin()
    first = await root.CreateApiKey(pb.CreateApiKeyRequest(name="a", kind="ingest"))
    revoked = await root.RevokeApiKey(pb.RevokeApiKeyRequest(id=first.key.id))
    assert revoked.key.revoked
    assert (await verify(auth, first.secret)).state == State.STATE_DISABLED
    second = await root.CreateApiKey(pb.CreateApiKeyRequest(name="b", kind="ingest"))
    async with unit_of_work(auth.engine) as session:
        await session.execute(update(ApiKey).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert (await verify(auth, second.secret)).state == State.STATE_DISABLED


async def test_kinds_are_not_taken_for_each_other(auth: Auth) -> None:
    root = await auth.admin()
    api = await root.CreateApiKey(pb.CreateApiKeyRequest(name="a", kind="api", role="admin"))
    ingest = await root.CreateApiKey(pb.CreateApiKeyRequest(name="b", kind="ingest"))
    with pytest.raises(Unauthenticated):
        await exchange(auth, ingest.secret)
    assert (await verify(auth, api.secret)).state == State.STATE_UNKNOWN


async def test_revoked_key_and_its_tokens_stop_working(auth: Auth) -> None:
    root = await auth.admin()
    made = await root.CreateApiKey(pb.CreateApiKeyRequest(name="ci", kind="api", role="viewer"))
    caller = await auth.stub((await exchange(auth, made.secret)).access_token)
    await caller.GetMe(pb.GetMeRequest())
    await root.RevokeApiKey(pb.RevokeApiKeyRequest(id=made.key.id))
    await root.RevokeApiKey(pb.RevokeApiKeyRequest(id=made.key.id))  # again: nothing more happens
    with pytest.raises(Unauthenticated):
        await exchange(auth, made.secret)
    await asyncio.sleep(FRESH_SECONDS)
    with pytest.raises(Unauthenticated, match="revoked"):
        await caller.GetMe(pb.GetMeRequest())
    with pytest.raises(NotFound):
        await root.RevokeApiKey(pb.RevokeApiKeyRequest(id=str(uuid4())))


async def test_last_use_is_noted_once_a_minute(auth: Auth) -> None:
    root = await auth.admin()
    made = await root.CreateApiKey(pb.CreateApiKeyRequest(name="ci", kind="api", role="viewer"))
    assert not made.key.HasField("last_used_at")
    await asyncio.gather(*(exchange(auth, made.secret) for _ in range(10)))
    noted = (await root.ListApiKeys(pb.ListApiKeysRequest())).keys[0].last_used_at
    assert noted.seconds
    await exchange(auth, made.secret)
    assert (await root.ListApiKeys(pb.ListApiKeysRequest())).keys[0].last_used_at == noted


async def test_keys_are_listed_newest_first_in_pages_without_their_secrets(auth: Auth) -> None:
    root = await auth.admin()
    secrets = []
    for number in range(5):
        secrets.append((await root.CreateApiKey(pb.CreateApiKeyRequest(name=f"key {number}", kind="ingest"))).secret)
        await asyncio.sleep(0.002)  # ids are in order of milliseconds
    names: list[str] = []
    token = ""
    while True:
        page = await root.ListApiKeys(pb.ListApiKeysRequest(page_size=2, page_token=token))
        assert not any(secret in str(page) for secret in secrets)
        names += [key.name for key in page.keys]
        token = page.next_page_token
        if not token:
            break
    assert names == [f"key {number}" for number in reversed(range(5))]
    async with unit_of_work(auth.engine) as session:
        rows = str((await session.execute(text("SELECT * FROM auth.api_keys"))).all())
    assert not any(secret in rows for secret in secrets)


WRONG_REQUESTS = [
    (pb.CreateApiKeyRequest(name="a", kind="api"), "role must be one of"),
    (pb.CreateApiKeyRequest(name="a", kind="api", role="root"), "not 'root'"),
    (pb.CreateApiKeyRequest(name="a", kind="api", role="viewer", source="web"), "only ingest tokens"),
    (pb.CreateApiKeyRequest(name="a", kind="ingest", role="viewer"), "has no role"),
    (pb.CreateApiKeyRequest(name="a", kind="session"), "not 'session'"),
    (pb.CreateApiKeyRequest(name=" ", kind="ingest"), "must not be empty"),
    (pb.CreateApiKeyRequest(name="a" * 129, kind="ingest"), "at most 128"),
    (pb.CreateApiKeyRequest(name="a\nb", kind="ingest"), "control characters"),
    (pb.CreateApiKeyRequest(name="a", kind="ingest", source="\x00"), "control characters"),
    (pb.CreateApiKeyRequest(name="a", kind="ingest", expires_at={"seconds": 1}), "already have expired"),  # type: ignore[arg-type]
    (pb.CreateApiKeyRequest(name="a", kind="ingest", expires_at={"seconds": 1 << 60}), "not a time"),  # type: ignore[arg-type]
]


async def test_wrong_requests_are_told_what_is_wrong(auth: Auth) -> None:
    root = await auth.admin()
    for request, reason in WRONG_REQUESTS:
        with pytest.raises(InvalidArgument, match=reason):
            await root.CreateApiKey(request)


async def test_service_identity_needs_the_secret_and_a_known_name(auth: Auth) -> None:
    stub = await auth.stub()
    with pytest.raises(Unauthenticated, match="ELIS_SERVICE_SECRET"):
        await stub.IssueServiceToken(pb.IssueServiceTokenRequest(service="ingest", secret="guess"))
    with pytest.raises(PermissionDenied, match="auditor"):
        await stub.IssueServiceToken(pb.IssueServiceTokenRequest(service="auditor", secret=SECRET))
    me = (await (await auth.stub(await service_token(auth, "search"))).GetMe(pb.GetMeRequest())).caller
    assert (me.subject, me.kind, me.role) == ("service:search", "service", "service")
    assert {"blocks:read", "tokens:verify"} <= set(me.scopes)
    assert "events:write" not in me.scopes


async def test_limits_of_an_ingest_token_are_told_and_changed(auth: Auth) -> None:
    root = await auth.admin()
    made = await root.CreateApiKey(pb.CreateApiKeyRequest(name="batch jobs", kind="ingest", events_per_second=500))
    assert (made.key.events_per_second, made.key.HasField("bytes_per_second")) == (500, False)
    answer = await verify(auth, made.secret)
    assert (answer.events_per_second, answer.bytes_per_second) == (500, 0)
    changed = (await root.UpdateApiKey(pb.UpdateApiKeyRequest(id=made.key.id, bytes_per_second=1 << 33))).key
    assert (changed.events_per_second, changed.bytes_per_second) == (500, 1 << 33)
    changed = (await root.UpdateApiKey(pb.UpdateApiKeyRequest(id=made.key.id, events_per_second=0))).key
    assert (changed.HasField("events_per_second"), changed.bytes_per_second) == (False, 1 << 33)
    answer = await verify(auth, made.secret)
    assert (answer.events_per_second, answer.bytes_per_second) == (0, 1 << 33)


async def test_every_change_of_limits_is_audited_once(auth: Auth) -> None:
    root = await auth.admin()
    made = await root.CreateApiKey(pb.CreateApiKeyRequest(name="a", kind="ingest"))
    for _ in range(2):  # the second changes nothing
        await root.UpdateApiKey(pb.UpdateApiKeyRequest(id=made.key.id, events_per_second=7))
    async with unit_of_work(auth.engine) as session:
        entries = list(await session.scalars(select(AuditEntry).where(AuditEntry.action == audit.KEY_UPDATED)))
    assert [(entry.target, json.loads(entry.detail)) for entry in entries] == [
        (f"key:{made.key.id}", {"name": "a", "from": {"events_per_second": 0}, "to": {"events_per_second": 7}})
    ]


async def test_limits_that_cannot_be_set_are_refused(auth: Auth) -> None:
    root = await auth.admin()
    with pytest.raises(InvalidArgument, match="only ingest tokens have limits"):
        await root.CreateApiKey(pb.CreateApiKeyRequest(name="a", kind="api", role="viewer", events_per_second=1))
    with pytest.raises(InvalidArgument, match="0 for none, not -1"):
        await root.CreateApiKey(pb.CreateApiKeyRequest(name="a", kind="ingest", bytes_per_second=-1))
    api = await root.CreateApiKey(pb.CreateApiKeyRequest(name="a", kind="api", role="viewer"))
    with pytest.raises(InvalidArgument, match="only ingest tokens have limits"):
        await root.UpdateApiKey(pb.UpdateApiKeyRequest(id=api.key.id, events_per_second=1))
    token = await root.CreateApiKey(pb.CreateApiKeyRequest(name="a", kind="ingest"))
    with pytest.raises(InvalidArgument, match="events per second, or 0 for none, not"):
        await root.UpdateApiKey(pb.UpdateApiKeyRequest(id=token.key.id, events_per_second=1 << 50))
    await root.RevokeApiKey(pb.RevokeApiKeyRequest(id=token.key.id))
    with pytest.raises(InvalidArgument, match="has been ended"):
        await root.UpdateApiKey(pb.UpdateApiKeyRequest(id=token.key.id, events_per_second=1))
    with pytest.raises(NotFound):
        await root.UpdateApiKey(pb.UpdateApiKeyRequest(id=str(uuid4()), events_per_second=1))
