"""What it costs to take events in: acknowledged, searchable, and counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, repeat
from random import Random
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from rich.progress import TaskID

from benchmarks.bodies import Body, hec_bodies, otlp_bodies, write_bodies
from benchmarks.client import Job, Outcome
from benchmarks.fleet import run_clients
from benchmarks.processes import subtract
from benchmarks.session import Session, show_progress
from benchmarks.spread import Spread, spread_of

REQUEST_EVENTS = 1_000
CLIENTS = 2
LOAD_SECONDS = 600.0
SETTLE_SECONDS = 30.0
SHIFT_NS = 3_600_000_000_000
"""OTLP over HTTP sends the records of OTLP over gRPC an hour later: they are other events."""
SINGLE_REQUESTS = 8_000


@dataclass(frozen=True, slots=True)
class Load:
    """A way to send the corpus."""

    name: str
    protocol: str
    connections: int
    """Of all clients together."""
    events_per_request: tuple[int, int]


LOADS = {
    load.name: load
    for load in (
        Load("hec", "HEC", 4, (REQUEST_EVENTS, REQUEST_EVENTS)),
        Load("otlp-grpc", "OTLP/gRPC", 4, (REQUEST_EVENTS, REQUEST_EVENTS)),
        Load("otlp-http", "OTLP/HTTP", 4, (REQUEST_EVENTS, REQUEST_EVENTS)),
        Load("small", "HEC", 32, (1, 50)),
        Load("single", "HEC", 64, (1, 1)),
    )
}


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What a load has cost. Rates are per second of the wall clock, and per second of the processor time of all processes of ELIS."""

    name: str
    protocol: str
    events: int
    duplicates: int
    requests: int
    events_per_request: tuple[int, int]
    connections: int
    request_bytes: int
    seconds_acknowledged: float
    seconds_searchable: float
    seconds_rolled_up: float
    cpu_seconds_acknowledged: float
    cpu_seconds_searchable: float
    cpu_seconds_settled: float
    cpu_seconds_by_process: dict[str, float]
    """Until nothing is left to do: indexes merged, statistics and detection done."""
    client_cpu_seconds: float
    retries: int
    latency: Spread
    memory_bytes: dict[str, int]

    def rates(self) -> dict[str, float]:
        """Returns the rates that follow."""
        return {
            "acknowledged_per_second": self.events / self.seconds_acknowledged,
            "requests_per_second": self.requests / self.seconds_acknowledged,
            "searchable_per_second": self.events / self.seconds_searchable,
            "acknowledged_per_cpu_second": self.events / max(self.cpu_seconds_acknowledged, 0.01),
            "searchable_per_cpu_second": self.events / max(self.cpu_seconds_searchable, 0.01),
            "settled_per_cpu_second": self.events / max(self.cpu_seconds_settled, 0.01),
        }


def measure_load(session: Session, load: Load, seed: int) -> LoadResult:
    """Sends the corpus and waits until ELIS is idle again."""
    jobs, total, size = _make_jobs(session, load, seed)
    before = session.processes.cpu_seconds()
    with show_progress(f"{load.name}: sending", total) as bar:
        outcome: Outcome = run_clients(jobs, session.folder, lambda events: bar.update(TaskID(0), completed=events))
        acknowledged = session.processes.cpu_seconds()
        bar.update(TaskID(0), description=f"{load.name}: indexing")
        session.await_searchable(outcome.ended_at_ns)
        searchable_at, searchable = monotonic(), session.processes.cpu_seconds()
        bar.update(TaskID(0), description=f"{load.name}: counting")
        session.await_rolled_up(outcome.ended_at_ns)
        rolled_up_at = monotonic()
        bar.update(TaskID(0), description=f"{load.name}: settling")
        session.processes.settle(SETTLE_SECONDS)
    settled = subtract(session.processes.cpu_seconds(), before)
    session.stored += outcome.events
    session.check_count()
    return LoadResult(
        name=load.name,
        protocol=load.protocol,
        events=outcome.events,
        duplicates=outcome.duplicates,
        requests=outcome.requests,
        events_per_request=load.events_per_request,
        connections=load.connections,
        request_bytes=size,
        seconds_acknowledged=outcome.ended - outcome.started,
        seconds_searchable=searchable_at - outcome.started,
        seconds_rolled_up=rolled_up_at - outcome.started,
        cpu_seconds_acknowledged=sum(subtract(acknowledged, before).values()),
        cpu_seconds_searchable=sum(subtract(searchable, before).values()),
        cpu_seconds_settled=sum(settled.values()),
        cpu_seconds_by_process=settled,
        client_cpu_seconds=outcome.cpu_seconds,
        retries=outcome.retries,
        latency=spread_of(outcome.latencies),
        memory_bytes=session.processes.memory_bytes(),
    )


def _make_jobs(session: Session, load: Load, seed: int) -> tuple[list[Job], int, int]:
    """Writes the bodies of each client; returns the jobs, the number of events and the bytes of all bodies."""
    bodies = list(_encode(session, load, seed))
    target = _target(session.stack.credentials, load.protocol)
    jobs = []
    for number in range(CLIENTS):
        path = session.folder / f"{load.name}-{number}.bodies"
        write_bodies(path, bodies[number::CLIENTS])
        connections = load.connections // CLIENTS
        jobs.append(Job(**target, bodies=str(path), outcome=str(path.with_suffix(".json")), connections=connections, seconds=LOAD_SECONDS))
    return jobs, sum(events for events, _ in bodies), sum(len(body) for _, body in bodies)


def _encode(session: Session, load: Load, seed: int) -> Iterable[Body]:
    low, high = load.events_per_request
    rng = Random(seed)
    sizes: Iterator[int] = repeat(low) if low == high else (rng.randint(low, high) for _ in count())
    if load.protocol != "HEC":
        return otlp_bodies(session.corpus.otlp, sizes, SHIFT_NS if load.protocol == "OTLP/HTTP" else 0)
    bodies = hec_bodies(session.corpus.hec, sizes)
    return (body for _, body in zip(range(SINGLE_REQUESTS), bodies, strict=False)) if high == 1 else bodies


def _target(credentials: dict[str, str], protocol: str) -> dict[str, Any]:
    token = credentials["ingest_token"]
    if protocol == "OTLP/gRPC":
        host, _, port = credentials["otlp_grpc_address"].partition(":")
        path = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
        return {"protocol": "grpc", "host": host, "port": int(port), "path": path, "headers": {"authorization": f"Bearer {token}"}}
    is_hec = protocol == "HEC"
    url = urlsplit(credentials["hec_url" if is_hec else "otlp_http_url"])
    kind = "application/json" if is_hec else "application/x-protobuf"
    headers = {"Authorization": f"{'Splunk' if is_hec else 'Bearer'} {token}", "Content-Type": kind}
    path = "/services/collector/event" if is_hec else "/v1/logs"
    return {"protocol": "http", "host": url.hostname, "port": url.port, "path": path, "headers": headers}
