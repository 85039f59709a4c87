from __future__ import annotations

import asyncio
from datetime import timedelta
from time import perf_counter

import orjson
import pytest

from elis.auth.v1 import auth_pb2
from elis.search.v1 import search_pb2
from kit.errors import Conflict, Internal, NotFound, PermissionDenied, Unavailable
from tests.gateway.peers import Peers
from tests.gateway.stack import Gateway, run_gateway

ME = auth_pb2.GetMeResponse(caller=auth_pb2.Caller(subject="user:ada", name="ada", kind="user", role="admin", scopes=["self:read"]))


@pytest.fixture
def me(gateway: Gateway) -> Gateway:
    gateway.peers.answers["GetMe"] = ME
    return gateway


async def test_a_query_is_answered_as_its_caller(me: Gateway) -> None:
    assert await me.run("{me{subject name role scopes}}") == {"me": {"subject": "user:ada", "name": "ada", "role": "admin", "scopes": ["self:read"]}}
    assert me.peers.callers[-1] == "user:ada"


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
async def test_an_api_key_is_a_caller(me: Gateway, header: str) -> None:
    key = f"elis_admin_{header}"
    headers = {"authorization": f"Bearer {key}"} if header == "authorization" else {"x-api-key": key}
    for _ in range(3):
        response = await me.http.post("/graphql", json={"query": "{me{name}}"}, headers=headers)
        assert response.json()["data"] == {"me": {"name": "ada"}}
    assert me.peers.callers[-1] == "key:robot"
    assert len(me.peers.requests("ExchangeApiKey")) == 1


async def test_the_request_id_travels(me: Gateway) -> None:
    response = await me.post("{me{name}}", x_request_id="order-4711")
    assert response.headers["x-request-id"] == "order-4711"
    assert me.peers.request_ids[-1] == "order-4711"
    response = await me.post("{me{name}}", x_request_id="no good id")
    assert response.headers["x-request-id"] == me.peers.request_ids[-1] != "no good id"
    error = await me.fail("{me{nothing}}", x_request_id="order-4712")
    assert error["extensions"]["requestId"] == "order-4712"


async def test_calls_get_what_is_left_of_the_time(peers: Peers, addresses: dict[str, str], valkey_url: str) -> None:
    async def slow(_: object) -> auth_pb2.LogoutResponse:
        await asyncio.sleep(0.4)
        return auth_pb2.LogoutResponse()

    peers.answers["Logout"] = slow
    async with run_gateway(peers, addresses, valkey_url, request_timeout=timedelta(seconds=2)) as gateway:
        await gateway.run("{__typename}")
        peers.remaining.clear()
        await gateway.run('mutation{a:logout(refreshToken:"a") b:logout(refreshToken:"b")}')
        first, second = peers.remaining
        assert first is not None
        assert second is not None
        assert 1.6 < first < 2.1
        assert second < first - 0.3


async def test_a_request_ends_with_its_time(peers: Peers, addresses: dict[str, str], valkey_url: str) -> None:
    async def hang(_: object) -> auth_pb2.GetMeResponse:
        await asyncio.sleep(30)
        return ME

    peers.answers["GetMe"] = hang
    async with run_gateway(peers, addresses, valkey_url, request_timeout=timedelta(seconds=0.3)) as gateway:
        started = perf_counter()
        response = await gateway.post("{me{name}}")
        assert perf_counter() - started < 2
        assert response.json()["errors"][0]["extensions"]["code"] == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize(
    ("error", "code", "detail"),
    [
        (NotFound("user 7 does not exist", id="7"), "NOT_FOUND", {"id": "7"}),
        (PermissionDenied("the scope self:read is needed", scope="self:read"), "PERMISSION_DENIED", {"scope": "self:read"}),
        (Conflict("user 7 changed meanwhile"), "ABORTED", {}),
        (Unavailable("auth is busy", retry_after=2.0), "UNAVAILABLE", {"retry_after": 2.0}),
        (Internal("internal error"), "INTERNAL", {}),
    ],
)
async def test_an_error_of_a_service_keeps_its_class(gateway: Gateway, error: Exception, code: str, detail: dict[str, object]) -> None:
    gateway.peers.answers["GetMe"] = error
    told = await gateway.fail("{me{name}}")
    assert told["message"] == str(error)
    assert told["path"] == ["me"]
    extensions = told["extensions"]
    assert extensions.pop("requestId")
    assert extensions == {"code": code, "type": type(error).__name__, **detail}


async def test_what_goes_wrong_inside_stays_inside(gateway: Gateway) -> None:
    gateway.peers.answers["GetMe"] = RuntimeError("postgresql://elis:secret@db/elis")
    response = await gateway.post("{me{name}}")
    assert "secret" not in response.text
    assert response.json()["errors"][0]["message"] == "internal error"
    # A message that the schema cannot show: no service would send it, and nobody may see how it failed.
    gateway.peers.answers["SearchEvents"] = search_pb2.SearchEventsResponse(cursors=["a", "b"], events=[search_pb2.Event()])
    response = await gateway.post("{events{edges{cursor}}}")
    assert response.json()["errors"][0]["message"] == "internal error"
    assert "zip" not in response.text


