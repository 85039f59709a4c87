"""The canary's book: what was sent, acknowledged and found, and what is wrong with that."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

KEPT = 10_000
"""Latencies that the summary is made of."""
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0)


class Metrics:
    """Metrics of all canaries of a process, by protocol."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str) -> Counter:
            return Counter(f"elis_canary_{name}", text, ["protocol"], registry=registry)

        self.sent = counter("sent", "Events sent.")
        self.acknowledged = counter("acknowledged", "Events that ELIS said are safe.")
        self.failed = counter("failed", "Attempts to send that failed.")
        self.found = counter("found", "Events that GraphQL returned.")
        self.missing = counter("missing", "Events that were not found in time.")
        self.duplicated = counter("duplicated", "Events that were found more than once.")
        self.reordered = counter("reordered", "Events that came after one that was sent later.")
        self.acknowledge_seconds = Histogram("elis_canary_acknowledge_seconds", "From sending to the reply.", ["protocol"], buckets=BUCKETS, registry=registry)
        self.found_seconds = Histogram("elis_canary_found_seconds", "From the reply to being found.", ["protocol"], buckets=BUCKETS, registry=registry)
        self.waiting = Gauge("elis_canary_waiting", "Events that were acknowledged and not found yet.", ["protocol"], registry=registry)


@dataclass(slots=True)
class Ledger:
    """The book of one protocol. Times are of the monotonic clock, in seconds."""

    protocol: str
    metrics: Metrics
    sent: int = 0
    acknowledged: int = 0
    failed: int = 0
    found: int = 0
    missing: int = 0
    duplicated: int = 0
    reordered: int = 0
    last_failure: str = ""
    waiting: dict[int, float] = field(default_factory=dict)
    """Number of an event to the time when it was acknowledged, oldest first."""
    acknowledge_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    found_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    _seen: dict[int, set[str]] = field(default_factory=dict)
    _doubled: set[int] = field(default_factory=set)

    def note_sent(self) -> None:
        """An event is on its way for the first time."""
        self.sent += 1
        self.metrics.sent.labels(self.protocol).inc()

    def note_failure(self, why: str) -> None:
        """An attempt failed; the event is sent again."""
        self.failed += 1
        self.last_failure = why
        self.metrics.failed.labels(self.protocol).inc()

    def note_acknowledged(self, number: int, now: float, seconds: float) -> None:
        """An event is safe."""
        self.acknowledged += 1
        self.waiting[number] = now
        self.acknowledge_seconds.append(seconds)
        self.metrics.acknowledged.labels(self.protocol).inc()
        self.metrics.acknowledge_seconds.labels(self.protocol).observe(seconds)

    def note_page(self, events: list[tuple[int, str]], now: float) -> None:
        """A page of (number, event id), in the order in which ELIS returned them, oldest first; pages overlap."""
        highest = -1
        for number, event_id in events:
            ids = self._seen.setdefault(number, set())
            if event_id not in ids:
                ids.add(event_id)
                if number < highest and len(ids) == 1:
                    self.reordered += 1
                    self.metrics.reordered.labels(self.protocol).inc()
                if len(ids) > 1 and number not in self._doubled:
                    self._doubled.add(number)
                    self.duplicated += 1
                    self.metrics.duplicated.labels(self.protocol).inc()
            highest = max(highest, number)
            acknowledged_at = self.waiting.pop(number, None)
            if acknowledged_at is not None:
                self.found += 1
                self.found_seconds.append(now - acknowledged_at)
                self.metrics.found.labels(self.protocol).inc()
                self.metrics.found_seconds.labels(self.protocol).observe(max(now - acknowledged_at, 0.0))
        self.metrics.waiting.labels(self.protocol).set(len(self.waiting))

    def give_up(self, before: float) -> None:
        """Counts events as missing that were acknowledged before a moment and not found since."""
        late = [number for number, at in self.waiting.items() if at < before]
        for number in late:
            del self.waiting[number]
        self.missing += len(late)
        self.metrics.missing.labels(self.protocol).inc(len(late))

    def forget(self, below: int) -> None:
        """Drops what is known of events with lower numbers: no page holds them any more."""
        for number in [number for number in self._seen if number < below]:
            del self._seen[number]
            self._doubled.discard(number)

    @property
    def healthy(self) -> bool:
        """Whether nothing was lost, doubled or out of order."""
        return not (self.missing or self.duplicated or self.reordered)
