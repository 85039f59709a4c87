"""Load on the event collector: senders that behave as agents do, and remember what was acknowledged."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

EVENTS = 20
"""Events in one request."""
DAYS = 6
"""Days that the events of a request spread over: each makes a block, and search has an index of each."""
PAUSE_SECONDS = 0.01
PATIENCE_SECONDS = 60.0


class Senders:
    """Threads that send numbered events and resend each request, unchanged, until it is acknowledged."""

    def __init__(self, credentials: Mapping[str, Any], source: str, threads: int) -> None:
        self._url = f"{credentials['hec_url']}/services/collector/event"
        self._headers = {"Authorization": f"Splunk {credentials['ingest_token']}"}
        self._source = source
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]
        self.acknowledged: list[str] = []
        """Bodies of the events whose request got its success reply."""
        self.resent = 0
        self.failures: list[str] = []

    def start(self) -> None:
        """Starts sending."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Begins no new request and waits until every begun one is acknowledged."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, sender: int) -> None:
        number = 0
        with httpx.Client(timeout=10.0, trust_env=False) as client:
            while not self._stopping.is_set():
                bodies = [f"sender {sender} counts to {number + offset}" for offset in range(EVENTS)]
                self._deliver(client, bodies)
                number += EVENTS
                time.sleep(PAUSE_SECONDS)

    def _deliver(self, client: httpx.Client, bodies: list[str]) -> None:
        now = time.time_ns()
        events = []
        for number, body in enumerate(bodies):
            at = now + number - number % DAYS * 86_400 * 10**9
            events.append({"time": f"{at // 10**9}.{at % 10**9:09d}", "source": self._source, "event": body})
        content = "\n".join(json.dumps(event) for event in events)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                response = client.post(self._url, content=content, headers=self._headers)
            except httpx.TransportError:
                status = 0
            else:
                status = response.status_code
            if status == 200:
                self.acknowledged += bodies
                return
            if status not in (0, 503):
                self.failures.append(f"{status}: {response.text}")
                return
            self.resent += 1
            time.sleep(0.05)
        self.failures.append("not acknowledged in time")


@contextmanager
def send_load(credentials: Mapping[str, Any], source: str, threads: int = 4) -> Iterator[Senders]:
    """Sends while the block runs; afterwards everything is acknowledged."""
    senders = Senders(credentials, source, threads)
    senders.start()
    try:
        yield senders
    finally:
        senders.stop()
