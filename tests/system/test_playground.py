"""The examples of the playground run as they stand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.system.api import Api

SOURCE = (Path(__file__).parents[2] / "gateway" / "static" / "source" / "examples.js").read_text()
EXAMPLES = dict(re.findall(r'^    name: "(.*?)",\n    query: `(.*?)`', SOURCE, re.MULTILINE | re.DOTALL))
pytestmark = pytest.mark.system
EVENTS = [{"body": "order 4711 accepted", "severity": "INFO", "service": "shop", "attributes": {"order": 4711}}]


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in ("tail", "login")])
def test_an_example_runs(api: Api, name: str) -> None:
    assert api.query(EXAMPLES[name], {"events": EVENTS} if "$events" in EXAMPLES[name] else {})


def test_the_login_example_runs(api: Api) -> None:
    credentials = {"username": api.credentials["admin_username"], "password": api.credentials["admin_password"]}
    answer = api.query(EXAMPLES["login"], credentials, token="")
    assert answer["login"]["tokens"]["accessToken"]


def test_the_playground_is_served(api: Api) -> None:
    page = api.http.get(api.credentials["playground_url"])
    assert page.status_code == 200
    assert "server" not in page.headers
    assert json.loads(api.http.get(api.credentials["playground_url"] + "readyz").text)["status"] == "ready"
