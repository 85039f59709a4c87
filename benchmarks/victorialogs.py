"""A real VictoriaLogs on the same machine with the same lines: what it takes through its own JSON lines, and what it stores.

It acknowledges lines that it holds in memory and writes them to the disk later; a reply of ELIS or Elasticsearch follows the write.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

import httpx
import psutil

from benchmarks.bodies import document_bodies
from benchmarks.corpus import Corpus
from benchmarks.fleet import BenchmarkFailed
from benchmarks.loads import LARGE_EVENTS, REQUEST_EVENTS
from benchmarks.stores import HOST, StoreResult, Target, send_bodies

VARIABLE = "VICTORIA_LOGS"
"""The environment variable that names the program; without it, `victoria-logs` is looked for on PATH."""
START_SECONDS = 30.0
STOP_SECONDS = 30.0
PORT = 19_270
_PATH = "/insert/jsonline?_time_field=@timestamp&_msg_field=message&_stream_fields=host.name,log.file.path"
"""A stream per host and file, as its documentation recommends it."""
_TARGET = Target(PORT, _PATH, "application/stream+json", "/internal/force_flush")
_VERSION = re.compile(r'vm_app_version\{version="([^"]*)", short_version="([^"]*)"\}')


def find_command() -> str | None:
    """Returns the path of the program, or None where there is none."""
    return shutil.which(os.environ.get(VARIABLE) or "victoria-logs")


def measure_victorialogs(corpus: Corpus) -> list[StoreResult]:
    """Sends the corpus in requests of both sizes, each to a new node with an empty folder. Raises BenchmarkFailed."""
    command = find_command()
    if command is None:
        raise BenchmarkFailed(f"there is no victoria-logs on PATH or in {VARIABLE}; leave the measure victorialogs out")
    return [_measure(command, corpus, size) for size in (REQUEST_EVENTS, LARGE_EVENTS)]


def _measure(command: str, corpus: Corpus, size: int) -> StoreResult:
    bodies = list(document_bodies(corpus.hec, repeat(size)))
    with TemporaryDirectory(prefix="elis-victorialogs-") as root:
        data = Path(root) / "data"
        with _run_node(command, data) as node, httpx.Client(base_url=f"http://{HOST}:{PORT}", timeout=60.0) as client:
            version = _await_version(client, node)
            delivery = send_bodies(bodies, _TARGET, Path(root), node, f"VictoriaLogs: {size:,} a request")
            found = int(client.post("/select/logsql/query", data={"query": "* | stats count() as lines"}).json()["lines"])
        if found != delivery.events:
            raise BenchmarkFailed(f"VictoriaLogs was sent {delivery.events} lines but holds {found}")
        # Everything is on the disk when the node has ended.
        stored = sum(path.stat().st_size for path in data.rglob("*") if path.is_file())
    return StoreResult(
        version, delivery.events, size, delivery.seconds_acknowledged, delivery.seconds_searchable, delivery.cpu_seconds, stored / delivery.events
    )


@contextmanager
def _run_node(command: str, data: Path) -> Iterator[psutil.Process]:
    process = subprocess.Popen(
        # The corpus lies on one day, which need not be today.
        [command, f"-storageDataPath={data}", f"-httpListenAddr={HOST}:{PORT}", "-retentionPeriod=100y", "-futureRetention=100y"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def _await_version(client: httpx.Client, node: psutil.Process) -> str:
    """Returns what the node calls itself as soon as it answers; builds without a release's flags do not know."""
    deadline = monotonic() + START_SECONDS
    while monotonic() < deadline and node.is_running() and node.status() != psutil.STATUS_ZOMBIE:
        try:
            match = _VERSION.search(client.get("/metrics").raise_for_status().text)
        except httpx.HTTPError:
            sleep(0.1)
            continue
        return (match[2] or match[1] if match else "") or "of unknown version"
    raise BenchmarkFailed("VictoriaLogs did not start; run victoria-logs by hand to see why")
