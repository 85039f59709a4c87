"""Timestamps as nanoseconds since 1970, from every layout that logs write them in.

Every reader returns 0 for what is not a time (or not one between 1970 and 2262, which is what 64 bits hold) and
never raises: a line with a bad stamp is still a line. Local times are taken in the zone that the caller gives.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LIMIT: Final = 2**63
_DAY: Final = 86_400
_DATE_MARKS: Final = ("-", "/", ".")
_TIME_MARKS: Final = (":", ".")
_MONTHS: Final = {name: number for number, name in enumerate(("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1)}

_DOW = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MON = "(?P<b>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_HMS = r"(?P<H>[0-2]?\d):(?P<M>[0-5]\d):(?P<S>[0-6]\d)"
_FRACTION = r"(?:[.,:](?P<f>\d{1,9}))?"
# Java 20 and later write a narrow space in front of it.
_HALF = r"(?P<p>[ \u202f]?[AaPp][Mm]\b)?"
_HMS2 = r"(?P<H>[0-2]?\d):?(?P<M>[0-5]\d):?(?P<S>[0-6]\d)"
_NAMED: Final = {
    **{"Z": 0, "UTC": 0, "GMT": 0, "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3, "MSK": 3, "JST": 9, "KST": 9},
    **{"EST": -5, "EDT": -4, "PST": -8, "PDT": -7, "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT": 13},
}
"""Hours that zones are ahead of UTC, by their short names. Left out: names that several zones have (BST, CST, IST, MST)."""
_NAMES = "|".join(name for name in _NAMED if len(name) > 2)
_ZONE = rf"(?P<z> ?Z\b| ?(?:{_NAMES})\b| ?[+-]\d{{2}}:?\d{{2}})"


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """One way of writing a time. `pattern` has named groups; `embedded` is the same without groups, to build into others."""

    name: str
    pattern: str
    embedded: str
    regex: re.Pattern[str]


def _layout(name: str, pattern: str) -> Layout:
    return Layout(name, pattern, re.sub(r"\(\?P<\w+>", "(?:", pattern), re.compile(pattern, re.ASCII))


LAYOUTS: Final[dict[str, Layout]] = {
    layout.name: layout
    for layout in (
        # 2015-10-18 18:01:47,978 · 2003-10-11T22:14:15.003Z · 2005-06-03-15.42.50.675872 · 2024/01/02 10:00:00 +0100
        _layout(
            "iso",
            r"(?P<y>[12]\d{3})[-/.](?P<m>[01]?\d)[-/.](?P<d>[0-3]?\d)[T _-]{1,2}(?P<H>[0-2]?\d)[:.](?P<M>[0-5]\d)[:.](?P<S>[0-6]\d)"
            rf"{_FRACTION}{_HALF}{_ZONE}?",
        ),
        # 14/Oct/2007:16:18:35 +0100
        _layout("clf", rf"(?P<d>[0-3]?\d)/{_MON}/(?P<y>\d{{4}}):{_HMS}{_FRACTION}(?P<z> [+-]\d{{4}})?"),
        # Sun Dec 04 04:47:44 2005 · Sun Aug 18 17:17:45:123 2019 · Thu Jun  1 10:00:00.123456 UTC 2023
        _layout("ctime", rf"{_DOW} {_MON} +(?P<d>[0-3]?\d) {_HMS}{_FRACTION} (?:(?P<z>{_NAMES}|[+-]\d{{4}}) |[A-Z]{{3,4}} )?(?P<y>\d{{4}})"),
        # Wed Aug 01 2007 10:36:52:181
        _layout("ctime_year_first", rf"{_DOW} {_MON} +(?P<d>[0-3]?\d) (?P<y>\d{{4}}) {_HMS}{_FRACTION}"),
        # Jun 14 15:16:01 · Jun 14 2005 15:16:01
        _layout("syslog", rf"{_MON} +(?P<d>[0-3]?\d)(?: (?P<y>\d{{4}}))? {_HMS}(?:\.(?P<f>\d{{1,9}}))?"),
        # Jan 05, 2024 3:04:05 PM
        _layout("american", rf"{_MON} +(?P<d>[0-3]?\d), (?P<y>\d{{4}}),? {_HMS}{_FRACTION}{_HALF}"),
        # Fri, 05 Jan 2024 03:04:05 +0000 · 05-Jan-2024 03:04:05.123
        _layout("rfc2822", rf"(?:{_DOW}, )?(?P<d>[0-3]?\d)[ -]{_MON}[ -](?P<y>\d{{4}})[ T:]{_HMS}{_FRACTION}{_ZONE}?"),
        # 08/15/2011 14:00:00 · 8/15/2011 2:00:00 PM · 01-02-2024 10:00:00.123 +0000 (splunkd)
        _layout("slash", rf"(?P<m>[0-3]?\d)[/-](?P<d>[0-3]?\d)[/-](?P<y>\d{{4}}),?[ T-]{_HMS}{_FRACTION}{_HALF}{_ZONE}?"),
        # 17/06/09 20:10:40
        _layout("slash_short", rf"(?P<yy>\d{{2}})/(?P<m>[0-3]\d)/(?P<d>[0-3]\d) {_HMS}{_FRACTION}"),
        # 03.05.2014 09:04:14
        _layout("dotted", rf"(?P<d>[0-3]?\d)\.(?P<m>[01]?\d)\.(?P<y>\d{{4}}),?[ T]+{_HMS}{_FRACTION}"),
        # 20171223-22:15:29:606 · 20211116085901 · 20240102T030405Z
        _layout(
            "compact",
            rf"(?P<y>(?:19|20)\d{{2}})(?P<m>[01]\d)(?P<d>[0-3]\d)[T -]?{_HMS2}{_FRACTION}(?P<z>Z|[+-]\d{{2}}:?\d{{2}})?",
        ),
        # 081109 203615
        _layout("compact_short", r"(?P<yy>\d{2})(?P<m>[01]\d)(?P<d>[0-3]\d) (?P<H>[0-2]\d)(?P<M>[0-5]\d)(?P<S>[0-6]\d)"),
        # 03-17 16:13:38.811
        _layout("month_day", rf"(?P<m>[01]\d)-(?P<d>[0-3]\d) {_HMS}[.,](?P<f>\d{{1,6}})"),
        # 0102 15:04:05.000000 (behind the level letter of glog)
        _layout("glog", rf"(?P<m>[01]\d)(?P<d>[0-3]\d) {_HMS}\.(?P<f>\d{{6}})"),
        # 1117838570 · 1433188255.253 · 1445144423722
        _layout("epoch", r"(?P<e>[12]\d{9}(?:\d{9}|\d{6}|\d{3})?(?:\.\d{1,9})?)"),
    )
}
"""Known layouts in the order of trial, most specific first where two could take the same text."""


def epoch_nanos(value: object) -> int:
    """Returns nanoseconds for seconds, milliseconds, microseconds or nanoseconds since 1970 (told apart by magnitude), or 0.

    Takes integers, floats and decimal strings. Values before 1973 are not taken: a small number in a time field is a duration.
    """
    if isinstance(value, bool):
        return 0
    if isinstance(value, int):
        whole, digits = value, ""
    elif isinstance(value, float):
        if not math.isfinite(value) or not 0 < value < 1e19:
            return 0
        text = repr(value)
        if "e" in text:
            text = f"{value:.0f}"
        head, _, digits = text.partition(".")
        whole = int(head)
    elif isinstance(value, str):
        head, _, digits = value.strip().replace(",", ".").partition(".")
        if not (head.isascii() and head.isdigit() and len(head) <= 19) or (digits and not (digits.isascii() and digits.isdigit())):
            return 0
        whole = int(head)
    else:
        return 0
    if whole < 100_000_000:
        return 0
    if whole < 10**11:
        power = 9
    elif whole < 10**14:
        power = 6
    elif whole < 10**17:
        power = 3
    else:
        power = 0
    nanos = whole * 10**power + (int(digits[:power].ljust(power, "0")) if power and digits else 0)
    return nanos if nanos < _LIMIT else 0


def civil_seconds(year: int, month: int, day: int, hour: int, minute: int, second: int, zone: tzinfo) -> int:
    """Returns seconds since 1970 of a calendar time in `zone`, or 0 when there is no such time. Second 60 counts as 59."""
    try:
        seconds = int((datetime(year, month, day, hour, minute, min(second, 59), tzinfo=zone) - _EPOCH).total_seconds())
    except (ValueError, OverflowError):
        return 0
    return seconds if 0 < seconds < _LIMIT // 10**9 else 0


@lru_cache(maxsize=65_536)
def _iso_seconds(text: str, zone: tzinfo) -> int:
    """Reads the 19 characters of `yyyy-mm-dd hh:mm:ss`; -1 when they are not written so."""
    if text[4:5] not in _DATE_MARKS or text[13:14] not in _TIME_MARKS or text[10:11] not in "T _-":
        return -1
    second = text[17:]
    try:
        minute = _minute(text[:4], text[5:7], text[8:10], text[11:13], text[14:16], zone)
        if minute and second.isdigit():
            return minute + min(int(second), 59)
        return civil_seconds(int(text[:4]), int(text[5:7]), int(text[8:10]), int(text[11:13]), int(text[14:16]), int(second), zone)
    except ValueError:
        return -1


@lru_cache(maxsize=16_384)
def _minute(year: str, month: str, day: str, hour: str, minute: str, zone: tzinfo) -> int:
    """Returns seconds since 1970 of the start of a minute (offsets change between minutes), or 0 when there is none; raises ValueError on no numbers."""
    seconds = civil_seconds(int(year), int(month), int(day), int(hour), int(minute), 0, zone)
    return seconds if seconds + 60 < _LIMIT // 10**9 else 0


@lru_cache(maxsize=1_024)
def _offset(text: str) -> tzinfo | None:
    """Returns the zone that a suffix (`Z`, `CET`, `+0100`, `-07:00`) names, or None."""
    text = text.strip()
    if text.isalpha():
        return timezone(timedelta(hours=_NAMED[text])) if text in _NAMED else None
    digits = text[1:].replace(":", "")
    minutes = int(digits[:2]) * 60 + int(digits[2:4])
    if minutes >= 24 * 60:
        return None
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))


_COLONS: Final = {"clf": 3, "ctime": 2, "ctime_year_first": 2, "syslog": 2, "slash": 2, "slash_short": 2, "dotted": 2}
"""Colons of a time that has no fraction behind a colon and no zone with one, by its layout."""

_ISO_TAIL = re.compile(r"(?:[.,:](\d{1,9})\d*)?( ?[A-Z]{1,4}| ?[+-]\d{2}:?\d{2})?", re.ASCII)
_SCALE: Final = tuple(10 ** (9 - digits) for digits in range(10))


def parse_iso(text: str, zone: tzinfo) -> int:
    """Reads a year-first time of the layout `iso`; the part up to the second is cached."""
    tail = text[19:]
    if tail[-1:] == "Z":
        tail, zone = tail[:-1], UTC
    fraction = tail[1:]
    if not tail:
        nanos = 0
    elif tail[0] in ".,:" and len(fraction) < 10 and fraction.isdigit() and fraction.isascii():
        nanos = int(fraction) * _SCALE[len(fraction)]
    else:
        match = _ISO_TAIL.fullmatch(tail)
        if match is None:
            return _parse_slow(text, zone, LAYOUTS["iso"], 0)
        digits, suffix = match.groups()
        if suffix:
            named = _offset(suffix)
            if named is None:
                return _parse_slow(text, zone, LAYOUTS["iso"], 0)
            zone = named
        nanos = int(digits) * _SCALE[len(digits)] if digits else 0
    seconds = _iso_seconds(text[:19], zone)
    if seconds < 0:
        return _parse_slow(text, zone, LAYOUTS["iso"], 0)
    return seconds * 1_000_000_000 + nanos if seconds else 0


def parse_layout(text: str, layout: Layout, zone: tzinfo) -> int:
    """Reads `text`, which is known to have the given layout."""
    return parse_stamps((text,), layout, zone)[0]


def parse_stamps(texts: Sequence[str], layout: Layout, zone: tzinfo) -> list[int]:
    """Reads texts that are known to have the given layout, or are empty: 0."""
    if layout.name == "iso":
        return _parse_isos(texts, zone)
    if layout.name == "epoch":
        return list(map(epoch_nanos, texts))
    today = int(time.time() // _DAY)
    known = {text: _parse_by_minute(text, zone, layout, today) for text in set(texts)}
    return [known[text] for text in texts]


def _parse_isos(texts: Sequence[str], zone: tzinfo) -> list[int]:
    times: list[int] = []
    known: dict[str, int] = {}
    for text in texts:
        fraction = text[20:]
        if fraction.isdigit() and text[19] in ".,:" and len(fraction) < 10 and text.isascii():
            moment = text[:19]
            seconds = known.get(moment)
            if seconds is None:
                seconds = known[moment] = _iso_seconds(moment, zone)
            if seconds > 0:
                times.append(seconds * 1_000_000_000 + int(fraction) * _SCALE[len(fraction)])
                continue
        times.append(parse_iso(text, zone) if text else 0)
    return times


@lru_cache(maxsize=16_384)
def _parse_by_minute(text: str, zone: tzinfo, layout: Layout, today: int) -> int:
    """Reads `… hh:mm:ss …` by its minute, which many times share, and any other text as a whole."""
    before, _, after = text.rpartition(":")
    if text.count(":") == _COLONS.get(layout.name) and after[2:3] in ("", " "):
        minute = _parse_slow(f"{before}:00{after[2:]}", zone, layout, today)
        if 0 < minute < _LIMIT - 60_000_000_000:
            return minute + min(int(after[:2]), 59) * 1_000_000_000
    return _parse_slow(text, zone, layout, today)


def parse_compact(text: str, zone: tzinfo) -> int:
    """Reads a time that may be `yyyymmddhhmmss`, which is the fast case, or of another layout without marks."""
    if len(text) == 14 and text[:2] in ("19", "20") and text[12] < "6" and text.isascii() and text.isdigit():
        minute = _minute(text[:4], text[4:6], text[6:8], text[8:10], text[10:12], zone)
        if minute:
            return (minute + int(text[12:])) * 1_000_000_000
    return parse_timestamp(text, zone)


def parse_timestamp(text: str, zone: tzinfo) -> int:
    """Reads a time in any known layout that fills the whole text (white space around it is allowed)."""
    text = text.strip()
    if not 8 <= len(text) <= 48:
        return 0
    if text[4] in "-/." and text[0].isdigit():
        return parse_iso(text, zone)
    return epoch_nanos(text) or _parse_any(text, zone, int(time.time() // _DAY))


@lru_cache(maxsize=16_384)
def _parse_any(text: str, zone: tzinfo, today: int) -> int:
    for layout in LAYOUTS.values():
        if layout.name != "epoch" and layout.regex.fullmatch(text):
            return _parse_slow(text, zone, layout, today)
    return 0


@lru_cache(maxsize=16_384)
def _parse_slow(text: str, zone: tzinfo, layout: Layout, today: int) -> int:
    """Reads any layout by its groups. `today` (days since 1970) makes the cache forget year-less times at midnight."""
    match = layout.regex.fullmatch(text)
    if match is None:
        return 0
    part = match.groupdict()
    if part.get("z"):
        named = _offset(part["z"])
        if named is None:
            return 0
        zone = named
    month = int(part["m"]) if part.get("m") else _MONTHS[part["b"].lower()]
    day, hour, minute, second = int(part["d"]), int(part["H"]), int(part["M"]), int(part["S"])
    if part.get("p"):
        hour = hour % 12 + (12 if part["p"].strip() in ("PM", "pm", "Pm") else 0)
    if part.get("yy") is not None:
        seconds = _short_year_seconds(int(part["yy"]), month, day, hour, minute, second, zone, today)
    elif part.get("y"):
        year = int(part["y"])
        seconds = civil_seconds(year, month, day, hour, minute, second, zone)
        if not seconds and layout.name == "slash":
            # Month first is the common order; a first number above 12 can only be the day.
            seconds = civil_seconds(year, day, month, hour, minute, second, zone)
    else:
        seconds = _yearless_seconds(month, day, hour, minute, second, zone, today)
    if not seconds:
        return 0
    fraction = part.get("f")
    return seconds * 1_000_000_000 + (int(fraction.ljust(9, "0")) if fraction else 0)


def _short_year_seconds(first: int, second: int, third: int, hour: int, minute: int, sec: int, zone: tzinfo, today: int) -> int:
    """Reads `yy/mm/dd` as Hadoop writes it; when that is no date, `mm/dd/yy`, then `dd/mm/yy`.

    What ends in the year that it is, or the one before, and does not begin so, is `mm/dd/yy` too.
    """
    now = datetime.fromtimestamp(today * _DAY, UTC).year - 2000
    if third in (now, now - 1) and first < now - 1 and (seconds := civil_seconds(2000 + third, first, second, hour, minute, sec, zone)):
        return seconds
    return (
        civil_seconds(2000 + first, second, third, hour, minute, sec, zone)
        or civil_seconds(2000 + third, first, second, hour, minute, sec, zone)
        or civil_seconds(2000 + third, second, first, hour, minute, sec, zone)
    )


def _yearless_seconds(month: int, day: int, hour: int, minute: int, second: int, zone: tzinfo, today: int) -> int:
    """Returns the latest such moment that is at most a day ahead: clocks and zones differ, but logs tell the past."""
    latest = (today + 2) * _DAY
    this_year = datetime.fromtimestamp(today * _DAY, UTC).year + 1
    for year in range(this_year, this_year - 10, -1):
        seconds = civil_seconds(year, month, day, hour, minute, second, zone)
        if seconds and seconds <= latest:
            return seconds
    return 0
