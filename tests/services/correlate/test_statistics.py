"""Statistics are read from the roll-ups: totals, groups, points, and how fresh they are."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from elis.correlate.v1 import correlate_pb2 as pb
from kit.errors import InvalidArgument, PermissionDenied
from tests.services.correlate.peer import MINUTE, START, events
from tests.services.correlate.stage import Stage, eventually


async def test_events_are_counted_whole_and_by_group(stage: Stage) -> None:
    stage.log.add(events((0, "shop", "placed", 9), (59, "shop", "failed", 17), (61, "shop", "placed", 9)))
    stage.log.add(events((70, "idoc", "posted", 9), (190, "idoc", "not posted", 21), system="sap"))
    async with stage.correlate() as correlate:

        async def ask(group_by: str, **more: int) -> pb.GetStatisticsResponse:
            request = pb.GetStatisticsRequest(start=START, end=START + 5 * MINUTE, group_by=group_by, **more)
            response: pb.GetStatisticsResponse = await correlate.GetStatistics(request)
            return response

        async def counted() -> bool:
            return (await ask("")).total.events == 5

        await eventually(counted)
        whole = await ask("system")
        assert (whole.total.events, whole.total.errors) == (5, 2)
        assert [(group.key, group.events, group.errors) for group in whole.groups] == [("application", 3, 1), ("sap", 2, 1)]
        assert whole.total.error_rate == pytest.approx(0.4)
        assert whole.total.events_per_second == pytest.approx(5 / 300)
        assert [point.events for point in whole.total.points] == [2, 2, 0, 1, 0]
        assert [point.errors for point in whole.groups[1].points] == [0, 0, 0, 1, 0]
        wide = await ask("service", step_minutes=2)
        assert [point.events for point in wide.total.points] == [4, 1, 0]
        assert wide.total.points[1].start.ToNanoseconds() == START + 2 * MINUTE
        assert {group.key for group in (await ask("source")).groups} == {"shop", "idoc"}
        assert {group.key for group in (await ask("host")).groups} == {""}


async def test_the_answer_says_how_fresh_it_is(stage: Stage) -> None:
    async with stage.correlate() as correlate:

        async def fresh() -> bool:
            response: pb.GetStatisticsResponse = await correlate.GetStatistics(pb.GetStatisticsRequest(start=START, end=START + MINUTE))
            return response.lag_seconds < 2 and abs((response.as_of.ToDatetime(UTC) - datetime.now(UTC)).total_seconds()) < 5

        await eventually(fresh)


@pytest.mark.parametrize(
    "request_",
    [
        pb.GetStatisticsRequest(start=5, end=5),
        pb.GetStatisticsRequest(start=-5, end=5),
        pb.GetStatisticsRequest(start=0, end=MINUTE, group_by="body"),
        pb.GetStatisticsRequest(start=0, end=MINUTE, step_minutes=-1),
        pb.GetStatisticsRequest(start=0, end=10_000 * MINUTE, step_minutes=1),
    ],
)
async def test_a_bad_range_is_refused(stage: Stage, request_: pb.GetStatisticsRequest) -> None:
    async with stage.correlate() as correlate:
        with pytest.raises(InvalidArgument):
            await correlate.GetStatistics(request_)


async def test_a_caller_without_the_scope_is_refused(stage: Stage) -> None:
    async with stage.correlate("templates:read") as correlate:
        with pytest.raises(PermissionDenied):
            await correlate.GetStatistics(pb.GetStatisticsRequest(start=0, end=MINUTE))
