"""A real Elasticsearch on the same machine with the same lines: what it takes through `_bulk`, and what it stores."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

import httpx
import psutil
from rich.progress import TaskID

from benchmarks.bodies import bulk_bodies, write_bodies
from benchmarks.client import Job
from benchmarks.corpus import Corpus
from benchmarks.fleet import ROOT, BenchmarkFailed, run_clients
from benchmarks.loads import CLIENTS, LARGE_EVENTS, LOAD_SECONDS, REQUEST_EVENTS
from benchmarks.session import show_progress

COMMAND = ROOT.parent / "shared" / "elasticsearch" / "start"
START_SECONDS = 180.0
STOP_SECONDS = 30.0
CONNECTIONS = 4
PORT = 19_260


@dataclass(frozen=True, slots=True)
class ElasticResult:
    """What Elasticsearch took, with the processor to itself; one index with the mapping that it makes by itself."""

    version: str
    events: int
    events_per_request: int
    seconds_acknowledged: float
    seconds_searchable: float
    """Until a refresh after the last reply has ended."""
    cpu_seconds: float
    stored_bytes: float
    """Of the index per event, after the refresh."""


def measure_elasticsearch(corpus: Corpus, command: Path = COMMAND) -> list[ElasticResult]:
    """Starts a node, warms it up with the corpus once, and sends it in requests of both sizes. Raises BenchmarkFailed."""
    if not command.exists():
        raise BenchmarkFailed(f"there is no {command} to start Elasticsearch with; leave the measure elasticsearch out")
    with (
        TemporaryDirectory(prefix="elis-elasticsearch-", ignore_cleanup_errors=True) as root,
        _run_node(command, Path(root) / "data") as node,
        httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=60.0) as client,
    ):
        _await_node(client, node)
        _send(corpus, REQUEST_EVENTS, Path(root), client, node, "warm-up")
        return [_send(corpus, size, Path(root), client, node, f"lines-{size}") for size in (REQUEST_EVENTS, LARGE_EVENTS)]


def _send(corpus: Corpus, size: int, folder: Path, client: httpx.Client, node: psutil.Process, index: str) -> ElasticResult:
    bodies = list(bulk_bodies(corpus.hec, repeat(size)))
    jobs = []
    for number in range(CLIENTS):
        path = folder / f"{index}-{number}.bodies"
        write_bodies(path, bodies[number::CLIENTS])
        jobs.append(
            Job(
                "http",
                "127.0.0.1",
                PORT,
                f"/{index}/_bulk?filter_path=errors",
                {"Content-Type": "application/x-ndjson"},
                str(path),
                str(path.with_suffix(".json")),
                CONNECTIONS // CLIENTS,
                LOAD_SECONDS,
            )
        )
    total = sum(events for events, _ in bodies)
    before = _cpu_seconds(node)
    with show_progress(f"Elasticsearch: {index}", total) as bar:
        outcome = run_clients(jobs, folder, lambda events: bar.update(TaskID(0), completed=events))
    client.post(f"/{index}/_refresh").raise_for_status()
    searchable = monotonic()
    used = _cpu_seconds(node) - before
    statistics = client.get(f"/{index}/_stats/store,docs").json()
    stored = statistics["_all"]["primaries"]
    if stored["docs"]["count"] != total:
        raise BenchmarkFailed(f"Elasticsearch was sent {total} lines but holds {stored['docs']['count']}")
    version = next(iter(client.get("/_nodes/_local").json()["nodes"].values()))["version"]
    return ElasticResult(version, total, size, outcome.ended - outcome.started, searchable - outcome.started, used, stored["store"]["size_in_bytes"] / total)


@contextmanager
def _run_node(command: Path, data: Path) -> Iterator[psutil.Process]:
    process = subprocess.Popen(
        [str(command), "--port", str(PORT), "--data", str(data)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        for child in (*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)):
            child.terminate()
        process.wait(STOP_SECONDS)


def _await_node(client: httpx.Client, node: psutil.Process) -> None:
    deadline = monotonic() + START_SECONDS
    while monotonic() < deadline and node.is_running() and node.status() != psutil.STATUS_ZOMBIE:
        try:
            if client.get("/_cluster/health").json()["status"] in ("green", "yellow"):
                return
        except (httpx.HTTPError, ValueError, KeyError):
            sleep(0.5)
    raise BenchmarkFailed("Elasticsearch did not start; run ../shared/elasticsearch/start by hand to see why")


def _cpu_seconds(node: psutil.Process) -> float:
    return sum(times.user + times.system for times in (process.cpu_times() for process in (node, *node.children(recursive=True))))
