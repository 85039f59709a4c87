"""Text of several formats on its whole way: sent as a block or line by line, stored as events."""

from __future__ import annotations

import time
from typing import Any

import asyncpg
import orjson
import pytest

from tests.services.ingest.conftest import RunningIngest
from tests.services.ingest.receivers.stored import read_events

NOW = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
TRACE = ["java.lang.IllegalStateException: no connection", "\tat com.example.Orders.place(Orders.java:42)", "Caused by: java.net.ConnectException: refused"]


async def send_raw(ingest: RunningIngest, text: str, query: str = "source=s") -> None:
    """Sends a block of text, which must be taken."""
    response = await ingest.web.post(f"/services/collector/raw?{query}", content=text, headers={"authorization": f"Splunk {ingest.token}"})
    assert response.json() == {"text": "Success", "code": 0}


async def send_events(ingest: RunningIngest, lines: list[str], **envelope: Any) -> str:
    """Sends each line as an event of its own; returns how many were accepted."""
    body = b"".join(orjson.dumps({"source": "s", "event": line, **envelope}) for line in lines)
    response = await ingest.web.post("/services/collector/event", content=body, headers={"authorization": f"Splunk {ingest.token}"})
    assert response.json()["code"] == 0
    return response.headers["elis-accepted"]


@pytest.mark.parametrize("declared", ["", "&sourcetype=csv"])
async def test_a_table_becomes_an_event_for_each_row(running_ingest: RunningIngest, pool: asyncpg.Pool[Any], declared: str) -> None:
    await send_raw(running_ingest, f'time,level,message,order\n{NOW},ERROR,"refused, twice",17\n{NOW},INFO,"two\nlines",18\n', f"source=s{declared}")
    first, second = await read_events(pool)
    assert (first["body"], first["severity_number"], first["attributes"]["order"]) == ("refused, twice", 17, 17)
    assert (second["body"], second["attributes"]["order"]) == ("two\nlines", 18)


async def test_rows_of_a_table_that_come_one_by_one(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    with_header = [f"time,level,message\n{NOW},WARN,{text}" for text in ("a", "b")]
    assert await send_events(running_ingest, [*with_header, f"{NOW} ERROR no header"]) == "3"
    events = await read_events(pool)
    assert [(event["body"], event["severity_number"]) for event in events] == [("a", 13), ("b", 13), ("no header", 17)]


async def test_lines_of_a_container_are_parsed_inside(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    lines = [f'{NOW} stdout P {{"level":"error",', f'{NOW} stdout F "msg":"in pieces"}}', *(f"{NOW} stderr F {line}" for line in ["failed", *TRACE])]
    await send_raw(running_ingest, "\n".join(lines))
    first, second = await read_events(pool)
    assert (first["body"], first["severity_number"], first["attributes"]["log.iostream"]) == ("in pieces", 17, "stdout")
    assert second["body"] == "\n".join(["failed", *TRACE])


@pytest.mark.parametrize("head", [f"{NOW} ERROR [main] com.example.Orders: failed", '{"level":"error","msg":"failed"}'], ids=["plain", "json"])
async def test_a_trace_in_a_block_of_text_is_one_event(running_ingest: RunningIngest, pool: asyncpg.Pool[Any], head: str) -> None:
    await send_raw(running_ingest, "\n".join([head, *TRACE, head]))
    first, second = await read_events(pool)
    assert first["body"] == "\n".join(["failed", *TRACE])
    assert (second["body"], second["severity_number"]) == ("failed", 17)


async def test_a_trace_that_comes_line_by_line_is_one_event(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    head = f"{NOW} ERROR [main] com.example.Orders: failed"
    assert await send_events(running_ingest, [head, *TRACE, head], host="web-1") == "5"
    first, second = await read_events(pool)
    assert (first["body"], second["body"]) == ("\n".join(["failed", *TRACE]), "failed")


async def test_what_is_joined_is_masked(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    await send_events(running_ingest, [f"{NOW} ERROR failed", "java.lang.IllegalStateException: jane@example.com", "\tat a.B.c(B.java:1) password=hunter2"])
    (event,) = await read_events(pool)
    assert "jane@" not in event["body"]
    assert "hunter2" not in event["body"]
    assert event["body"].count("\n") == 2


async def test_lines_of_another_kind_keep_their_time_and_level(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    await send_raw(running_ingest, f'{{"level":"info","msg":"a"}}\n{{"level":"info","msg":"b"}}\n{NOW} ERROR [main] no json\n')
    events = await read_events(pool)
    assert [(event["body"], event["severity_number"]) for event in events] == [("a", 9), ("b", 9), ("no json", 17)]
