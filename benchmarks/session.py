"""One run of the benchmark: the running stack, the corpus, and what both are asked for."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from benchmarks.corpus import Corpus
from benchmarks.fleet import BenchmarkFailed
from benchmarks.processes import Processes
from benchmarks.questions import COUNT, FRESHNESS, ROLLED_UP, Gateway, parse_moment
from kit.targets import TARGETS
from kit.up import HOST, Stack, run_stack

console = Console(stderr=True, highlight=False)
FIRST_OFFSET = 2_000
OFFSETS = 20
CATCH_UP_SECONDS = 300.0
POLL_SECONDS = 0.1
ENVIRONMENT = {"ELIS_RATE_LIMITS__REQUEST": "100000000/minute"}
"""Settings that differ from the defaults: one caller asks more often than one person would."""


@dataclass(slots=True)
class Session:
    """What the measures share."""

    stack: Stack
    gateway: Gateway
    processes: Processes
    corpus: Corpus
    folder: Path
    """For request bodies, on the disk that the data is on."""
    stored: int = 0
    """Events that ELIS has acknowledged so far."""
    notes: list[str] = field(default_factory=list)

    def await_searchable(self, moment_ns: int) -> None:
        """Returns when everything acknowledged up to a moment can be found."""
        self._await(FRESHNESS, "events", moment_ns, "searchable")

    def await_rolled_up(self, moment_ns: int) -> None:
        """Returns when everything acknowledged up to a moment is in the statistics."""
        self._await(ROLLED_UP, "statistics", moment_ns, "in the statistics")

    def check_count(self) -> None:
        """Raises BenchmarkFailed unless search finds exactly as many events as were acknowledged."""
        found = int(self.gateway.ask(COUNT)["events"]["totalCount"])
        if found != self.stored:
            raise BenchmarkFailed(f"{self.stored} events were acknowledged, but {found} are found")

    def _await(self, query: str, field_name: str, moment_ns: int, what: str) -> None:
        deadline = monotonic() + CATCH_UP_SECONDS
        while parse_moment(self.gateway.ask(query)[field_name]["asOf"]) < moment_ns:
            if monotonic() > deadline:
                raise BenchmarkFailed(f"acknowledged events were not {what} after {CATCH_UP_SECONDS:.0f} s")
            sleep(POLL_SECONDS)


@contextmanager
def open_session(corpus: Corpus) -> Iterator[Session]:
    """Runs a stack in a temporary folder, on free ports; both are gone at the end."""
    os.environ.update(ENVIRONMENT)
    with TemporaryDirectory(prefix="elis-benchmark-", ignore_cleanup_errors=True) as root:
        folder = Path(root) / "requests"
        folder.mkdir()
        with run_stack(Path(root) / "data", find_offset(), report=lambda step: console.print(f"[dim]{step} …[/dim]")) as stack:
            gateway = Gateway(stack.credentials)
            try:
                processes = Processes(stack)
                processes.settle(10.0)
                yield Session(stack, gateway, processes, corpus, folder)
            finally:
                gateway.close()


def find_offset() -> int:
    """Returns a port offset at which every port of the stack is free; raises BenchmarkFailed when there is none."""
    for offset in range(FIRST_OFFSET, FIRST_OFFSET + OFFSETS * 100, 100):
        if all(_is_free(port + offset) for target in TARGETS.values() for port in target.ports.values()):
            return offset
    raise BenchmarkFailed("no free ports for a stack; stop other stacks and try again")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


@contextmanager
def show_progress(text: str, total: float) -> Iterator[Progress]:
    """Shows a bar on stderr; its only task has the number 0."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        bar.add_task(text, total=total)
        yield bar
