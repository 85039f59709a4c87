"""Tells a story: the events of a plan, in order of time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from kit.errors import InvalidArgument, NotFound
from services.ingest.simulator import journeys
from services.ingest.simulator.events import SimulatedEvent
from services.ingest.simulator.scenarios import SCENARIOS
from services.ingest.simulator.scenarios.base import Scenario
from services.ingest.simulator.stamps import SECOND
from services.ingest.simulator.story import Plan, Story
from services.ingest.simulator.systems import SYSTEMS

MAX_RATE = 100_000.0
MAX_DURATION = 31 * 86_400
MAX_CORPUS = 20_000_000
CORPUS_START_NS = 1_790_000_000 * SECOND
"""A fixed day, so that a corpus depends on nothing but its seed and length."""


def find_scenario(name: str) -> Scenario:
    """Returns a scenario by name; raises NotFound that lists the known ones."""
    scenario = SCENARIOS.get(name)
    if scenario is None:
        raise NotFound(f"there is no scenario {name!r}; choose one of {', '.join(SCENARIOS)}", scenario=name)
    return scenario


def check_plan(plan: Plan) -> None:
    """Raises InvalidArgument (or NotFound for the scenario) when a plan cannot be told."""
    find_scenario(plan.scenario)
    if not 0.0 < plan.rate <= MAX_RATE:
        raise InvalidArgument(f"the rate must lie above 0 and at most at {MAX_RATE:.0f} events per second, not {plan.rate:g}")
    if not 1 <= plan.duration <= MAX_DURATION:
        raise InvalidArgument(f"the duration must lie between 1 second and 31 days, not {plan.duration} seconds")
    if not 0.0 < plan.fault_at < 1.0:
        raise InvalidArgument(f"the fault must begin between 0 and 1 of the duration, not at {plan.fault_at:g}")


def generate(plan: Plan) -> Iterator[SimulatedEvent]:
    """Yields the events of a plan in order of time; raises InvalidArgument or NotFound for a bad plan."""
    check_plan(plan)
    return _tell(plan)


def _tell(plan: Plan) -> Iterator[SimulatedEvent]:
    scenario = find_scenario(plan.scenario)
    story = Story(plan, scenario.name if scenario.root is not None else None)
    plot = scenario.plot(story)
    story.troubles.update(plot.troubles)
    streams = [stream for system in SYSTEMS.values() for stream in system(story)]
    streams += [*journeys.streams(story), *plot.streams]
    for second in range(plan.duration):
        base_ns = story.start_ns + second * SECOND
        for stream in streams:
            stream.play(second, base_ns)
        yield from story.release(base_ns + SECOND)


def corpus(seed: int, count: int) -> list[SimulatedEvent]:
    """Returns exactly `count` events, at most MAX_CORPUS: lines for a benchmark.

    Whatever the count, they are the first half of a story of 40 minutes whose fault begins at two thirds of it.
    """
    if not 1 <= count <= MAX_CORPUS:
        raise InvalidArgument(f"a corpus holds 1 to {MAX_CORPUS} events, not {count}")
    plan = Plan("hana-volume-full", seed, count / 1200, duration=2400, fault_at=0.35, start_ns=CORPUS_START_NS)
    return list(islice(generate(plan), count))
