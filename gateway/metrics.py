"""The gateway's numbers for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, PlatformCollector, ProcessCollector, generate_latest


class Metrics:
    """One registry per application, so that two of them in one process do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.requests = Counter("elis_gateway_requests", "Answers to HTTP requests at /graphql.", ["status"], registry=self.registry)
        self.seconds = Histogram(
            "elis_gateway_request_seconds",
            "Time to answer an HTTP request at /graphql.",
            buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
            registry=self.registry,
        )
        self.in_flight = Gauge("elis_gateway_requests_in_flight", "HTTP requests at /graphql being answered.", registry=self.registry)
        self.errors = Counter("elis_gateway_errors", "Errors told to callers.", ["code"], registry=self.registry)
        self.connections = Gauge("elis_gateway_websockets", "Open WebSockets.", registry=self.registry)
        self.rate_refusals = Counter("elis_gateway_rate_refusals", "Operations refused because a caller did too much.", ["endpoint"], registry=self.registry)
        self.rates_shared = Gauge("elis_gateway_rates_shared", "1: rates are counted in Redis; 0: by each gateway alone.", registry=self.registry)
        self.event_rows = Counter("elis_gateway_event_rows", "Rows of events answered.", ["path"], registry=self.registry)

    def render(self) -> bytes:
        """Returns the exposition text."""
        return generate_latest(self.registry)
