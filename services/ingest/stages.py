"""Where the time of taking in goes: processor seconds of each stage, as a metric and for the benchmark."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, thread_time

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class StageClock(Collector):
    """Adds up the time of stages. Each runs in one thread from its start to its end."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the processor time of what is done inside."""
        started = thread_time()
        try:
            yield
        finally:
            self._seconds[name] += thread_time() - started

    @contextmanager
    def wait(self, name: str) -> Iterator[None]:
        """Counts the time of the clock of something that is waited for."""
        started = perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += perf_counter() - started

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yields the metric."""
        family = CounterMetricFamily("elis_ingest_stage_seconds", "Processor seconds by stage; those of commit are seconds of waiting.", labels=["stage"])
        for name, seconds in sorted(self._seconds.items()):
            family.add_metric([name], seconds)
        yield family
