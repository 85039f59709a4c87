"""Where the time of taking in goes: processor seconds of each stage, as a metric and for the benchmark."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from time import perf_counter, thread_time

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class _Stage:
    """Adds the time from its start to its end. Some run for every request: a generator would cost twice as much."""

    __slots__ = ("_clock", "_name", "_seconds", "_started")

    def __init__(self, seconds: defaultdict[str, float], name: str, clock: Callable[[], float]) -> None:
        self._seconds, self._name, self._clock = seconds, name, clock
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = self._clock()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._name] += self._clock() - self._started


class StageClock(Collector):
    """Adds up the time of stages. Each runs in one thread from its start to its end."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def stage(self, name: str) -> _Stage:
        """Counts the processor time of what is done inside."""
        return _Stage(self._seconds, name, thread_time)

    def wait(self, name: str) -> _Stage:
        """Counts the time of the clock of something that is waited for."""
        return _Stage(self._seconds, name, perf_counter)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yields the metric."""
        family = CounterMetricFamily("elis_ingest_stage_seconds", "Processor seconds by stage; those of commit are seconds of waiting.", labels=["stage"])
        for name, seconds in sorted(self._seconds.items()):
            family.add_metric([name], seconds)
        yield family
