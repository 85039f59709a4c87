"""What another log store took of the same lines, with the processor to itself: measured alike for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import httpx
import psutil
from rich.progress import TaskID

from benchmarks.bodies import Body, write_bodies
from benchmarks.client import Job
from benchmarks.fleet import run_clients
from benchmarks.loads import CLIENTS, LOAD_SECONDS
from benchmarks.session import show_progress

HOST = "127.0.0.1"
CONNECTIONS = 4
FLUSH_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class StoreResult:
    """What a store took in requests of one size."""

    version: str
    events: int
    events_per_request: int
    seconds_acknowledged: float
    seconds_searchable: float
    """Until what was acknowledged can be found."""
    cpu_seconds: float
    stored_bytes: float
    """On the disk, per event."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a store on this machine takes lines."""

    port: int
    path: str
    content_type: str
    flush: str
    """Path of what makes everything searchable that was acknowledged, and replies then."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What it took a store to take the corpus once."""

    events: int
    seconds_acknowledged: float
    seconds_searchable: float
    cpu_seconds: float


def send_bodies(bodies: Sequence[Body], target: Target, folder: Path, node: psutil.Process, title: str) -> Delivery:
    """Sends bodies from client processes of their own. Raises BenchmarkFailed."""
    jobs, headers = [], {"Content-Type": target.content_type}
    for number in range(CLIENTS):
        file = folder / f"client-{number}.bodies"
        write_bodies(file, bodies[number::CLIENTS])
        jobs.append(Job("http", HOST, target.port, target.path, headers, str(file), str(file.with_suffix(".json")), CONNECTIONS // CLIENTS, LOAD_SECONDS))
    total = sum(events for events, _ in bodies)
    before = cpu_seconds(node)
    with show_progress(title, total) as bar:
        outcome = run_clients(jobs, folder, lambda events: bar.update(TaskID(0), completed=events))
    httpx.post(f"http://{HOST}:{target.port}{target.flush}", timeout=FLUSH_SECONDS, trust_env=False).raise_for_status()
    searchable = monotonic()
    return Delivery(total, outcome.ended - outcome.started, searchable - outcome.started, cpu_seconds(node) - before)


def cpu_seconds(node: psutil.Process) -> float:
    """Returns the processor time that a process and its children have used so far."""
    return sum(times.user + times.system for times in (process.cpu_times() for process in (node, *node.children(recursive=True))))
