"""Who sends to a running stack, and what a limited token may send, as an operator sees it."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

import httpx
import pytest

from tests.fixtures.stack import ELIS, Up
from tests.system.api import Api, name_source

pytestmark = pytest.mark.system
SECONDS = 30.0
CREATE = """mutation($name: String!) { createApiKey(kind: "ingest", name: $name, source: $name, eventsPerSecond: 10) {
  secret key { id eventsPerSecond bytesPerSecond } } }"""


def endpoints_of(stack: Up, token_id: str) -> list[dict[str, Any]]:
    """Returns what `elis endpoints` tells of a token, once it tells something."""
    credentials = str(stack.data_dir / "credentials.json")
    deadline = time.monotonic() + SECONDS
    while True:
        done = subprocess.run([ELIS, "endpoints", "--json", "--credentials", credentials], capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, done.stderr
        found = [endpoint for endpoint in json.loads(done.stdout) if endpoint["tokenId"] == token_id]
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def test_a_limited_token_is_held_to_its_limit_and_seen(api: Api, stack: Up) -> None:
    source = name_source("limited")
    made = api.query(CREATE, {"name": source})["createApiKey"]
    assert (made["key"]["eventsPerSecond"], made["key"]["bytesPerSecond"]) == (10, None)

    def send(count: int) -> httpx.Response:
        content = "\n".join(json.dumps({"event": f"event {number}", "source": "elsewhere", "time": 1_795_510_800 + number}) for number in range(count))
        headers = {"Authorization": f"Splunk {made['secret']}", "User-Agent": "batch/1.0"}
        return api.http.post(f"{api.credentials['hec_url']}/services/collector/event", content=content, headers=headers)

    assert send(600).json()["code"] == 0
    refused = send(1)
    assert (refused.status_code, refused.json()["code"]) == (503, 9)
    assert 1 <= int(refused.headers["retry-after"]) <= 59
    api.await_count(source, 600)
    [endpoint] = endpoints_of(stack, made["key"]["id"])
    assert (endpoint["protocol"], endpoint["tokenName"], endpoint["source"]) == ("hec", source, source)
    assert endpoint["clients"][0]["userAgent"] == "batch/1.0"
    assert endpoint["clients"][0]["address"] == "127.0.0.1"
