"""The order application: four instrumented services, each on every application host, sending OTLP."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from services.ingest.simulator.events import Origin, OtlpPayload, Role
from services.ingest.simulator.landscape import APPLICATION_HOSTS, PRODUCTS, SERVICES, VERSIONS
from services.ingest.simulator.stamps import SECOND
from services.ingest.simulator.story import Story
from services.ingest.simulator.streams import Mix, Stream, pick

ORIGINS = {(service, host): Origin(service, "application", service, host) for service in SERVICES for host in APPLICATION_HOSTS}
LEVELS: dict[str, int] = {"DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17, "FATAL": 21}


class Line(NamedTuple):
    """A line that a service writes outside of any request."""

    service: str
    level: str
    text: Callable[[Random], str]
    role: Role | None = None


LINES: Mix[Line] = Mix(
    (10, Line("shop-frontend", "INFO", lambda r: f"session cache swept: {int(r.random() * 900)} sessions expired")),
    (10, Line("order-service", "INFO", lambda r: f"outbox drained: {int(r.random() * 40)} messages in {r.random() * 90:.1f} ms")),
    (8, Line("order-service", "INFO", lambda r: f"connection pool orders-db: active={int(r.random() * 12)} idle={int(r.random() * 20)} waiting=0")),
    (10, Line("payment-service", "INFO", lambda r: f"settlement batch {int(r.random() * 90_000)} closed with {int(r.random() * 300)} payments")),
    (8, Line("payment-service", "INFO", lambda r: f"exchange rates refreshed from ECB in {int(r.random() * 900)} ms")),
    (10, Line("inventory-service", "INFO", lambda r: f"stock snapshot of warehouse WH{1 + int(r.random() * 4)} loaded: {len(PRODUCTS)} articles")),
    (8, Line("inventory-service", "INFO", lambda r: f"consumer lag of topic goods-movements is {int(r.random() * 30)}")),
    (3, Line("inventory-service", "WARN", lambda r: f"stock of article {pick(r, PRODUCTS)} is low: {1 + int(r.random() * 9)} left", "noise")),
    (2, Line("order-service", "WARN", lambda r: f"slow query on orders-db: select order_items took {300 + int(r.random() * 900)} ms", "noise")),
    (2, Line("shop-frontend", "WARN", lambda r: f"GC pause of {120 + int(r.random() * 300)} ms exceeded the limit of 100 ms", "noise")),
    (0.6, Line("shop-frontend", "ERROR", lambda r: f"rendering of product {pick(r, PRODUCTS)} failed: translation missing for locale nl_BE", "noise")),
    (
        0.4,
        Line("payment-service", "ERROR", lambda r: f"webhook of provider adyen rejected: signature of event {r.getrandbits(48):012x} does not match", "noise"),
    ),
)


def log(
    story: Story,
    time_ns: int,
    service: str,
    host: str,
    level: str,
    body: str,
    attributes: dict[str, Any],
    trace_id: str = "",
    span_id: str = "",
    role: Role | None = None,
) -> None:
    """Emits one log record of a service on a host."""
    story.emit(time_ns, ORIGINS[service, host], OtlpPayload(LEVELS[level], level, body, attributes, trace_id, span_id), role)


def exception(kind: str, message: str, *frames: str) -> dict[str, Any]:
    """Returns the attributes of an exception, spelled as OpenTelemetry does."""
    stack = "".join(f"\n\tat {frame}" for frame in frames)
    return {"exception.type": kind, "exception.message": message, "exception.stacktrace": f"{kind}: {message}{stack}"}


def deploy(story: Story, rng: Random, time_ns: int, service: str, host: str, version: str, role: Role | None = None) -> None:
    """Emits the restart of one instance of a service with a version: about 15 seconds."""
    before, attributes = VERSIONS[service], {"service.version": version}
    lines = (
        (0.0, f"shutting down {service} {before}: no new requests, 0 in flight"),
        (4.0, f"{service} {before} stopped after {600 + int(rng.random() * 900)} ms"),
        (9.0, f"starting {service} {version} on {host} with profile production"),
        (13.5, f"{service} {version} started in {3 + rng.random() * 2:.3f} seconds, listening on port 8080"),
        (15.0, "readiness probe passed, registered with the load balancer"),
    )
    for offset, body in lines:
        log(story, time_ns + int(offset * SECOND), service, host, "INFO", body, attributes, role=role)


def streams(story: Story) -> list[Stream]:
    """What the services do by themselves."""
    rng = story.rng("orders")

    def live(time_ns: int) -> None:
        line = LINES.draw(rng)
        log(story, time_ns, line.service, pick(rng, APPLICATION_HOSTS), line.level, line.text(rng), {}, role=line.role)

    return [story.arrivals("orders/live", 0.8, live)]