async def test_anonymous_callers_learn_nothing(me: Gateway) -> None:
    documents = ["{me{name}}", "{me{nothing}}", "{nothing}", "{", "{__schema{types{name}}}", "mutation{nothing}", "query A{a} query B{b}"]
    documents += ['{events(first:"x"){edge}}', "subscription{tail{a}}", "{a" * 450, "{" + "a " * 2_000 + "}"]
    for credential in ("elis_wrong", "a.b.c", "nonsense", ""):
        answers = set()
        for document in documents:
            response = await me.post(document, token=credential)
            assert response.status_code == 401
            body = response.json()
            for error in body["errors"]:
                del error["extensions"]["requestId"]
            answers.add(orjson.dumps(body))
        assert len(answers) == 1, answers
        assert b"UNAUTHENTICATED" in answers.pop()
    assert me.peers.callers == []


async def test_a_refused_credential_is_status_401(me: Gateway) -> None:
    response = await me.post("{me{name}}", token="elis_wrong")
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Bearer realm="elis"'
    assert response.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_an_expired_token_is_good_for_nothing_but_a_new_one(me: Gateway) -> None:
    token = me.peers.issuer.token("self:read", lifetime=-60)
    response = await me.post("{me{name}}", token=token)
    assert response.status_code == 401
    assert "expired" in response.json()["errors"][0]["message"]
    me.peers.answers["Refresh"] = auth_pb2.RefreshResponse(tokens=auth_pb2.TokenPair(access_token="a.b.c"))
    assert await me.run('mutation{refresh(refreshToken:"r1"){accessToken}}', token=token) == {"refresh": {"accessToken": "a.b.c"}}


async def test_the_services_decide(me: Gateway) -> None:
    error = await me.fail("{me{name}}", token=me.peers.issuer.token("events:read"))
    assert error["extensions"]["code"] == "PERMISSION_DENIED"
    assert error["extensions"]["scope"] == "self:read"


