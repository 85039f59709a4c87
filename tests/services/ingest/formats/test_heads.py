"""Heads of lines as widely used loggers write them by default. Not from real systems: after the loggers' documentation."""

from __future__ import annotations

from typing import Any

import pytest

from services.ingest.batch import Batch
from services.ingest.formats import detect_format, parse_batch
from tests.services.ingest.formats.samples import ZONE

TRACE, SPAN = "65a1b2c3d4e5f60718293a4b5c6d7e8f", "65a1b2c3d4e5f607"


def parse(line: str) -> Batch:
    """Returns a batch of the line, parsed by the format that it looks like."""
    batch = Batch()
    batch.append(line, source="s")
    parse_batch(detect_format([line])[0].name, batch, [0], ZONE)
    return batch


@pytest.mark.parametrize(
    ("line", "number", "body", "attributes"),
    [
        ("2024-01-02 10:00:00,000 - root - WARNING - careful: x", 13, "careful: x", {"component": "root"}),
        ("2024-01-02 10:00:00,000 - uvicorn - INFO - ok - done", 9, "ok - done", {"component": "uvicorn"}),
        ("[2024-01-02 10:00:00,000: ERROR/ForkPoolWorker-1] failed", 17, "ForkPoolWorker-1] failed", None),
        ("2024-01-02 10:00:00.000 +01:00 [INF] started", 9, "started", None),
        ("2024-01-02 10:00:00.000 +01:00 [WRN] slow", 13, "slow", None),
        ("2024-01-02 10:00:00.000 +01:00 [FTL] dead", 21, "dead", None),
        ("2024-01-02T10:00:00+01:00 DBG started k=1", 5, "started k=1", None),
        ("I, [2024-01-02T10:00:00.000000 #1234]  INFO -- : Started GET", 9, "Started GET", {"log.head": "I, #1234]"}),
        ("E, [2024-01-02T10:00:00.000000 #1234] ERROR -- app: bad", 17, "bad", {"component": "app", "log.head": "E, #1234]"}),
        ('[2024-01-02 10:00:00] production.ERROR: bad {"a":1}', 17, 'bad {"a":1}', {"component": "production"}),
        ("12345:M 02 Jan 2024 10:00:00.000 * Ready", 0, "* Ready", {"log.head": "12345:M"}),
        ("INFO  [main] 2024-01-02 10:00:00,000 File.java:12 - Starting", 9, "Starting", {"component": "File.java:12", "thread.name": "main"}),
        ("2024-01-02 09:00:00.000 WEST [12] LOG:  ready", 9, "ready", {"process.pid": 12}),
        ("2024-01-02 10:00:00.000 CST [12] LOG:  ready", 9, "ready", {"process.pid": 12, "log.head": "CST"}),
        ("2024-01-02 10:00:00 AM INFO started", 9, "started", None),
    ],
)
def test_a_head_is_read(line: str, number: int, body: str, attributes: dict[str, Any] | None) -> None:
    batch = parse(line)
    assert batch.severity_number == [number]
    assert (batch.body, batch.attributes) == ([body], [attributes])
    assert batch.timestamp[0] // 10**9 == (1_704_182_400 if "WEST" in line else 1_704_186_000)


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("10:00:00,123 ERROR [org.jboss.as] (MSC service thread 1-2) failed", 17),
        ("10:00:00.123 [main] INFO  com.example.App -- started", 9),
        ("[10:00:00 WRN] slow", 13),
        ("10:00AM INF started", 9),
        ("fail: Microsoft.AspNetCore.Server.Kestrel[13]\n      boom", 17),
        ("error: bad", 17),
        ("10:00 o'clock INFO", 0),
    ],
)
def test_a_line_without_a_date_keeps_its_text_and_gets_its_level(line: str, number: int) -> None:
    batch = parse(line)
    assert (batch.body, batch.severity_number, batch.timestamp) == ([line], [number], [0])


@pytest.mark.parametrize("correlation", [f"[{TRACE}-{SPAN}] ", f"[{' ' * 49}] ", ""])
def test_spring_boot_with_the_name_of_the_application(correlation: str) -> None:
    batch = parse(f"2024-01-02T10:00:00.123+01:00 ERROR 7 --- [my-app] [nio-8080-exec-1] {correlation}o.a.c.C.[.[.[/].[dispatcherServlet]    : failed")
    assert (batch.body, batch.service, batch.severity_number) == (["failed"], ["my-app"], [17])
    assert batch.attributes == [{"component": "o.a.c.C.[.[.[/].[dispatcherServlet]", "process.pid": 7, "thread.name": "nio-8080-exec-1"}]
    assert (batch.trace_id[0], batch.span_id[0]) == ((TRACE, SPAN) if TRACE in correlation else ("", ""))
