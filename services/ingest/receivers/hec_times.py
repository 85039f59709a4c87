"""Times of the HTTP Event Collector: seconds since 1970, as senders write them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

_TIME = re.compile(rb'"?\s*(\d{1,19})(?:\.(\d{0,9})\d*)?\s*"?')
_USUAL_TIME = rb'(?:"[1-8]\d{9}(?:\.\d{1,9})?"|[1-8]\d{9}(?:\.\d{1,9})?)'
_USUAL_TIMES = re.compile(rb"%b(?:,%b)*+" % (_USUAL_TIME, _USUAL_TIME))
"""Epoch seconds as nearly every sender writes them, with commas between."""
_LARGEST_TIME = 2**63 - 1
_decode_numbers = msgspec.json.Decoder(list[int]).decode


def read_times(times: Sequence[msgspec.Raw | msgspec.UnsetType]) -> list[int]:
    """Returns nanoseconds since 1970; 0 where there is no time. Raises ValueError on what is none."""
    present = [time for time in times if time is not msgspec.UNSET]
    if not present:
        return [0] * len(times)
    joined = b",".join(present)
    if _USUAL_TIMES.fullmatch(joined) is None:
        stamps = [parse_time(bytes(time)) for time in present]
    else:
        numbers = joined.replace(b'"', b"").split(b",")
        fractions = {len(number) - 11 for number in numbers}
        if len(fractions) > 1:
            joined = b",".join([number.ljust(11, b".").ljust(20, b"0") for number in numbers])
        stamps = _decode_numbers(b"[%s]" % joined.translate(None, b'".'))
        digits = max(fractions.pop(), 0) if len(fractions) == 1 else 9
        if digits < 9:  # a sender writes all its times with as many
            stamps = [stamp * 10 ** (9 - digits) for stamp in stamps]
    if len(stamps) == len(times):
        return stamps
    known = iter(stamps)
    return [0 if time is msgspec.UNSET else next(known) for time in times]


def parse_time(raw: bytes) -> int:
    """Returns nanoseconds since 1970 of an epoch time (integer, decimal or either as a string); raises ValueError on others.

    Seconds by Splunk's definition; a magnitude that cannot be seconds is taken as milli-, micro- or nanoseconds,
    as other collectors do.
    """
    match = _TIME.fullmatch(raw) or _TIME.fullmatch(_write_out(raw))
    if match is None:
        raise ValueError("not a time")
    whole, fraction = int(match[1]), (match[2] or b"").ljust(9, b"0")
    if whole < 100_000_000_000:
        return min(whole * 1_000_000_000 + int(fraction), _LARGEST_TIME)
    if whole < 100_000_000_000_000:
        return whole * 1_000_000 + int(fraction[:6])
    if whole < 100_000_000_000_000_000:
        return whole * 1_000 + int(fraction[:3])
    return min(whole, _LARGEST_TIME)


def read_query_time(query: Mapping[str, str]) -> int | None:
    """Returns the time that a query sets for records without one, as `parse_time` does; 0 when it sets none, None when it is none."""
    if "time" not in query:
        return 0
    try:
        return parse_time(query["time"].encode())
    except ValueError:
        return None


def _write_out(raw: bytes) -> bytes:
    """Returns a number that is written with an exponent without it; empty when it is no number."""
    try:
        return b"%.6f" % float(raw.strip(b'" '))
    except ValueError:
        return b""
