"""Reading service dependencies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from elis.ingest.v1 import dependencies_pb2 as pb
from kit.errors import InvalidArgument
from services.ingest.dependencies_rpc import DependencyServicer
from services.ingest.edges import Edge, add_edges

MINUTE = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


def ask(start: datetime, end: datetime, limit: int = 0) -> pb.ListServiceDependenciesRequest:
    request = pb.ListServiceDependenciesRequest(limit=limit)
    getattr(request, "from").FromDatetime(start)
    request.to.FromDatetime(end)
    return request


def edge(*durations_ms: int, errors: int = 0) -> Edge:
    made = Edge(errors=errors)
    for ms in durations_ms:
        made.add(ms * 1_000_000, False, 1)
    return made


async def test_the_minutes_asked_for_are_added_up_the_busiest_edge_first(pool: asyncpg.Pool[Any]) -> None:
    minute = int(MINUTE.timestamp()) // 60
    taken_back = edge(5)
    taken_back.add(5_000_000, False, -1)
    await add_edges(
        pool,
        {
            (minute, "web", "orders", "service"): edge(10, 20, errors=1),
            (minute + 1, "web", "orders", "service"): edge(30),
            (minute + 1, "orders", "postgresql/db1", "database"): edge(1, 2, 3, 4),
            (minute + 1, "web", "orders.internal", "external"): taken_back,
            (minute + 2, "web", "too late", "external"): edge(1),
            (minute - 1, "web", "too early", "external"): edge(1),
        },
    )
    servicer: Any = DependencyServicer(pool)
    request = ask(MINUTE, MINUTE + timedelta(minutes=2))
    found = (await servicer.ListServiceDependencies(request, None)).dependencies
    assert [(each.caller, each.callee, each.kind, each.calls, each.errors, each.average_ms) for each in found] == [
        ("orders", "postgresql/db1", "database", 4, 0, 2.5),
        ("web", "orders", "service", 3, 1, 20.0),
    ]
    assert list(found[1].buckets) == [0, 1, 1, 1, *[0] * 7]


@pytest.mark.parametrize("hours", [0, -1, 24 * 32])
async def test_a_time_that_is_none_or_too_long_is_refused(pool: asyncpg.Pool[Any], hours: int) -> None:
    servicer: Any = DependencyServicer(pool)
    with pytest.raises(InvalidArgument, match="31 days"):
        await servicer.ListServiceDependencies(ask(MINUTE, MINUTE + timedelta(hours=hours)), None)


async def test_a_time_that_does_not_exist_is_refused(pool: asyncpg.Pool[Any]) -> None:
    request = ask(MINUTE, MINUTE)
    request.to.seconds = 2**62
    servicer: Any = DependencyServicer(pool)
    with pytest.raises(InvalidArgument, match="out of range"):
        await servicer.ListServiceDependencies(request, None)
