"""The quality of a source's events, as whoever looks after it sees it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.system.api import Api, name_source

pytestmark = pytest.mark.system
SECONDS = 30.0
QUERY = """query($source: String!) {
  dataQuality(source: $source, range: {last: "1h"}) {
    score events reasons { kind share text } hours { events missingTime unknownSeverity parseRate } fields { name nullRate types { type } } }
  dataQualities(range: {last: "1h"}, first: 100) { edges { node { source score } } } }"""


def quality_of(api: Api, source: str, events: int) -> dict[str, Any]:
    """Returns the answer once so many events are counted."""
    deadline = time.monotonic() + SECONDS
    while True:
        answer = api.query(QUERY, {"source": source})
        if answer["dataQuality"]["events"] == events or time.monotonic() > deadline:
            return answer
        time.sleep(0.2)


def test_what_is_wrong_with_a_source_is_shown(api: Api) -> None:
    source = name_source("untidy")
    now = time.time()
    events = [
        {"event": {"message": f"order {number} placed", "order": number}, "source": source, **({"time": now} if number % 4 else {})} for number in range(200)
    ]
    assert api.send(events).json()["code"] == 0
    answer = quality_of(api, source, 200)
    quality = answer["dataQuality"]
    assert sum(hour["events"] for hour in quality["hours"]) == 200
    reasons = {reason["kind"]: reason for reason in quality["reasons"]}
    assert reasons["missing_time"]["share"] == 0.25
    assert reasons["missing_time"]["text"].startswith("25 % of the events carry no time")
    assert reasons["unknown_severity"]["share"] == 1
    assert 0 < quality["score"] < 80
    assert ("order", [{"type": "number"}]) in [(each["name"], each["types"]) for each in quality["fields"]]
    listed = {edge["node"]["source"]: edge["node"]["score"] for edge in answer["dataQualities"]["edges"]}
    assert listed[source] == pytest.approx(quality["score"], abs=0.001)
