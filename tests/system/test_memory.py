"""Memory of a running ingest: bounded by what may be in work at once, and given back afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import httpx
import psutil

from tests.fixtures.stack import Up

MEBIBYTE = 1024 * 1024
BOUND = 300 * MEBIBYTE
"""Resident memory of ingest under full load."""
SENDERS = 4
BODIES = 3
RECORDS = 12_000
"""Of a body. They are tiny: each takes a hundred times more in work than in the body."""


def ingest_of(up: Up) -> psutil.Process:
    """Returns the ingest process of a stack."""
    return next(child for child in psutil.Process(up.process.pid).children(recursive=True) if child.cmdline()[-1:] == ["services.ingest"])


def send_bodies(up: Up, sender: int, statuses: list[int]) -> None:
    """Sends bodies of tiny records, each again while ingest is busy."""
    headers = {"Authorization": f"Splunk {up.credentials['ingest_token']}"}
    with httpx.Client(base_url=up.credentials["hec_url"], headers=headers, timeout=60.0, trust_env=False) as client:
        for number in range(BODIES):
            first = (sender * BODIES + number) * RECORDS
            body = "".join(f'{{"event":"{record}"}}' for record in range(first, first + RECORDS))
            while (status := client.post("/services/collector/event", params={"source": "tiny"}, content=body).status_code) == 503:
                time.sleep(0.1)
            statuses.append(status)


def watch_peak(measure: Callable[[], int], work: Callable[[], None]) -> int:
    """Returns the largest measurement while some work is done."""
    worker = threading.Thread(target=work)
    worker.start()
    peak = measure()
    while worker.is_alive():
        time.sleep(0.01)
        peak = max(peak, measure())
    return peak


def test_many_tiny_records_do_not_fill_the_memory(stack: Up) -> None:
    ingest = ingest_of(stack)
    statuses: list[int] = []

    def send() -> None:
        senders = [threading.Thread(target=send_bodies, args=(stack, number, statuses)) for number in range(SENDERS)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()

    peak = watch_peak(lambda: int(ingest.memory_info().rss), send)
    assert statuses == [200] * SENDERS * BODIES
    assert peak < BOUND, f"ingest took {peak / MEBIBYTE:.0f} MiB"
