"""Replies to requests that the GraphQL engine refuses name what is wrong, and never quote a value."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import hide_values
from tests.gateway.stack import Gateway

SECRET = "Hunter2Hunter2"
MAIL = "eve.leak@example.com"
INGEST = 'mutation($events: [EventInput!]!, $system: String) { ingest(source: "s", events: $events, system: $system) { accepted } }'


@pytest.mark.parametrize("secret", [SECRET, MAIL, "4111111111111111", f"it's \"{MAIL}\" at 'x'; {SECRET}", f"a\\'{MAIL}\n{SECRET}"])
async def test_refusals_quote_no_value(gateway: Gateway, secret: str) -> None:
    quoted = json.dumps(secret)
    requests: list[tuple[str, dict[str, Any]]] = [
        (INGEST, {"events": [{"body": "x", "severity": secret}]}),
        (INGEST, {"events": [{"body": {"deep": secret}}]}),
        (INGEST, {"events": [{"body": "x", "timestamp": secret}]}),
        (INGEST, {"events": [{"body": "x", "host": [secret]}]}),
        (INGEST, {"events": secret}),
        (INGEST, {"events": [], "system": {"a": secret}}),
        (INGEST, {"events": [{"body": "x", "nope": secret}]}),
        (f"mutation {{ ingest(source: [{quoted}], events: []) {{ accepted }} }}", {}),
        (f'mutation {{ ingest(source: "s", events: [{{body: "x", severity: {quoted}}}]) {{ accepted }} }}', {}),
        (f'mutation {{ ingest(source: "s", events: [{{body: "x", timestamp: {quoted}}}]) {{ accepted }} }}', {}),
        (f"{{ sources(first: {quoted}) {{ edges {{ cursor }} }} }}", {}),
        (f"{{ sources {quoted} }}", {}),
        (f"{quoted} {{", {}),
    ]
    for query, variables in requests:
        reply = await gateway.post(query, variables)
        assert reply.json()["errors"], query
        for part in (SECRET, MAIL, "4111111111111111"):
            assert part not in reply.text, reply.text


async def test_what_is_wrong_is_still_said(gateway: Gateway) -> None:
    error = await gateway.fail(INGEST, {"events": [{"body": "x", "severity": "LOUD"}]})
    assert "events[0].severity" in error["message"] or "'events'" in error["message"] or "$events" in error["message"]
    assert "Cannot query field 'nope'" in (await gateway.fail("{ nope }"))["message"]


def test_names_stay() -> None:
    for message in ("Cannot query field 'nope' on type 'Query'.", "Variable '$events' of required type '[EventInput!]!' was not provided."):
        assert hide_values(message) == message
    assert hide_values("Expected value of type 'Int', found \"x\"") == "Expected value of type 'Int', found …"
