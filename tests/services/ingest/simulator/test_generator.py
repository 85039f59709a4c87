"""What a story is: the same for the same plan, in order, at the rate asked for, and true to its labels."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from itertools import pairwise

import msgspec
import pytest

from kit.errors import InvalidArgument, NotFound
from services.ingest.simulator.events import FilePayload, HecPayload, OtlpPayload, SimulatedEvent
from services.ingest.simulator.generator import corpus, generate
from services.ingest.simulator.scenarios import SCENARIOS
from services.ingest.simulator.stamps import SECOND
from services.ingest.simulator.story import Plan

START_NS = 1_790_000_000 * SECOND
FAULTY = [name for name, scenario in SCENARIOS.items() if scenario.root is not None]


@cache
def story(scenario: str = "hana-volume-full", *, seed: int = 7, duration: int = 900, rate: float = 20.0, fault_at: float = 0.4) -> tuple[SimulatedEvent, ...]:
    return tuple(generate(Plan(scenario, seed, rate, duration, fault_at, START_NS)))


def text_of(event: SimulatedEvent) -> str:
    payload = event.payload
    if isinstance(payload, OtlpPayload):
        return payload.body
    if isinstance(payload, FilePayload):
        return payload.text
    assert isinstance(payload, HecPayload)
    return payload.event if isinstance(payload.event, str) else str(payload.event["message"])


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_same_plan_gives_the_same_bytes(scenario: str) -> None:
    plan = Plan(scenario, 7, duration=300, start_ns=START_NS)
    assert msgspec.json.encode(list(generate(plan))) == msgspec.json.encode(list(generate(plan)))


def test_another_seed_gives_another_story() -> None:
    assert [text_of(event) for event in story(seed=1, duration=60)] != [text_of(event) for event in story(seed=2, duration=60)]


def test_a_fault_changes_nothing_before_it_begins() -> None:
    onset_ns = START_NS + 360 * SECOND
    stories = [[event for event in story(name) if event.time_ns < onset_ns] for name in FAULTY]
    assert len(stories[0]) > 1000
    assert stories.count(stories[0]) == len(FAULTY)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_events_come_in_order_and_are_numbered(scenario: str) -> None:
    events = story(scenario)
    assert all(earlier.time_ns <= later.time_ns for earlier, later in pairwise(events))
    assert [event.label.event for event in events] == list(range(1, len(events) + 1))
    assert events[0].time_ns >= START_NS
    assert events[-1].time_ns < START_NS + 900 * SECOND


@pytest.mark.parametrize("rate", [5.0, 20.0, 200.0])
def test_the_rate_is_the_one_of_the_whole_landscape(rate: float) -> None:
    events = story("quiet", rate=rate, duration=600)
    assert len(events) / 600 == pytest.approx(rate, rel=0.15)


@pytest.mark.parametrize("scenario", FAULTY)
def test_the_root_breaks_first_and_others_follow(scenario: str) -> None:
    events = story(scenario)
    root = SCENARIOS[scenario].root
    assert root is not None
    roots = [event for event in events if event.label.role == "root"]
    symptoms = [event for event in events if event.label.role == "symptom"]
    assert {(event.system, event.service) for event in roots} == {(root.system, root.service)}
    assert roots[0].time_ns == START_NS + 360 * SECOND
    assert roots[0].time_ns < symptoms[0].time_ns
    assert len({event.system for event in symptoms}) >= 2
    assert {event.service for event in symptoms} >= {"order-service", "shop-frontend", "load-balancer", "nginx"}
    assert all(event.label.fault == scenario for event in roots + symptoms)


@pytest.mark.parametrize("scenario", FAULTY)
def test_the_loudest_warning_during_a_fault_is_innocent(scenario: str) -> None:
    during = [event for event in story(scenario) if event.time_ns >= START_NS + 360 * SECOND]
    loudest = Counter((event.service, event.label.role) for event in during if event.label.role is not None).most_common(1)[0][0]
    assert loudest[1] == "noise"
    roles = Counter(event.label.role for event in during)
    assert roles["root"] < roles["symptom"]
    assert roles["root"] < roles["noise"]


def test_a_fault_ramps_up() -> None:
    onset_ns = START_NS + 360 * SECOND
    minutes = Counter((event.time_ns - onset_ns) // (60 * SECOND) for event in story() if event.label.role == "symptom")
    assert 0 < minutes[1] < minutes[2] < minutes[4]


def test_nothing_is_wrong_in_a_quiet_story() -> None:
    events = story("quiet", duration=1200)
    roles = Counter(event.label.role for event in events)
    assert set(roles) == {None, "noise"}
    assert all(event.label.fault is None for event in events)
    assert 0.01 < roles["noise"] / len(events) < 0.06
    assert any("going DOWN for maintenance" in text_of(event) for event in events)


def test_a_host_that_restarts_is_silent_meanwhile() -> None:
    # web-3 restarts at 0.55 of a quiet story, for 40 seconds; its own boot messages excepted.
    begin_ns = START_NS + 660 * SECOND
    meanwhile = [event for event in story("quiet", duration=1200) if event.host == "web-3" and begin_ns <= event.time_ns < begin_ns + 40 * SECOND]
    assert {event.source for event in meanwhile} == {"linux-syslog"}


@pytest.mark.parametrize("scenario", FAULTY)
def test_a_short_story_still_shows_the_whole_fault(scenario: str) -> None:
    events = story(scenario, duration=240, fault_at=0.6)
    symptoms = {event.service for event in events if event.label.role == "symptom"}
    assert {"order-service", "load-balancer"} <= symptoms


def test_an_order_can_be_followed_through_every_system() -> None:
    events = story("quiet", duration=120)
    accepted = next(event for event in events if "accepted order" in text_of(event))
    assert isinstance(accepted.payload, OtlpPayload)
    attributes = accepted.payload.attributes
    by_trace = {
        event.service
        for event in events
        if (isinstance(event.payload, OtlpPayload) and event.payload.trace_id == accepted.payload.trace_id)
        or (isinstance(event.payload, HecPayload) and accepted.payload.trace_id in str(event.payload.event))
    }
    assert by_trace == {"shop-frontend", "order-service", "payment-service", "inventory-service", "load-balancer"}
    by_correlation = {event.service for event in events if attributes["correlation_id"] in text_of(event)}
    assert by_correlation == {"nginx"}
    statuses = [event for event in events if event.service == "idoc" and attributes["sap.idoc.docnum"] in text_of(event)]
    assert len(statuses) == 3
    assert all(attributes["sap.idoc.tid"] in text_of(event) for event in statuses)
    assert attributes["order_id"] in text_of(statuses[-1])


def test_the_landscape_has_many_templates() -> None:
    masked = {
        (event.service, re.sub(r"[0-9a-fA-F]{8,}|\d+", "#", re.sub(r'"[^"]*"', '""', text_of(event)))[:60])
        for event in story("hana-volume-full", duration=1800, fault_at=0.5)
    }
    assert len(masked) > 80


def test_a_corpus_has_the_asked_length_and_holds_a_fault() -> None:
    lines = corpus(3, 20_000)
    assert len(lines) == 20_000
    assert lines == corpus(3, 20_000)
    assert {event.channel for event in lines} == {"hec", "otlp", "file"}
    assert 0.005 < sum(event.label.fault is not None for event in lines) / 20_000 < 0.2


@pytest.mark.parametrize(
    ("plan", "error"),
    [
        (Plan("no-such"), NotFound),
        (Plan(rate=0.0), InvalidArgument),
        (Plan(rate=float("nan")), InvalidArgument),
        (Plan(duration=0), InvalidArgument),
        (Plan(fault_at=1.0), InvalidArgument),
    ],
)
def test_a_bad_plan_is_refused_before_the_first_event(plan: Plan, error: type[Exception]) -> None:
    with pytest.raises(error):
        generate(plan)
