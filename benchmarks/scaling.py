"""How taking in scales: with more ingest processes on one database, and with more events stored."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
from rich.progress import TaskID

from benchmarks.bodies import Body, hec_bodies, write_bodies
from benchmarks.client import Job
from benchmarks.fleet import BenchmarkFailed, run_clients
from benchmarks.loads import LOAD_SECONDS
from benchmarks.processes import subtract
from benchmarks.session import Session, find_offset, show_progress
from kit.targets import TARGETS

PROCESSES = (1, 2, 3)
CONNECTIONS = 4
FIRST_SIZES = {1_000: 970, 10_000: 9_700}
"""Events of a request by about how many there are to be; each step cuts the same events into requests of another size, so that none is sent twice."""
READY_SECONDS = 60.0
GROWTH_SIZE = 1_009


@dataclass(frozen=True, slots=True)
class ProcessesResult:
    """What so many ingest processes took."""

    processes: int
    events_per_request: int
    """About."""
    events: int
    seconds: float
    ingest_cpu_seconds: float
    postgresql_cpu_seconds: float


@dataclass(frozen=True, slots=True)
class GrowthResult:
    """What events cost when so many are stored already."""

    stored: int
    events: int
    seconds_searchable: float
    cpu_seconds_by_process: dict[str, float]
    memory_bytes: dict[str, int]


def measure_processes(session: Session) -> list[ProcessesResult]:
    """Sends the corpus to one, two and three ingest processes, in smaller and larger requests; waits in between until ELIS is idle."""
    results = []
    for size, first in FIRST_SIZES.items():
        for step, count in enumerate(PROCESSES):
            with _run_extra(session, count - 1) as (extra, urls):
                before, used = session.processes.cpu_seconds(), _cpu_seconds(extra)
                bodies = list(hec_bodies(session.corpus.hec, repeat(first - step)))
                outcome = _send(session, bodies, [session.stack.credentials["hec_url"], *urls], f"processes-{count}-{size}")
                after = subtract(session.processes.cpu_seconds(), before)
                used = _cpu_seconds(extra) - used
                session.await_searchable(outcome.ended_at_ns)
            session.processes.settle(30.0)
            session.stored += outcome.events
            results.append(ProcessesResult(count, size, outcome.events, outcome.ended - outcome.started, after["ingest"] + used, after["postgresql"]))
    session.check_count()
    return results


def measure_growth(session: Session, total: int) -> list[GrowthResult]:
    """Sends the corpus again and again, cut in other ways, until so many events are stored."""
    results: list[GrowthResult] = []
    step = 0
    while session.stored < total:
        stored, before = session.stored, session.processes.cpu_seconds()
        outcome = _send(session, list(hec_bodies(session.corpus.hec, repeat(GROWTH_SIZE + step))), [session.stack.credentials["hec_url"]], f"growth-{step}")
        session.await_searchable(outcome.ended_at_ns)
        searchable = monotonic()
        session.processes.settle(30.0)
        session.stored += outcome.events
        used = subtract(session.processes.cpu_seconds(), before)
        results.append(GrowthResult(stored, outcome.events, searchable - outcome.started, used, session.processes.memory_bytes()))
        step += 1
    session.check_count()
    return results


def _send(session: Session, bodies: Sequence[Body], urls: Sequence[str], name: str) -> Any:
    jobs = []
    headers = {"Authorization": f"Splunk {session.stack.credentials['ingest_token']}", "Content-Type": "application/json"}
    clients = max(2, len(urls))
    for number in range(clients):
        url = urlsplit(urls[number % len(urls)])
        path = session.folder / f"{name}-{number}.bodies"
        write_bodies(path, bodies[number::clients])
        host, port = url.hostname or "", url.port or 0
        jobs.append(Job("http", host, port, "/services/collector/event", headers, str(path), str(path.with_suffix(".json")), CONNECTIONS // 2, LOAD_SECONDS))
    with show_progress(name, sum(events for events, _ in bodies)) as bar:
        outcome = run_clients(jobs, session.folder, lambda events: bar.update(TaskID(0), completed=events))
    for job in jobs:
        os.unlink(job.bodies)
    return outcome


@contextmanager
def _run_extra(session: Session, count: int) -> Iterator[tuple[list[psutil.Process], list[str]]]:
    """Runs further ingest processes of the stack, at ports of their own; yields them and their addresses."""
    offset = int(session.stack.environment["ELIS_PORT_OFFSET"])
    auth = f"127.0.0.1:{TARGETS['auth'].ports['grpc'] + offset}"
    processes: list[subprocess.Popen[bytes]] = []
    urls: list[str] = []
    try:
        for number in range(1, count + 1):
            own = find_offset()
            environment = {**os.environ, **session.stack.environment, "ELIS_PORT_OFFSET": str(own), "ELIS_ADDRESSES__AUTH": auth}
            with (session.folder / f"ingest-{number}.log").open("wb") as log:
                processes.append(subprocess.Popen([sys.executable, "-m", TARGETS["ingest"].module], env=environment, stdout=log, stderr=log))
            urls.append(f"http://127.0.0.1:{TARGETS['ingest'].ports['hec'] + own}")
            _await_ready(urls[-1])
        yield [psutil.Process(process.pid) for process in processes], urls
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30.0)


def _await_ready(url: str) -> None:
    deadline = monotonic() + READY_SECONDS
    while monotonic() < deadline:
        try:
            if httpx.get(f"{url}/services/collector/health", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            sleep(0.2)
    raise BenchmarkFailed(f"another ingest process did not start at {url}")


def _cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))