BODIES = [
    (b"[" * 40_000, "application/json", 400),
    (b'{"query":"{me{name}}","variables":{"a":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_002, "application/json", 400),
    (b'"text"', "application/json", 400),
    (b"5", "application/json", 400),
    (b"null", "application/json", 400),
    (b"[]", "application/json", 400),
    (b'[{"query":"{me{name}}"}]', "application/json", 400),
    (b"{", "application/json", 400),
    (b"\xff\xfe", "application/json", 400),
    (b"", "application/json", 400),
    (b"{}", "application/json", 400),
    (b'{"query":5}', "application/json", 400),
    (b'{"query":"{me{name}}","variables":[]}', "application/json", 400),
    (b'{"query":"{me{name}}","extensions":5}', "application/json", 400),
    (b'{"query":"{me{name}}","operationName":"Other"}', "application/json", 400),
    (b'{"query":"query A{me{name}} query B{me{name}}"}', "application/json", 200),
    (b'{"query":"{me{name}}"}', "text/plain", 400),
    (b"query={me{name}}", "application/x-www-form-urlencoded", 400),
    (b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x", 400),
    (b'{"query":"{me{name}}"}' + b" " * 1_000_000, "application/json", 413),
]


async def test_a_body_that_is_no_request(me: Gateway) -> None:
    for content, content_type, status in BODIES:
        response = await me.http.post("/graphql", content=content, headers={"content-type": content_type, "authorization": f"Bearer {me.token}"})
        assert response.status_code == status, (content[:40], response.text)
        if status == 400:
            assert response.json()["errors"][0]["extensions"]["code"] == "INVALID_ARGUMENT"
        assert "Traceback" not in response.text


async def test_a_syntax_error_is_told_whatever_the_operation_is_called(me: Gateway) -> None:
    headers = {"authorization": f"Bearer {me.token}"}
    for name in (None, "Mine"):
        response = await me.http.post("/graphql", json={"query": "query Mine {me(", "operationName": name}, headers=headers)
        error = response.json()["errors"][0]
        assert error["message"].startswith("Syntax Error")
        assert error["locations"] == [{"line": 1, "column": 16}]
        assert error["extensions"]["code"] == "INVALID_ARGUMENT"


async def test_a_body_that_grows_past_the_limit_is_cut_off(me: Gateway) -> None:
    async def grow() -> object:
        for _ in range(300):
            yield b" " * 10_000

    response = await me.http.post("/graphql", content=grow(), headers={"content-type": "application/json"})  # type: ignore[arg-type]
    assert response.status_code == 413


async def test_nothing_runs_over_get(me: Gateway) -> None:
    headers = {"authorization": f"Bearer {me.token}"}
    for query in ("{me{name}}", 'mutation{logout(refreshToken:"a")}'):
        response = await me.http.get("/graphql", params={"query": query}, headers=headers)
        assert response.status_code == 400
    assert (await me.http.get("/graphql", headers={**headers, "accept": "text/html"})).status_code == 404
    assert (await me.http.put("/graphql", headers=headers)).status_code == 405
    assert me.peers.callers == []


async def test_a_subscription_needs_a_websocket(me: Gateway) -> None:
    error = await me.fail("subscription{tail{__typename}}")
    assert error["message"] == "a subscription needs a WebSocket (graphql-transport-ws)"


async def test_every_answer_carries_the_security_headers(me: Gateway) -> None:
    for response in (await me.post("{me{name}}"), await me.http.get("/healthz"), await me.http.get("/nothing"), await me.http.get("/")):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
        assert "unsafe-eval" not in response.headers["content-security-policy"]
        assert "script-src 'self' 'unsafe-inline'" not in response.headers["content-security-policy"]
        assert "server" not in response.headers
    assert (await me.post("{me{name}}")).headers["cache-control"] == "no-store"


async def test_errors_suggest_nothing(me: Gateway) -> None:
    for query, variables in (("{mee{name}}", None), ("{me{nam}}", None), ("query($o:EventOrder!){events(order:$o){degraded}}", {"o": "NEWEST_FIRS"})):
        error = await me.fail(query, variables)
        assert "Did you mean" not in error["message"]
        assert error["extensions"]["code"] == "INVALID_ARGUMENT"


async def test_limits_are_checked_before_anything_runs(me: Gateway) -> None:
    for query in ("{" + " ".join(f"a{number}:me{{name}}" for number in range(16)) + "}", "{me{name" + " @include(if:true)" * 6 + "}}"):
        error = await me.fail(query)
        assert "the document has more than" in error["message"]
    assert me.peers.callers == []


async def test_the_schema_can_be_closed(peers: Peers, addresses: dict[str, str], valkey_url: str) -> None:
    async with run_gateway(peers, addresses, valkey_url, introspection=False, playground=False) as gateway:
        error = await gateway.fail("{__schema{types{name}}}")
        assert error["message"] == "this ELIS does not show its schema"
        assert (await gateway.http.get("/")).status_code == 404
        assert await gateway.run("{__typename}") == {"__typename": "Query"}


async def test_too_many_requests_are_status_429(peers: Peers, addresses: dict[str, str], valkey_url: str) -> None:
    peers.answers["GetMe"] = ME
    async with run_gateway(peers, addresses, valkey_url, rate_limits={"request": "3/minute"}) as gateway:
        token = peers.issuer.token("self:read", name="hasty")
        for _ in range(3):
            await gateway.run("{me{name}}", token=token)
        response = await gateway.post("{me{name}}", token=token)
        assert response.status_code == 429
        assert int(response.headers["retry-after"]) >= 1
        assert response.json()["errors"][0]["extensions"]["code"] == "RESOURCE_EXHAUSTED"
        assert response.json()["errors"][0]["extensions"]["retry_after"] > 0
        await gateway.run("{me{name}}")


async def test_guessing_keys_is_slowed_down(peers: Peers, addresses: dict[str, str], valkey_url: str) -> None:
    async with run_gateway(peers, addresses, valkey_url, rate_limits={"refused": "3/hour"}) as gateway:
        statuses = [(await gateway.post("{me{name}}", token=f"elis_{number}")).status_code for number in range(5)]
    assert statuses.count(401) <= 3
    assert statuses[-1] == 429


async def test_other_origins_are_let_in_by_name(peers: Peers, addresses: dict[str, str], valkey_url: str) -> None:
    preflight = {"origin": "https://ops.example.org", "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    async with run_gateway(peers, addresses, valkey_url, allowed_origins=("https://ops.example.org",)) as gateway:
        response = await gateway.http.options("/graphql", headers=preflight)
        assert response.headers["access-control-allow-origin"] == "https://ops.example.org"
        assert "access-control-allow-credentials" not in response.headers
        response = await gateway.http.options("/graphql", headers={**preflight, "origin": "https://evil.example.org"})
        assert "access-control-allow-origin" not in response.headers
    async with run_gateway(peers, addresses, valkey_url) as gateway:
        response = await gateway.http.options("/graphql", headers=preflight)
        assert "access-control-allow-origin" not in response.headers


async def test_concurrent_requests_do_not_mix_callers(me: Gateway) -> None:
    async def who(request: object) -> auth_pb2.GetMeResponse:
        from kit.auth import principal  # noqa: PLC0415

        await asyncio.sleep(0.01)
        return auth_pb2.GetMeResponse(caller=auth_pb2.Caller(subject="", name=principal().name))

    me.peers.answers["GetMe"] = who
    names = [f"user-{number}" for number in range(30)]
    tokens = [me.peers.issuer.token("self:read", name=name) for name in names]
    answers = await asyncio.gather(*(me.run("{me{name}}", token=token) for token in tokens))
    assert [answer["me"]["name"] for answer in answers] == names
