"""Severities of words, letters and numbers."""

from __future__ import annotations

import pytest

from services.ingest import severity


@pytest.mark.parametrize(
    ("word", "number"),
    [
        *(("TRACE", 1), ("Debug", 5), ("d", 5), ("INFO", 9), ("information", 9), ("i", 9), ("notice", 10), ("Warning", 13), ("WARN", 13), ("w", 13)),
        *(("ERROR", 17), ("err", 17), ("SEVERE", 17), ("e", 17), ("crit", 18), ("CRITICAL", 21), ("alert", 19), ("FATAL", 21), ("f", 21), ("emerg", 21)),
        *(("fail", 17), ("EROR", 17), ("dbug", 5), ("trce", 1), ("VRB", 1), ("WRN", 13)),
        *((" Error ", 17), ("", 0), ("odd", 0), ("errors", 0)),
    ],
)
def test_words(word: str, number: int) -> None:
    assert severity.severity_of_word(word) == number


def test_syslog_priorities() -> None:
    assert [severity.severity_of_priority(8 * 4 + level) for level in range(8)] == [21, 19, 18, 17, 13, 10, 9, 5]


@pytest.mark.parametrize(("level", "number"), [(10, 1), (20, 5), (30, 9), (40, 13), (50, 17), (60, 21), (3, 17), (7, 5), (8, 0), (-1, 0), (35, 0), (70, 0)])
def test_numeric_levels(level: int, number: int) -> None:
    assert severity.severity_of_number(level) == number


@pytest.mark.parametrize(("status", "number"), [(200, 9), (302, 9), (399, 9), (400, 13), (499, 13), (500, 17), (503, 17)])
def test_http_status(status: int, number: int) -> None:
    assert severity.severity_of_status(status) == number


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("error: bad", (17, "error")),
        ("fail: Shop.Api[13]", (17, "fail")),
        ("[warn] x", (13, "warn")),
        ("[warning signs] x", (0, "")),
        ("[WARN]: x", (13, "WARN")),
        ("Fatal : x", (21, "Fatal")),
        ("no errors: x", (0, "")),
        ("errors: x", (0, "")),
        ("", (0, "")),
    ],
)
def test_the_level_a_message_opens_with(message: str, found: tuple[int, str]) -> None:
    assert severity.leading_severity(message) == found
