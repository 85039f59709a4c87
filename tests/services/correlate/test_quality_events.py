"""Events of data quality beside the detectors: one thing that happens does not become two incidents."""

from __future__ import annotations

from elis.correlate.v1 import correlate_pb2 as pb
from tests.services.correlate.peer import MINUTE, START
from tests.services.correlate.stage import Stage, eventually
from tests.services.correlate.test_incidents import incidents_of, judged, play
from tests.services.correlate.timelines import Timeline

FELL_SILENT = 24 * 60


def vanish(timeline: Timeline) -> None:
    """Silences the mailer, and tells of it as the watch over quality does: five minutes later, with a warning of its own."""
    last = START + FELL_SILENT * 1_000_000_000
    timeline.events = [event for event in timeline.events if event["service"] != "mailer" or int(str(event["timestamp"])) < last]
    text = "data quality of source mailer-log: silent for 5 min, at most 5 min was expected"
    timeline.say(FELL_SILENT + 310, "data-quality", "infrastructure", text, 13, source="elis")


async def test_a_silence_that_both_see_is_no_incident_of_its_own(stage: Stage) -> None:
    timeline = Timeline(1, minutes=34, per_minute=30)
    vanish(timeline)
    await play(stage, timeline)
    async with stage.correlate() as correlate:
        await eventually(lambda: judged(stage, 33), 30)
        response: pb.ListFindingsResponse = await correlate.ListFindings(pb.ListFindingsRequest(page_size=100))
        assert [(finding.detector, finding.source) for finding in response.findings] == [("silence", "mailer-log")]
        assert await incidents_of(correlate) == []
        request = pb.GetStatisticsRequest(start=START, end=START + 40 * MINUTE, group_by="source")
        counted: pb.GetStatisticsResponse = await correlate.GetStatistics(request)
        assert [group.events for group in counted.groups if group.key == "elis"] == [1]


async def test_a_fault_that_silences_a_source_is_one_incident(stage: Stage) -> None:
    timeline = Timeline(1, minutes=34)
    timeline.break_database(FELL_SILENT)
    vanish(timeline)
    await play(stage, timeline)
    async with stage.correlate() as correlate:
        await eventually(lambda: judged(stage, 33), 30)
        assert len(await incidents_of(correlate)) == 1
