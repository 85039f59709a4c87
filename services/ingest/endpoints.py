"""Endpoints: per protocol and token, who sends, how much is taken and what was refused last, as one process sees it.

Each request is counted once, in constant time. services.ingest.endpoint_store writes the counts to PostgreSQL every two
seconds, where those of all replicas come together.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily

from services.ingest.tokens import Agent

MAX_ENDPOINTS = 10_000
MAX_CLIENTS = 16
"""Last clients that are remembered of an endpoint."""
MAX_TEXT = 200


@dataclass(frozen=True, slots=True)
class Arrival:
    """Who sends a request, over which protocol and from where."""

    protocol: str
    """hec, otlp_grpc, otlp_http, bulk, loki, syslog, fluent, graphql, replay or elis (what ELIS itself tells)."""
    agent: Agent
    address: str = ""
    """The peer's address without its port."""
    user_agent: str = ""

    @property
    def sender(self) -> str:
        """Address and user agent as rejected events name them."""
        return f"{self.address} {self.user_agent}".strip()[:200]


@dataclass(slots=True)
class Counts:
    """What came to an endpoint."""

    requests: int = 0
    """All of them, those that were refused too."""
    refused: int = 0
    """Requests that got an error reply."""
    limited: int = 0
    """Refused requests whose sender had used up its limit."""
    resent: int = 0
    """Requests that held nothing but what was stored before."""
    events: int = 0
    duplicates: int = 0
    rejected: int = 0
    bytes: int = 0
    """Of bodies that were read, decompressed."""

    def add(self, other: Counts) -> None:
        """Adds other counts."""
        self.requests += other.requests
        self.refused += other.refused
        self.limited += other.limited
        self.resent += other.resent
        self.events += other.events
        self.duplicates += other.duplicates
        self.rejected += other.rejected
        self.bytes += other.bytes


@dataclass(slots=True)
class Endpoint:
    """What one process has seen of one protocol and token."""

    protocol: str
    token_id: str
    """Empty for requests whose token was not accepted."""
    token_name: str
    source: str
    """The source that the token is bound to; empty when the sender names it."""
    counts: Counts = field(default_factory=Counts)
    """Since they were drawn last."""
    last_error: str = ""
    last_error_at: int = 0
    """Nanoseconds since 1970; 0: never."""
    last_seen_at: int = 0
    clients: OrderedDict[tuple[str, str], int] = field(default_factory=OrderedDict)
    """(address, user agent) to the time it was last seen, oldest first."""


class Endpoints:
    """The endpoints of this process, bounded; the least recently seen go first. Prometheus collects its totals per protocol.

    Of an endpoint that goes, what was not written yet is missing in the table; it takes 10,000 tokens to get there.
    """

    def __init__(self, mask: Callable[[str], str]) -> None:
        """`mask` hides what clients put into their names and into what they are refused for."""
        self._mask = mask
        self._known: OrderedDict[tuple[str, str], Endpoint] = OrderedDict()
        self._totals: dict[str, Counts] = {}

    def taken(self, arrival: Arrival, *, events: int, duplicates: int, rejected: int) -> None:
        """Counts a request that was stored or recognised."""
        counts = self._touch(arrival).counts
        counts.requests += 1
        counts.events += events
        counts.duplicates += duplicates
        counts.rejected += rejected
        if duplicates and not events and not rejected:
            counts.resent += 1

    def read(self, arrival: Arrival, size: int) -> None:
        """Counts the bytes of a request that was let in."""
        endpoint = self._known.get((arrival.protocol, arrival.agent.id)) or self._touch(arrival)
        endpoint.counts.bytes += size

    def refused(self, arrival: Arrival, error: str, *, limited: bool = False) -> None:
        """Counts a request that got an error reply."""
        endpoint = self._touch(arrival)
        endpoint.counts.requests += 1
        endpoint.counts.refused += 1
        endpoint.counts.limited += limited
        self._note(endpoint, error)

    def complained(self, arrival: Arrival, error: str) -> None:
        """Notes what a sender was told about a request that was taken all the same, in part."""
        self._note(self._touch(arrival), error)

    def draw(self) -> list[tuple[Endpoint, Counts]]:
        """Returns the endpoints that were seen since the last call, with their counts since then."""
        drawn: list[tuple[Endpoint, Counts]] = []
        for endpoint in self._known.values():
            if endpoint.counts != _NOTHING:
                counts, endpoint.counts = endpoint.counts, Counts()
                self._total(endpoint.protocol).add(counts)
                drawn.append((endpoint, counts))
        return drawn

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yields the totals since the process started, by protocol: what a Prometheus registry asks for."""
        totals: dict[str, Counts] = {}
        for protocol, counts in [*self._totals.items(), *((endpoint.protocol, endpoint.counts) for endpoint in self._known.values())]:
            totals.setdefault(protocol, Counts()).add(counts)
        requests = CounterMetricFamily("elis_ingest_requests", "Requests of agents, by what became of them.", labels=["protocol", "outcome"])
        events = CounterMetricFamily("elis_ingest_events", "Records of agents, by what became of them.", labels=["protocol", "outcome"])
        sizes = CounterMetricFamily("elis_ingest_bytes", "Bytes of bodies that were read, decompressed.", labels=["protocol"])
        for protocol, total in sorted(totals.items()):
            requests.add_metric([protocol, "taken"], total.requests - total.refused - total.resent)
            requests.add_metric([protocol, "resent"], total.resent)
            requests.add_metric([protocol, "limited"], total.limited)
            requests.add_metric([protocol, "refused"], total.refused - total.limited)
            events.add_metric([protocol, "accepted"], total.events)
            events.add_metric([protocol, "duplicate"], total.duplicates)
            events.add_metric([protocol, "rejected"], total.rejected)
            sizes.add_metric([protocol], total.bytes)
        yield from (requests, events, sizes)

    def _note(self, endpoint: Endpoint, error: str) -> None:
        endpoint.last_error, endpoint.last_error_at = self._mask(error)[:MAX_TEXT], endpoint.last_seen_at

    def _total(self, protocol: str) -> Counts:
        return self._totals.setdefault(protocol, Counts())

    def _touch(self, arrival: Arrival) -> Endpoint:
        key = (arrival.protocol, arrival.agent.id)
        endpoint = self._known.get(key)
        if endpoint is None:
            if len(self._known) >= MAX_ENDPOINTS:
                _, gone = self._known.popitem(last=False)
                self._total(gone.protocol).add(gone.counts)
            endpoint = self._known[key] = Endpoint(arrival.protocol, arrival.agent.id, arrival.agent.name, arrival.agent.source)
        else:
            self._known.move_to_end(key)
        now = time.time_ns()
        endpoint.last_seen_at = now
        client = (self._mask(arrival.address), self._mask(arrival.user_agent)[:MAX_TEXT])
        if client in endpoint.clients:
            endpoint.clients.move_to_end(client)
        elif len(endpoint.clients) >= MAX_CLIENTS:
            endpoint.clients.popitem(last=False)
        endpoint.clients[client] = now
        return endpoint


_NOTHING = Counts()
