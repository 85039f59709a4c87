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

from benchmarks.bodies import Body, bulk_bodies, hec_bodies, otlp_bodies, write_bodies
from benchmarks.client import Job, Outcome
from benchmarks.corpus import Corpus
from benchmarks.fleet import run_clients
from benchmarks.processes import subtract
from benchmarks.session import Session, show_progress
from benchmarks.spread import Spread, spread_of
from benchmarks.stages import read_stages

REQUEST_EVENTS = 1_000
LARGE_EVENTS = 10_000
HALF_SECONDS = 20.0
BULK_PATH = "/benchmark/_bulk?filter_path=errors"
CLIENTS = 2
LOAD_SECONDS = 600.0
SETTLE_SECONDS = 30.0
SHIFT_NS = 3_600_000_000_000
"""Each load of OTLP sends the same records some hours later: they are other events."""
SINGLE_REQUESTS = 8_000


@dataclass(frozen=True, slots=True)
class Load:
    """A way to send the corpus."""

    name: str
    protocol: str
    connections: int
    """Of all clients together."""
    events_per_request: tuple[int, int]
    half_of: str = ""
    """The load whose rate of requests is halved and kept up, to see how long an acknowledgement then takes."""


LOADS = {
    load.name: load
    for load in (
        Load("hec", "HEC", 4, (REQUEST_EVENTS, REQUEST_EVENTS)),
        Load("hec-10k", "HEC", 4, (LARGE_EVENTS, LARGE_EVENTS)),
        Load("otlp-grpc", "OTLP/gRPC", 4, (REQUEST_EVENTS, REQUEST_EVENTS)),
        Load("otlp-grpc-10k", "OTLP/gRPC", 4, (LARGE_EVENTS, LARGE_EVENTS)),
        Load("otlp-http", "OTLP/HTTP", 4, (REQUEST_EVENTS, REQUEST_EVENTS)),
        Load("bulk", "_bulk", 4, (REQUEST_EVENTS, REQUEST_EVENTS)),
        Load("bulk-10k", "_bulk", 4, (LARGE_EVENTS, LARGE_EVENTS)),
        Load("half", "HEC", 4, (REQUEST_EVENTS, REQUEST_EVENTS), half_of="hec"),
        Load("small", "HEC", 64, (1, 50)),
        Load("small-half", "HEC", 64, (1, 50), half_of="small"),
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
    stage_seconds: dict[str, float]
    """Processor time of the stages of ingest; that of commit is time of waiting for PostgreSQL."""

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


def measure_load(session: Session, load: Load, seed: int, rate: float = 0.0) -> LoadResult:
    """Sends the corpus, at `rate` requests per second if it is not 0, and waits until ELIS is idle again."""
    jobs, total, size = _make_jobs(session, load, seed, rate)
    before, stages = session.processes.cpu_seconds(), read_stages(session.stack.credentials["hec_url"])
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
        stage_seconds=subtract(read_stages(session.stack.credentials["hec_url"]), stages),
    )


def _make_jobs(session: Session, load: Load, seed: int, rate: float) -> tuple[list[Job], int, int]:
    """Writes the bodies of each client; returns the jobs, the number of events and the bytes of all bodies."""
    bodies = list(encode_bodies(session.corpus, load, seed))
    if rate:
        bodies = bodies[: max(round(rate * HALF_SECONDS), CLIENTS)]
    target = _target(session.stack.credentials, load.protocol)
    jobs = []
    for number in range(CLIENTS):
        path = session.folder / f"{load.name}-{number}.bodies"
        write_bodies(path, bodies[number::CLIENTS])
        connections = load.connections // CLIENTS
        jobs.append(Job(**target, bodies=str(path), outcome=str(path.with_suffix(".json")), connections=connections, seconds=LOAD_SECONDS, rate=rate / CLIENTS))
    return jobs, sum(events for events, _ in bodies), sum(len(body) for _, body in bodies)


def encode_bodies(corpus: Corpus, load: Load, seed: int) -> Iterable[Body]:
    """Yields the requests of a load. No two loads send the same request: each cuts the events in another way or moves their times."""
    low, high = load.events_per_request
    low, high = (low - 1, high - 1) if load.half_of and low == high else (low, high)
    rng = Random(seed + bool(load.half_of))
    sizes: Iterator[int] = repeat(low) if low == high else (rng.randint(low, high) for _ in count())
    if load.protocol == "_bulk":
        return bulk_bodies(corpus.hec, sizes)
    if load.protocol != "HEC":
        return otlp_bodies(corpus.otlp, sizes, SHIFT_NS * list(LOADS).index(load.name))
    bodies = hec_bodies(corpus.hec, sizes)
    return (body for _, body in zip(range(SINGLE_REQUESTS), bodies, strict=False)) if high == 1 else bodies


_HTTP = {
    "HEC": ("application/json", "/services/collector/event", "hec_url"),
    "_bulk": ("application/x-ndjson", BULK_PATH, "hec_url"),
    "OTLP/HTTP": ("application/x-protobuf", "/v1/logs", "otlp_http_url"),
}
"""Content type, path, and the name of the address among the credentials."""


def _target(credentials: dict[str, str], protocol: str) -> dict[str, Any]:
    token = credentials["ingest_token"]
    if protocol == "OTLP/gRPC":
        host, _, port = credentials["otlp_grpc_address"].partition(":")
        path = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
        return {"protocol": "grpc", "host": host, "port": int(port), "path": path, "headers": {"authorization": f"Bearer {token}"}}
    kind, path, address = _HTTP[protocol]
    url = urlsplit(credentials[address])
    headers = {"Authorization": f"{'Splunk' if protocol == 'HEC' else 'Bearer'} {token}", "Content-Type": kind}
    return {"protocol": "http", "host": url.hostname, "port": url.port, "path": path, "headers": headers}
