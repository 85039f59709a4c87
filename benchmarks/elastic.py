"""A real Elasticsearch on the same machine with the same lines: what it takes through `_bulk`, and what it stores."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

import httpx
import psutil

from benchmarks.bodies import bulk_bodies
from benchmarks.corpus import Corpus
from benchmarks.fleet import ROOT, BenchmarkFailed
from benchmarks.loads import LARGE_EVENTS, REQUEST_EVENTS
from benchmarks.stores import HOST, StoreResult, Target, send_bodies

COMMAND = ROOT.parent / "shared" / "elasticsearch" / "start"
START_SECONDS = 180.0
STOP_SECONDS = 30.0
PORT = 19_260


def measure_elasticsearch(corpus: Corpus, command: Path = COMMAND) -> list[StoreResult]:
    """Starts a node, warms it up with the corpus once, and sends it in requests of both sizes. Raises BenchmarkFailed."""
    if not command.exists():
        raise BenchmarkFailed(f"there is no {command} to start Elasticsearch with; leave the measure elasticsearch out")
    with (
        TemporaryDirectory(prefix="elis-elasticsearch-", ignore_cleanup_errors=True) as root,
        _run_node(command, Path(root) / "data") as node,
        httpx.Client(base_url=f"http://{HOST}:{PORT}", timeout=60.0) as client,
    ):
        _await_node(client, node)
        _send(corpus, REQUEST_EVENTS, Path(root), client, node, "warm-up")
        return [_send(corpus, size, Path(root), client, node, f"lines-{size}") for size in (REQUEST_EVENTS, LARGE_EVENTS)]


def _send(corpus: Corpus, size: int, folder: Path, client: httpx.Client, node: psutil.Process, index: str) -> StoreResult:
    bodies = list(bulk_bodies(corpus.hec, repeat(size)))
    target = Target(PORT, f"/{index}/_bulk?filter_path=errors", "application/x-ndjson", f"/{index}/_refresh")
    delivery = send_bodies(bodies, target, folder, node, f"Elasticsearch: {index}")
    statistics = client.get(f"/{index}/_stats/store,docs").json()
    stored = statistics["_all"]["primaries"]
    if stored["docs"]["count"] != delivery.events:
        raise BenchmarkFailed(f"Elasticsearch was sent {delivery.events} lines but holds {stored['docs']['count']}")
    version = next(iter(client.get("/_nodes/_local").json()["nodes"].values()))["version"]
    size_in_bytes = stored["store"]["size_in_bytes"]
    return StoreResult(
        version, delivery.events, size, delivery.seconds_acknowledged, delivery.seconds_searchable, delivery.cpu_seconds, size_in_bytes / delivery.events
    )


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
