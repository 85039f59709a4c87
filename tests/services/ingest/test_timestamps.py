"""Timestamps of every layout, and text that is none."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest.timestamps import LAYOUTS, civil_seconds, epoch_nanos, parse_iso, parse_layout, parse_timestamp

YEAR = datetime.now(UTC).year
BERLIN = ZoneInfo("Europe/Berlin")


def nanos(*civil: int, fraction: int = 0, zone: object = UTC) -> int:
    return int(datetime(*civil, tzinfo=zone).timestamp()) * 10**9 + fraction  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2015-10-18 18:01:47,978", nanos(2015, 10, 18, 18, 1, 47, fraction=978_000_000)),
        ("2003-10-11T22:14:15.003Z", nanos(2003, 10, 11, 22, 14, 15, fraction=3_000_000)),
        ("2003-08-24T05:14:15.000003-07:00", nanos(2003, 8, 24, 12, 14, 15, fraction=3_000)),
        ("2024-01-02T10:00:00.123456789+0100", nanos(2024, 1, 2, 9, fraction=123_456_789)),
        ("2024-01-02 10:00:00 UTC", nanos(2024, 1, 2, 10)),
        ("2005-06-03-15.42.50.675872", nanos(2005, 6, 3, 15, 42, 50, fraction=675_872_000)),
        ("2024/1/2 3:04:05", nanos(2024, 1, 2, 3, 4, 5)),
        ("15/Oct/2007:16:18:35 +0100", nanos(2007, 10, 15, 15, 18, 35)),
        ("Sun Dec 04 04:47:44 2005", nanos(2005, 12, 4, 4, 47, 44)),
        ("Sun Dec  4 04:47:44.5 2005", nanos(2005, 12, 4, 4, 47, 44, fraction=500_000_000)),
        ("Wed Aug 01 2007 10:36:52:181", nanos(2007, 8, 1, 10, 36, 52, fraction=181_000_000)),
        ("Jun 14 2005 15:16:01", nanos(2005, 6, 14, 15, 16, 1)),
        ("Jan 05, 2024 12:04:05 AM", nanos(2024, 1, 5, 0, 4, 5)),
        ("Fri, 05 Jan 2024 03:04:05 +0000", nanos(2024, 1, 5, 3, 4, 5)),
        ("08/15/2011 14:00:00", nanos(2011, 8, 15, 14)),
        ("1/2/2024 3:04:05PM", nanos(2024, 1, 2, 15, 4, 5)),
        ("2024-01-02 10:00:00.5 PM", nanos(2024, 1, 2, 22, fraction=500_000_000)),
        ("2024-01-02 12:00:00 am", nanos(2024, 1, 2)),
        ("Jan 5, 2024, 3:04:05\u202fPM", nanos(2024, 1, 5, 15, 4, 5)),
        ("2024-01-02 10:00:00.123 CET", nanos(2024, 1, 2, 9, fraction=123_000_000)),
        ("2024-07-02 10:00:00 EDT", nanos(2024, 7, 2, 14)),
        ("Tue Jan  2 15:04:05 CET 2024", nanos(2024, 1, 2, 14, 4, 5)),
        (f"02/01/{YEAR % 100} 10:00:00", nanos(YEAR, 2, 1, 10)),
        ("01-02-2024 10:00:00.123 +0000", nanos(2024, 1, 2, 10, fraction=123_000_000)),
        ("15/08/2011 14:00:00", nanos(2011, 8, 15, 14)),
        ("17/06/09 20:10:40", nanos(2017, 6, 9, 20, 10, 40)),
        ("12/31/17 20:10:40", nanos(2017, 12, 31, 20, 10, 40)),
        ("03.05.2014 09:04:14", nanos(2014, 5, 3, 9, 4, 14)),
        ("20211116085901", nanos(2021, 11, 16, 8, 59, 1)),
        ("20171223-22:15:29:606", nanos(2017, 12, 23, 22, 15, 29, fraction=606_000_000)),
        ("081109 203615", nanos(2008, 11, 9, 20, 36, 15)),
        ("1117838570", 1_117_838_570 * 10**9),
        ("1433188255.253", 1_433_188_255_253_000_000),
        ("1445144423722", 1_445_144_423_722_000_000),
        ("1704189600123456789", 1_704_189_600_123_456_789),
        ("2016-12-31T23:59:60Z", nanos(2016, 12, 31, 23, 59, 59)),
    ],
)
def test_layouts(text: str, expected: int) -> None:
    assert parse_timestamp(text, UTC) == expected
    assert parse_timestamp(f"  {text} ", UTC) == expected


def test_a_local_time_is_taken_in_the_given_zone() -> None:
    assert parse_timestamp("2024-07-02 10:00:00", BERLIN) == nanos(2024, 7, 2, 8)
    assert parse_timestamp("2024-01-02 10:00:00", BERLIN) == nanos(2024, 1, 2, 9)
    assert parse_timestamp("2024-01-02 10:00:00", timezone(timedelta(hours=5, minutes=30))) == nanos(2024, 1, 2, 4, 30)
    assert parse_timestamp("2024-01-02T10:00:00Z", BERLIN) == nanos(2024, 1, 2, 10)


@pytest.mark.parametrize("value", [1_433_188_255, 1_433_188_255.0, "1433188255", "1433188255,0", 1_433_188_255_000, "1433188255000000", 1_433_188_255 * 10**9])
def test_the_unit_of_an_epoch_number_is_told_by_its_magnitude(value: object) -> None:
    assert epoch_nanos(value) == 1_433_188_255 * 10**9


def test_float_seconds_keep_the_digits_that_were_written() -> None:
    assert epoch_nanos(1433188255.253) == 1_433_188_255_253_000_000
    assert epoch_nanos(1385053862.3072) == 1_385_053_862_307_200_000


@pytest.mark.parametrize(
    "value",
    [None, True, False, "", "x", "12", 0, -1, 17, 0.25, -1.5e9, float("inf"), float("nan"), 1e400, 10**30, "9" * 30, "1e400", [], {}, "٣٣٣٣٣٣٣٣٣٣"],
)
def test_what_is_no_epoch_number_is_0(value: object) -> None:
    assert epoch_nanos(value) == 0


@pytest.mark.parametrize(
    "text",
    [
        *("9999-12-31 23:59:59", "0001-01-01 00:00:00", "2024-02-30 10:00:00", "2024-13-01 10:00:00", "2024-01-02 25:00:00", "1969-12-31 23:59:59"),
        *(
            "2024-01-02T10:00:00+99:99",
            "2024-01-02",
            "Feb 30 10:00:00",
            "99/99/9999 10:00:00",
            "99999999999999",
            "Sun Foo 04 04:47:44 2005",
            "2024-01-02 10:00:00 xm",
        ),
    ],
)
def test_what_is_no_time_is_0(text: str) -> None:
    assert parse_timestamp(text, BERLIN) == 0


def test_a_time_without_year_is_the_latest_that_is_not_in_the_future() -> None:
    now = datetime.now(UTC)
    for moment in (now - timedelta(minutes=5), now - timedelta(days=40), now - timedelta(days=300)):
        assert parse_timestamp(f"{moment:%b %d %H:%M:%S}", UTC) == int(moment.replace(microsecond=0).timestamp()) * 10**9
    ahead = now + timedelta(days=40)
    assert parse_timestamp(f"{ahead:%b} {ahead.day} {ahead:%H:%M:%S}", UTC) < time.time_ns()
    leap = datetime.fromtimestamp(parse_timestamp("Feb 29 10:00:00", UTC) // 10**9, UTC)
    assert (leap.month, leap.day) == (2, 29)
    assert leap <= now + timedelta(days=2)


def test_layouts_read_what_they_match() -> None:
    assert parse_layout("03-17 16:13:38.811", LAYOUTS["month_day"], UTC) % 10**9 == 811_000_000
    assert parse_layout("0102 15:04:05.123456", LAYOUTS["glog"], UTC) % 10**9 == 123_456_000


def test_civil_seconds_agrees_with_the_calendar() -> None:
    assert civil_seconds(2024, 2, 29, 12, 0, 0, UTC) == nanos(2024, 2, 29, 12) // 10**9
    assert civil_seconds(2023, 2, 29, 12, 0, 0, UTC) == 0
    assert civil_seconds(1, 1, 1, 0, 0, 0, timezone(timedelta(hours=14))) == 0


@settings(max_examples=200, deadline=None)
@given(
    microseconds=st.integers(40_000_000_000_000, 7_000_000_000_000_000),
    spelling=st.sampled_from(["%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S.%fZ", "%Y/%m/%d %H:%M:%S,%f", "%d/%b/%Y:%H:%M:%S.%f", "%a %b %d %H:%M:%S.%f %Y"]),
)
def test_what_was_spelled_is_read_back(microseconds: int, spelling: str) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    assert parse_timestamp(moment.strftime(spelling), UTC) == microseconds * 1_000


@settings(max_examples=300, deadline=None)
@given(
    text=st.one_of(
        st.text(max_size=50), st.from_regex(r"[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4}[T _-][0-9]{1,2}[:.][0-9_ ]{2}[:.][0-9]{2}.{0,12}", fullmatch=True)
    )
)
def test_no_text_makes_parsing_fail(text: str) -> None:
    assert 0 <= parse_timestamp(text, BERLIN) < 2**63
    assert 0 <= parse_iso(text, BERLIN) < 2**63
