"""The command `elis canary`."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from time import monotonic
from typing import Annotated, Any

import httpx
import orjson
import typer
from prometheus_client import CollectorRegistry, start_http_server
from rich.console import Console
from rich.table import Table

from kit.errors import ElisError, InvalidArgument, NotFound, PermissionDenied, Unavailable
from kit.server import cancel_tasks
from kit.terminal import complain, console
from services.ingest.canary.ledger import Ledger, Metrics
from services.ingest.canary.protocols import PROTOCOLS, CanaryCredentials, now_ns
from services.ingest.credentials_file import DEFAULT_CREDENTIALS, CredentialsOption, read_credentials

EXIT_UNHEALTHY = 1
EXIT_WRONG_USE = 2
LOOK_SECONDS = 0.25
PATIENCE_SECONDS = 30.0
RETRY_SECONDS = 0.5
PAGE = 1_000
QUERY = """query Canary($query: String!, $start: DateTime!, $first: Int!) {
  events(filter: {query: $query, start: $start}, first: $first, order: OLDEST_FIRST) { edges { node { id body } } } }"""
_DURATION = re.compile(r"(\d{1,6})(s|m|h)?")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
_NUMBER = re.compile(r"canary (\w+) number (\d+)")


def canary(
    protocol: Annotated[list[str] | None, typer.Option(metavar="NAME", help=f"May be repeated: {', '.join(PROTOCOLS)}; all is every one.")] = None,
    duration: Annotated[str, typer.Option("--for", metavar="TIME", help="How long, such as 60s, 10m, 1h.", show_default="until Ctrl-C")] = "",
    rate: Annotated[float, typer.Option(min=0.1, max=100.0, help="Events per second and protocol.")] = 5.0,
    credentials: CredentialsOption = DEFAULT_CREDENTIALS,
    metrics_port: Annotated[int, typer.Option(min=0, max=65_535, help="Serve Prometheus metrics at this port; 0: do not.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Writes numbered events, reads them back through GraphQL, and tells what is missing, doubled, out of order or late."""
    try:
        names = _choose(protocol or ["hec"])
        seconds = _read_duration(duration)
        known = read_credentials(credentials, CanaryCredentials)
        registry = CollectorRegistry()
        if metrics_port:
            _serve(registry, metrics_port)
        metrics = Metrics(registry)
        ledgers = asyncio.run(_run([Ledger(name, metrics) for name in names], known, rate, seconds))
    except ElisError as error:
        complain(error.message)
        raise typer.Exit(EXIT_WRONG_USE if isinstance(error, InvalidArgument | NotFound) else EXIT_UNHEALTHY) from None
    _show(ledgers, as_json)
    if not all(ledger.healthy and ledger.acknowledged for ledger in ledgers):
        raise typer.Exit(EXIT_UNHEALTHY)


def _serve(registry: CollectorRegistry, port: int) -> None:
    try:
        start_http_server(port, registry=registry)
    except OSError as error:
        raise InvalidArgument(f"the metrics cannot be served at port {port} ({error.strerror}); choose another with --metrics-port") from None


def _choose(names: Sequence[str]) -> list[str]:
    if "all" in names:
        return list(PROTOCOLS)
    for name in names:
        if name not in PROTOCOLS:
            raise InvalidArgument(f"there is no protocol {name!r}; choose from {', '.join(PROTOCOLS)}, all")
    return list(dict.fromkeys(names))


def _read_duration(text: str) -> float | None:
    if not text:
        return None
    match = _DURATION.fullmatch(text)
    if match is None or not int(match[1]):
        raise InvalidArgument(f"{text!r} is no duration; write it as 60s, 10m or 1h")
    return float(int(match[1]) * _UNITS[match[2] or ""])


