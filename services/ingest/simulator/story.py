"""A story under way: its clock, its dice, its numbers, and the events that are still to come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import pi, sin
from random import Random

from services.ingest.simulator.events import Label, Origin, Payload, Role, SimulatedEvent
from services.ingest.simulator.stamps import SECOND
from services.ingest.simulator.streams import Arrivals, Beat, Happening, Intensity, Stream

NOMINAL_RATE = 20.0
"""Events per second of the whole landscape that the rates in the systems add up to."""
FAULT_SECONDS = 720.0
"""Length of the part after the onset that the scenarios are written for; a shorter one plays them faster."""
DAY = 86_400


@dataclass(frozen=True, slots=True)
class Plan:
    """What to tell. The same plan gives the same events, byte for byte.

    `rate` is events per second of event time over the whole landscape, `duration` whole seconds of event time,
    `fault_at` the share of the duration after which the fault begins, `start_ns` nanoseconds since 1970.
    """

    scenario: str = "hana-volume-full"
    seed: int = 42
    rate: float = NOMINAL_RATE
    duration: int = 2400
    fault_at: float = 0.7
    start_ns: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """How one step of an order goes wrong.

    The step is tried `attempts` times; each attempt fails after `wait` seconds. `code` is the message of an IDoc
    (class, number) where the step is one. `each` tells what else happens at an attempt (time, host that calls).
    """

    text: str
    exception: str = ""
    wait: float = 0.05
    attempts: int = 1
    status: int = 503
    role: Role = "symptom"
    code: tuple[str, str] = ("", "")
    each: Callable[[int, str], None] | None = None


Trouble = Callable[[int, str], Failure | None]
"""Tells whether a step that is taken at a time (nanoseconds since 1970) on a host fails, and how."""


class Story:
    """What the systems and scenarios of one story share. Not safe for concurrent use."""

    def __init__(self, plan: Plan, fault: str | None) -> None:
        self.plan = plan
        self.fault = fault
        self.start_ns = plan.start_ns - plan.start_ns % SECOND
        self.onset = int(plan.duration * plan.fault_at)
        """Second of the story at which the fault begins, if there is one."""
        self.tempo = min(1.0, (plan.duration - self.onset) / FAULT_SECONDS)
        """Factor on the offsets of a scenario, so that a short story still shows the whole of it."""
        self.troubles: dict[str, Trouble] = {}
        self.absences: dict[str, tuple[float, float]] = {}
        """Host to the seconds of the story between which it is away."""
        self._pace = plan.rate / NOMINAL_RATE
        self._numbers: dict[str, int] = {}
        self._pending: list[tuple[int, int, Origin, Payload, Role | None]] = []
        self._emitted = 0
        self._released = 0
        hours = [self._hour_factor(second) for second in range(0, plan.duration, 60)]
        self._mean_factor = sum(hours) / len(hours)

    def rng(self, name: str) -> Random:
        """Returns the random generator of one stream, independent of what other streams draw."""
        return Random(f"{self.plan.seed}/{name}")

    def number(self, series: str, first: int) -> int:
        """Returns the next number of a series that begins with `first`."""
        number = self._numbers.get(series, first)
        self._numbers[series] = number + 1
        return number

    def second(self, time_ns: int) -> float:
        """Returns the second of the story at a time."""
        return (time_ns - self.start_ns) / SECOND

    def after_onset(self, seconds: float) -> float:
        """Returns the second of the story that lies so many seconds (of an unhurried story) after the onset."""
        return self.onset + seconds * self.tempo

    def failure(self, step: str, time_ns: int, host: str) -> Failure | None:
        """Tells whether a step of an order, taken at a time on a host, fails."""
        trouble = self.troubles.get(step)
        return None if trouble is None else trouble(time_ns, host)

    def is_away(self, host: str, time_ns: int) -> bool:
        """Tells whether a host is away at a time."""
        absence = self.absences.get(host)
        return absence is not None and absence[0] <= self.second(time_ns) < absence[1]

    def daily(self, second: float) -> float:
        """Factor of the time of day: fewer visitors at night, and a wave of a few minutes."""
        return self._hour_factor(second) / self._mean_factor

    def _hour_factor(self, second: float) -> float:
        of_day = (self.start_ns / SECOND + second) % DAY
        return 1.0 + 0.3 * sin(2 * pi * (of_day / DAY - 0.35)) + 0.06 * sin(2 * pi * second / 1020)

    def arrivals(self, name: str, per_second: float, happening: Happening, intensity: Intensity | None = None) -> Stream:
        """Returns something that happens at random, `per_second` at the nominal rate; by default as the day goes."""
        return Arrivals(self.rng(f"arrivals/{name}"), per_second * self._pace, intensity or self.daily, happening)

    def beat(self, name: str, period: float, happening: Happening, jitter: float = 0.5) -> Stream:
        """Returns something that happens every `period` seconds, whatever the rate."""
        return Beat(self.rng(f"beat/{name}"), period, jitter, happening)

    def emit(self, time_ns: int, origin: Origin, payload: Payload, role: Role | None = None) -> None:
        """Puts an event into the story; its time may not lie before the second that is being played."""
        self._emitted += 1
        self._pending.append((time_ns, self._emitted, origin, payload, role))

    def release(self, until_ns: int) -> Iterator[SimulatedEvent]:
        """Yields the pending events before a time, in order, and numbers them."""
        # The second part of the key is unique, so that payloads are never compared.
        self._pending.sort()
        ready = 0
        for time_ns, _, origin, payload, role in self._pending:
            if time_ns >= until_ns:
                break
            ready += 1
            self._released += 1
            source, system, service, host = origin
            fault = self.fault if role == "root" or role == "symptom" else None
            label = Label(self._released, fault, role, system, service)
            yield SimulatedEvent(time_ns, payload.channel, source, system, service, host, payload, label)
        del self._pending[:ready]
