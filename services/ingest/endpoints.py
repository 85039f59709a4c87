"""Endpoints: per protocol and token, who sends, how much is taken and what was refused last."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from services.ingest.tokens import Agent

MAX_ENDPOINTS = 10_000
MAX_CLIENTS = 16
"""Last clients that are remembered of an endpoint."""
MAX_ERROR = 200


@dataclass(frozen=True, slots=True)
class Arrival:
    """Who sends a request, over which protocol and from where."""

    protocol: str
    """hec, otlp_grpc, otlp_http, bulk, loki, syslog, fluent or graphql."""
    agent: Agent
    address: str = ""
    """The peer's address without its port."""
    user_agent: str = ""

    @property
    def sender(self) -> str:
        """Address and user agent as rejected events name them."""
        return f"{self.address} {self.user_agent}".strip()[:200]


@dataclass(slots=True)
class Endpoint:
    """What one process has seen of one protocol and token; counts since the process started."""

    protocol: str
    token_id: str
    """Empty for requests whose token was not accepted."""
    token_name: str
    requests: int = 0
    refused: int = 0
    events: int = 0
    duplicates: int = 0
    rejected: int = 0
    bytes: int = 0
    last_error: str = ""
    last_error_at: int = 0
    """Nanoseconds since 1970; 0: never."""
    last_seen_at: int = 0
    clients: OrderedDict[tuple[str, str], int] = field(default_factory=OrderedDict)
    """(address, user agent) to the time it was last seen, oldest first."""


class Endpoints:
    """The endpoints of this process, bounded; the least recently seen go first."""

    def __init__(self, mask: Callable[[str], str]) -> None:
        """`mask` hides what clients put into their names and into what they are refused for."""
        self._mask = mask
        self._known: OrderedDict[tuple[str, str], Endpoint] = OrderedDict()

    def taken(self, arrival: Arrival, *, events: int, duplicates: int, rejected: int) -> None:
        """Counts a request that was stored or recognised."""
        endpoint = self._touch(arrival)
        endpoint.requests += 1
        endpoint.events += events
        endpoint.duplicates += duplicates
        endpoint.rejected += rejected

    def read(self, arrival: Arrival, size: int) -> None:
        """Counts the bytes of a request that was let in."""
        self._touch(arrival).bytes += size

    def refused(self, arrival: Arrival, error: str) -> None:
        """Counts a request that got an error reply."""
        endpoint = self._touch(arrival)
        endpoint.refused += 1
        endpoint.last_error, endpoint.last_error_at = self._mask(error)[:MAX_ERROR], endpoint.last_seen_at

    def all(self) -> list[Endpoint]:
        """Returns the endpoints, the most recently seen last."""
        return list(self._known.values())

    def _touch(self, arrival: Arrival) -> Endpoint:
        key = (arrival.protocol, arrival.agent.id)
        endpoint = self._known.get(key)
        if endpoint is None:
            if len(self._known) >= MAX_ENDPOINTS:
                self._known.popitem(last=False)
            endpoint = self._known[key] = Endpoint(arrival.protocol, arrival.agent.id, arrival.agent.name)
        else:
            self._known.move_to_end(key)
        now = time.time_ns()
        endpoint.last_seen_at = now
        client = (arrival.address, self._mask(arrival.user_agent)[:MAX_ERROR])
        if client in endpoint.clients:
            endpoint.clients.move_to_end(client)
        elif len(endpoint.clients) >= MAX_CLIENTS:
            endpoint.clients.popitem(last=False)
        endpoint.clients[client] = now
        return endpoint