async def _run(ledgers: list[Ledger], credentials: CanaryCredentials, rate: float, seconds: float | None) -> list[Ledger]:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    headers = {"Authorization": f"Bearer {credentials.admin_api_key}", "User-Agent": "elis-canary"}
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=10.0, trust_env=False, headers=headers))
        canaries = [_Canary(ledger, client, credentials) for ledger in ledgers]
        senders = [asyncio.create_task(one.send(stack, rate)) for one in canaries]
        watchers = [asyncio.create_task(one.watch()) for one in canaries]
        console.print(f"canary {', '.join(ledger.protocol for ledger in ledgers)}; Ctrl-C stops")
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([*senders, *watchers, stopped], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        await cancel_tasks([*senders, stopped])
        # What is on its way is looked for until it is found or late.
        deadline = monotonic() + PATIENCE_SECONDS
        while any(ledger.waiting for ledger in ledgers) and monotonic() < deadline and not any(task.done() for task in watchers):
            await asyncio.wait(watchers, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for ledger in ledgers:
            ledger.give_up(monotonic() + 1)
        for task in (*senders, *watchers):
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error
        await cancel_tasks(watchers)
    return ledgers


class _Canary:
    """One protocol: a sender and a watcher that share a book."""

    def __init__(self, ledger: Ledger, client: httpx.AsyncClient, credentials: CanaryCredentials) -> None:
        self._ledger = ledger
        self._client = client
        self._credentials = credentials
        self._run = token_hex(4)
        self._sent_at: dict[int, datetime] = {}
        """Number to the time of the event, for those that may still have to be looked for."""

    async def send(self, stack: AsyncExitStack, rate: float) -> None:
        """Sends numbered events for ever; one that is not acknowledged is sent again, as agents do."""
        send = await PROTOCOLS[self._ledger.protocol].open(self._credentials, stack)
        begun, number = monotonic(), 0
        while True:
            await asyncio.sleep(max(begun + number / rate - monotonic(), 0.0))
            at = now_ns()
            self._sent_at[number] = datetime.fromtimestamp(at / 1e9, UTC)
            self._ledger.note_sent()
            while True:
                started = monotonic()
                try:
                    await send(f"canary {self._run} number {number}", at)
                    break
                except Unavailable as error:
                    self._ledger.note_failure(error.message)
                    await asyncio.sleep(RETRY_SECONDS)
            now = monotonic()
            self._ledger.note_acknowledged(number, now, now - started)
            number += 1

    async def watch(self) -> None:
        """Looks for ever for the events that are not found yet, and a little before them."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not self._ledger.waiting:
                continue
            oldest = next(iter(self._ledger.waiting))
            start = self._sent_at[oldest] - timedelta(seconds=5)
            with suppress(Unavailable):
                self._ledger.note_page(await self._look(start), monotonic())
            self._ledger.give_up(monotonic() - PATIENCE_SECONDS)
            done = [number for number, at in self._sent_at.items() if at < start]
            for number in done:
                del self._sent_at[number]
            if done:
                self._ledger.forget(done[-1])

    async def _look(self, start: datetime) -> list[tuple[int, str]]:
        variables = {"query": f'"canary {self._run}"', "start": start.isoformat(), "first": PAGE}
        try:
            response = await self._client.post(self._credentials.graphql_url, json={"query": QUERY, "variables": variables})
            content: dict[str, Any] = response.json()
        except (httpx.TransportError, ValueError) as error:
            raise Unavailable(f"GraphQL does not answer: {type(error).__name__}") from None
        if content.get("errors"):
            first = content["errors"][0]
            kind = PermissionDenied if first.get("extensions", {}).get("code") in ("UNAUTHENTICATED", "PERMISSION_DENIED") else Unavailable
            raise kind(f"GraphQL: {first['message']}")
        found = [(_NUMBER.search(edge["node"]["body"]), edge["node"]["id"]) for edge in content["data"]["events"]["edges"]]
        return [(int(match[2]), event_id) for match, event_id in found if match is not None and match[1] == self._run]


def _show(ledgers: Sequence[Ledger], as_json: bool) -> None:
    rows = [
        {
            "protocol": ledger.protocol,
            "sent": ledger.sent,
            "acknowledged": ledger.acknowledged,
            "found": ledger.found,
            "missing": ledger.missing,
            "duplicated": ledger.duplicated,
            "reordered": ledger.reordered,
            "failed": ledger.failed,
            "acknowledge_ms": _percentiles(ledger.acknowledge_seconds),
            "found_ms": _percentiles(ledger.found_seconds),
        }
        for ledger in ledgers
    ]
    if as_json:
        print(orjson.dumps(rows).decode())
        return
    table = Table("protocol", "sent", "acked", "found", "miss", "dup", "order", "fail", "ack ms", "find ms", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for row, ledger in zip(rows, ledgers, strict=True):
        cells = [f"{value['p50']:.0f}/{value['p99']:.0f}" if isinstance(value, dict) else str(value) for value in row.values()]
        table.add_row(*cells, style="" if ledger.healthy else "bold red")
    output = Console(file=sys.stdout)
    output.print(table)
    output.print("ms are p50/p99: to the acknowledgement, and from there until GraphQL finds the event", style="dim")
    for ledger in ledgers:
        if ledger.last_failure:
            complain(f"{ledger.protocol}: {ledger.failed} attempts failed, the last with: {ledger.last_failure}")


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds) or [0.0]
    return {"p50": round(1e3 * ordered[len(ordered) // 2], 1), "p99": round(1e3 * ordered[min(len(ordered) * 99 // 100, len(ordered) - 1)], 1)}
