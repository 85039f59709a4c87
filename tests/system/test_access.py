"""Who may do what, and the playground that anybody may open."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.system.api import Api, name_source

pytestmark = pytest.mark.system

LOGIN = """mutation($username: String!, $password: String!) { login(username: $username, password: $password) {
  tokens { accessToken refreshToken } user { username role } } }"""
REFRESH = "mutation($token: String!) { refresh(refreshToken: $token) { accessToken refreshToken } }"
ME = "{ me { name kind role scopes } }"


def sign_in(api: Api, username: str, password: str) -> dict[str, Any]:
    """Returns the tokens of a user."""
    login: dict[str, Any] = api.query(LOGIN, {"username": username, "password": password}, token="")["login"]
    assert login["user"]["username"] == username
    tokens: dict[str, Any] = login["tokens"]
    return tokens


def test_the_first_admin_signs_in_and_stays_signed_in(api: Api) -> None:
    tokens = sign_in(api, "admin", api.credentials["admin_password"])
    assert api.query(ME, token=tokens["accessToken"])["me"]["role"] == "admin"
    fresh = api.query(REFRESH, {"token": tokens["refreshToken"]}, token="")["refresh"]
    assert fresh["refreshToken"] != tokens["refreshToken"]
    me = api.query(ME, token=fresh["accessToken"])["me"]
    assert (me["name"], me["kind"], me["role"]) == ("admin", "user", "admin")
    users = api.query("{ users { edges { node { username role } } } }", token=fresh["accessToken"])["users"]["edges"]
    assert {"username": "admin", "role": "admin"} in [edge["node"] for edge in users]


def test_a_wrong_password_opens_nothing(api: Api) -> None:
    wrong = api.error(LOGIN, {"username": "admin", "password": "not the password"}, token="")
    unknown = api.error(LOGIN, {"username": name_source("nobody"), "password": "not the password"}, token="")
    assert wrong["extensions"]["code"] == unknown["extensions"]["code"] == "UNAUTHENTICATED"
    assert wrong["message"] == unknown["message"]


def test_a_viewer_reads_and_changes_nothing(api: Api) -> None:
    name, password = name_source("viewer"), "a passphrase for the viewer"
    create = 'mutation($name: String!, $password: String!) { createUser(username: $name, password: $password, role: "viewer") { role } }'
    assert api.query(create, {"name": name, "password": password}) == {"createUser": {"role": "viewer"}}
    token = sign_in(api, name, password)["accessToken"]
    assert api.query(ME, token=token)["me"]["role"] == "viewer"
    assert api.query("{ events(first: 1) { edges { node { id } } } }", token=token)["events"] is not None
    for refused in (
        "{ users { edges { node { id } } } }",
        "{ apiKeys { edges { node { id } } } }",
        "{ rejectedEvents { edges { node { id } } } }",
        'mutation { ingest(source: "x", events: [{body: "x"}]) { accepted } }',
        'mutation { createUser(username: "x", password: "a passphrase of x", role: "admin") { id } }',
        'mutation { createApiKey(name: "x", role: "admin") { secret } }',
    ):
        assert api.error(refused, token=token)["extensions"]["code"] == "PERMISSION_DENIED", refused


def test_an_anonymous_caller_learns_nothing(api: Api) -> None:
    for query in ("{ events { edges { node { id } } } }", ME, "{ __schema { types { name } } }", "{ nonsense }", "{ not a query"):
        error = api.error(query, token="")
        assert (error["message"], error["extensions"]["code"]) == ("sign in first", "UNAUTHENTICATED")
    assert api.error(ME, token="nonsense")["extensions"]["code"] == "UNAUTHENTICATED"


def test_a_token_that_is_wrong_or_missing_is_refused_as_splunk_does(api: Api) -> None:
    event = [{"event": "x"}]
    wrong = api.send(event, Authorization="Splunk 00000000-0000-0000-0000-000000000000")
    assert (wrong.status_code, wrong.json()) == (403, {"text": "Invalid token", "code": 4})
    missing = api.http.post(f"{api.credentials['hec_url']}/services/collector/event", json=event[0])
    assert (missing.status_code, missing.json()) == (401, {"text": "Token is required", "code": 2})
    otlp = api.http.post(f"{api.credentials['otlp_http_url']}/v1/logs", content=b"", headers={"Content-Type": "application/x-protobuf"})
    assert otlp.status_code == 401


def test_a_syntax_error_says_where_it_is(api: Api) -> None:
    error = api.error("{ events(first: 1) { edges { node { id } }")
    assert error["message"].startswith("Syntax Error")
    assert error["extensions"]["code"] == "INVALID_ARGUMENT"
    assert error["locations"][0]["line"] == 1
    field = api.error("{ events { edges { node { bodyy } } } }")
    assert "bodyy" in field["message"]
    query = api.error('{ events(filter: {query: "service:(a OR"}) { edges { node { id } } } }')
    assert query["extensions"]["code"] == "INVALID_ARGUMENT"


def test_the_playground_needs_nothing_from_outside(api: Api) -> None:
    base = api.credentials["playground_url"]
    page = api.http.get(base)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"] or "default-src 'self'" in page.headers["content-security-policy"]
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page.text)
    links = re.findall(r"""(?:src|href)="(/[^"]+)\"""", page.text)
    assert len(links) >= 3
    for link in links:
        file = api.http.get(base.rstrip("/") + link)
        assert file.status_code == 200
        assert file.content
    styles = next(api.http.get(base.rstrip("/") + link).text for link in links if link.endswith(".css"))
    assert not re.search(r"@import|url\([\"']?(?:https?:)?//", styles)
