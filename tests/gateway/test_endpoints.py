"""Who sends, through the API."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from typer import Typer
from typer.testing import CliRunner, Result

from elis.ingest.v1 import endpoints_pb2 as pb
from services.ingest.endpoints_command import endpoints
from tests.gateway.peers import stamp
from tests.gateway.stack import Gateway

QUERY = """query($protocol: String, $after: String) { ingestEndpoints(protocol: $protocol, first: 2, after: $after) {
  edges { node { protocol tokenId tokenName source lastSeenAt lastError lastErrorAt retryStorm
    clients { address userAgent lastSeenAt } lastMinute { requests refused limited resent events duplicates rejected bytes acceptRate }
    lastHour { requests acceptRate } } } pageInfo { hasNextPage endCursor } } }"""
NOON = 1_795_521_600_000_000_000


async def test_endpoints_are_shown_as_the_service_says(gateway: Gateway) -> None:
    known = pb.IngestEndpoint(
        protocol="hec",
        token_id="t1",
        token_name="web tier",
        source="shop",
        clients=[pb.EndpointClient(address="192.0.2.1", user_agent="fluent-bit/3.1", last_seen_at=stamp(NOON))],
        last_minute=pb.EndpointCounts(requests=40, refused=30, limited=29, resent=1, events=9, duplicates=5, rejected=2, bytes=2**40, accept_rate=0.25),
        last_hour=pb.EndpointCounts(requests=100, accept_rate=1.0),
        last_error="the limit of 5 events per second is used up; try again in 2.0 s",
        last_error_at=stamp(NOON),
        last_seen_at=stamp(NOON),
        retry_storm=True,
    )
    unknown = pb.IngestEndpoint(protocol="loki", last_minute=pb.EndpointCounts(), last_hour=pb.EndpointCounts())
    gateway.peers.answers["ListEndpoints"] = pb.ListEndpointsResponse(endpoints=[known, unknown], next_page_token="more")
    found = (await gateway.run(QUERY, {"protocol": "hec"}))["ingestEndpoints"]
    assert found["edges"][0]["node"] == {
        "protocol": "hec",
        "tokenId": "t1",
        "tokenName": "web tier",
        "source": "shop",
        "lastSeenAt": "2026-11-24T12:00:00.000000000Z",
        "lastError": "the limit of 5 events per second is used up; try again in 2.0 s",
        "lastErrorAt": "2026-11-24T12:00:00.000000000Z",
        "retryStorm": True,
        "clients": [{"address": "192.0.2.1", "userAgent": "fluent-bit/3.1", "lastSeenAt": "2026-11-24T12:00:00.000000000Z"}],
        "lastMinute": {
            "requests": 40,
            "refused": 30,
            "limited": 29,
            "resent": 1,
            "events": 9,
            "duplicates": 5,
            "rejected": 2,
            "bytes": 2**40,
            "acceptRate": 0.25,
        },
        "lastHour": {"requests": 100, "acceptRate": 1.0},
    }
    node = found["edges"][1]["node"]
    assert (node["tokenId"], node["tokenName"], node["lastError"], node["lastErrorAt"], node["clients"]) == (None, None, None, None, [])
    assert (node["lastMinute"]["requests"], node["lastMinute"]["acceptRate"], node["retryStorm"]) == (0, None, False)
    assert found["pageInfo"]["hasNextPage"]
    await gateway.run(QUERY, {"after": found["pageInfo"]["endCursor"]})
    first, second = gateway.peers.requests("ListEndpoints")
    assert (first.protocol, first.page_token, first.page_size, second.protocol, second.page_token) == ("hec", "", 2, "", "more")


async def test_viewers_do_not_see_addresses(gateway: Gateway) -> None:
    token = gateway.peers.issuer.token("sources:read", "statistics:read", role="viewer")
    error = await gateway.fail(QUERY, token=token)
    assert error["extensions"]["code"] == "PERMISSION_DENIED"


async def run_command(gateway: Gateway, folder: Path, *arguments: str, key: str = "elis_admin") -> Result:
    """Runs `elis endpoints` with a credentials file of this gateway."""
    path = folder / "credentials.json"
    path.write_text(json.dumps({"graphql_url": f"{gateway.url}/graphql", "admin_api_key": key, "ingest_token": ""}))
    app = Typer()
    app.command()(endpoints)
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, ["--credentials", str(path), *arguments]))


async def test_the_command_shows_every_endpoint(gateway: Gateway, tmp_path: Path) -> None:
    counts = pb.EndpointCounts(requests=2_000, events=5, accept_rate=0.25)
    none = pb.EndpointCounts()
    storm = pb.IngestEndpoint(protocol="hec", token_name="web [bold]", source="shop", last_error="busy", retry_storm=True, last_minute=counts, last_hour=counts)
    client = pb.EndpointClient(address="192.0.2.1", user_agent="alloy")
    unknown = pb.IngestEndpoint(protocol="loki", clients=[client], last_minute=none, last_hour=none)
    pages = {"": pb.ListEndpointsResponse(endpoints=[storm], next_page_token="2"), "2": pb.ListEndpointsResponse(endpoints=[unknown])}
    gateway.peers.answers["ListEndpoints"] = lambda request: pages[request.page_token]
    shown = await run_command(gateway, tmp_path)
    assert shown.exit_code == 0, shown.output
    text = " ".join(shown.stdout.split())
    for part in ("hec", "web [bold] =", "2,000", "25%", "STORM", "busy", "not valid", "192.0.2.1"):
        assert part in text
    listed = json.loads((await run_command(gateway, tmp_path, "--json", "--protocol", "hec")).stdout)
    assert [(endpoint["protocol"], endpoint["retryStorm"]) for endpoint in listed] == [("hec", True), ("loki", False)]
    assert gateway.peers.requests("ListEndpoints")[-1].protocol == "hec"


async def test_the_command_says_what_is_wrong(gateway: Gateway, tmp_path: Path) -> None:
    refused = await run_command(gateway, tmp_path, key="elis_wrong")
    assert (refused.exit_code, "refuses to tell" in refused.stderr, "--credentials" in refused.stderr) == (1, True, True)
    missing = await run_command(gateway, tmp_path, "--credentials", str(tmp_path / "none"))
    assert (missing.exit_code, "there is no credentials file" in missing.stderr) == (2, True)
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"graphql_url": "http://127.0.0.1:1/graphql", "admin_api_key": "k"}))
    away = await run_command(gateway, tmp_path, "--credentials", str(path))
    assert (away.exit_code, "does not answer" in away.stderr) == (1, True)
    gateway.peers.answers["ListEndpoints"] = lambda _: pb.ListEndpointsResponse()
    silent = await run_command(gateway, tmp_path, "--protocol", "pigeon")
    assert (silent.exit_code, silent.stdout, "nothing was sent over 'pigeon'" in silent.stderr) == (0, "", True)
