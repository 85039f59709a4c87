"""Simulated stories: a fault opens one incident whose first cause is what was planted; without a fault none opens."""

from __future__ import annotations

import pytest

from services.ingest.simulator.scenarios import SCENARIOS
from services.ingest.simulator.story import Plan
from tests.services.correlate.bench import analyse
from tests.services.correlate.peer import START as START_OF
from tests.services.correlate.peer import Log
from tests.services.correlate.stories import START_NS, tell
from tests.services.correlate.timelines import Timeline


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_a_story_is_understood(scenario: str) -> None:
    plan = Plan(scenario, seed=11, rate=5.0, duration=1500, fault_at=0.65, start_ns=START_NS)
    verdict = await analyse(tell(plan))
    root = SCENARIOS[scenario].root
    assert len(verdict.cases) == (0 if root is None else 1)
    if root is not None:
        assert verdict.cases[0].causes[0].node == (root.system, root.service)


async def test_a_source_that_dies_without_a_word_is_found_through_those_who_need_it() -> None:
    onset = 27 * 60 + 20.0
    timeline = Timeline(1)
    timeline.events = [event for event in timeline.events if not (event["service"] == "ledger-db" and int(str(event["timestamp"])) > START_OF + onset * 1e9)]

    def fail(second: float) -> None:
        trace = f"{timeline.random.getrandbits(128):032x}"
        timeline.say(second, "booking", "sap", "cannot reach dbhost7:5433: connection refused", 17, trace_id=trace, host="bk1")
        timeline.say(second + 0.2, "portal", "application", "request answered 500", 17, trace_id=trace, host="web4")

    timeline.at_random(onset + 4, timeline.minutes * 60, 40, fail)
    log = Log()
    verdict = await analyse([log.add(block) for block in timeline.blocks()])
    assert [case.causes[0].node for case in verdict.cases] == [("infrastructure", "ledger-db")]
