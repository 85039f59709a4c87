"""Values of number fields as written in a query: whole numbers, names of severities, times."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from kit.errors import InvalidArgument
from services.search.conditions import LARGEST_SIGNED
from services.search.fields import SEVERITIES, TIME_FIELDS

_WHOLE = re.compile(r"-?[0-9]{1,19}")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 1_000_000_000
DAY = 86_400 * SECOND


def read_span(field: str, text: str) -> tuple[int, int]:
    """Returns the lowest and the highest number that a value stands for.

    `error` stands for 17 to 20, `2026-11-24` for a whole day, a number for itself. Raises InvalidArgument.
    """
    if _WHOLE.fullmatch(text) and abs(int(text)) <= LARGEST_SIGNED:
        return int(text), int(text)
    if field == "severity_number":
        span = SEVERITIES.get(text.lower())
        if span is None:
            raise InvalidArgument(f"{text!r} is no severity; write a number from 0 to 24 or one of {', '.join(SEVERITIES)}")
        return span
    if field in TIME_FIELDS:
        return _read_time(text)
    raise InvalidArgument(f"{field} is a whole number, not {text!r}")


def _read_time(text: str) -> tuple[int, int]:
    day, instant = _DAY.fullmatch(text), _TIME.fullmatch(text)
    try:
        if day:
            start = _to_nanoseconds(datetime.fromisoformat(text).replace(tzinfo=UTC))
            return start, start + DAY - 1
        if instant:
            whole = _to_nanoseconds(datetime.fromisoformat(instant[1].upper() + instant[3].upper().replace("Z", "+00:00")))
            exact = whole + int((instant[2] or "").ljust(9, "0"))
            return exact, exact
    except (ValueError, OverflowError):
        raise InvalidArgument(f"there is no time {text!r}") from None
    raise InvalidArgument(f"{text!r} is no time; write 2026-11-24, 2026-11-24T06:00:00Z or nanoseconds since 1970")


def _to_nanoseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(seconds=1) * SECOND
