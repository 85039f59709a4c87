"""The command `elis endpoints`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import httpx
import orjson
import typer
from msgspec import Struct
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kit.errors import ElisError, InvalidArgument, NotFound, PermissionDenied, Unavailable
from kit.terminal import complain
from services.ingest.credentials_file import DEFAULT_CREDENTIALS, CredentialsOption, read_credentials

EXIT_FAILED = 1
EXIT_WRONG_USE = 2
REQUEST_SECONDS = 10.0
MAX_ENDPOINTS = 10_000
QUERY = """query Endpoints($protocol: String, $after: String) { ingestEndpoints(protocol: $protocol, first: 100, after: $after) {
  edges { node { protocol tokenId tokenName source lastSeenAt lastError lastErrorAt retryStorm clients { address userAgent lastSeenAt }
    lastMinute { ...counts } lastHour { ...counts } } } pageInfo { hasNextPage endCursor } } }
fragment counts on EndpointCounts { requests refused limited resent events duplicates rejected bytes acceptRate }"""


class Access(Struct, frozen=True):
    """The part of a credentials file that reading needs."""

    graphql_url: str
    admin_api_key: str


def endpoints(
    protocol: Annotated[str, typer.Option(help="Only this one, such as hec, bulk or syslog.")] = "",
    credentials: CredentialsOption = DEFAULT_CREDENTIALS,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Shows who sends: per protocol and token the clients, what is taken and what was refused."""
    try:
        found = _ask(read_credentials(credentials, Access), protocol)
    except ElisError as error:
        complain(error.message)
        raise typer.Exit(EXIT_WRONG_USE if isinstance(error, InvalidArgument | NotFound) else EXIT_FAILED) from None
    if as_json:
        typer.echo(orjson.dumps(found))
    elif not found:
        complain(f"nothing was sent over {protocol!r}; without --protocol you see what was" if protocol else "nobody has sent anything yet")
    else:
        _show(found)


def _ask(access: Access, protocol: str) -> list[dict[str, Any]]:
    """Returns all endpoints as the API shows them; raises Unavailable when it does not answer, PermissionDenied when it refuses."""
    found: list[dict[str, Any]] = []
    after: str | None = None
    headers = {"Authorization": f"Bearer {access.admin_api_key}", "User-Agent": "elis-endpoints"}
    with httpx.Client(timeout=REQUEST_SECONDS, trust_env=False, headers=headers) as client:
        while len(found) < MAX_ENDPOINTS:
            try:
                response = client.post(access.graphql_url, json={"query": QUERY, "variables": {"protocol": protocol or None, "after": after}})
                answer = response.json()
            except httpx.InvalidURL as error:
                raise InvalidArgument(f"the credentials file has an address that is none: {access.graphql_url!r} ({error})") from None
            except (httpx.TransportError, ValueError) as error:
                raise Unavailable(f"ELIS does not answer at {access.graphql_url} ({type(error).__name__}); start it with `elis up`") from None
            if "errors" in answer or response.status_code != httpx.codes.OK:
                told = answer.get("errors", [{}])[0].get("message", response.status_code)
                raise PermissionDenied(f"ELIS refuses to tell: {told}; take the credentials file of this ELIS with --credentials")
            page = answer["data"]["ingestEndpoints"]
            found += [edge["node"] for edge in page["edges"]]
            after = page["pageInfo"]["endCursor"]
            if not page["pageInfo"]["hasNextPage"]:
                break
    return found


def _show(found: list[dict[str, Any]]) -> None:
    """Prints one line per endpoint; counts are of the last minute."""
    table = Table("protocol", "token", "last client", "requests", "taken", "events", "last error", box=None)
    for column in table.columns[3:6]:
        column.justify = "right"
    for endpoint in found:
        counts = endpoint["lastMinute"]
        client = endpoint["clients"][0] if endpoint["clients"] else {"address": None, "userAgent": None}
        rate = counts["acceptRate"]
        cells = (
            endpoint["protocol"],
            (endpoint["tokenName"] or endpoint["tokenId"] or "not valid") + (f" = {endpoint['source']}" if endpoint["source"] else ""),
            " ".join(part for part in (client["address"], client["userAgent"]) if part),
            f"{int(counts['requests']):,}",
            "" if rate is None else f"{rate:.0%}",
            f"{int(counts['events']):,}",
            ("RETRY STORM " if endpoint["retryStorm"] else "") + (endpoint["lastError"] or ""),
        )
        table.add_row(*map(escape, cells), style="bold red" if endpoint["retryStorm"] else None)
    Console(file=sys.stdout).print(table)
