"""Time stamps in the spelling of each log, from nanoseconds since 1970. The landscape lives in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

SECOND = 1_000_000_000
"""Nanoseconds."""


def to_second(time_ns: int) -> int:
    """Cuts a time to its second: what a log without fractions can say."""
    return time_ns - time_ns % SECOND


@lru_cache(maxsize=4096)
def _format(second: int, pattern: str) -> str:
    return datetime.fromtimestamp(second, UTC).strftime(pattern)


def access(time_ns: int) -> str:
    """Access logs: `24/Nov/2026:05:59:01 +0000`."""
    return _format(time_ns // SECOND, "%d/%b/%Y:%H:%M:%S +0000")


def nginx_error(time_ns: int) -> str:
    """The error log of nginx: `2026/11/24 05:59:01`."""
    return _format(time_ns // SECOND, "%Y/%m/%d %H:%M:%S")


def syslog(time_ns: int) -> str:
    """RFC 3164: `Nov  4 05:59:01`."""
    return _format(time_ns // SECOND, "%b %e %H:%M:%S")


def iso(time_ns: int) -> str:
    """RFC 3339 with milliseconds: `2026-11-24T05:59:01.123Z`."""
    return f"{_format(time_ns // SECOND, '%Y-%m-%dT%H:%M:%S')}.{time_ns // 1_000_000 % 1000:03d}Z"


def hana(time_ns: int) -> str:
    """HANA traces: `2026-11-24 05:59:01.123456`."""
    return f"{_format(time_ns // SECOND, '%Y-%m-%d %H:%M:%S')}.{time_ns // 1000 % 1_000_000:06d}"


def developer_trace(time_ns: int) -> str:
    """Stamp lines of work process traces: `Tue Nov 24 05:59:01 2026`."""
    return _format(time_ns // SECOND, "%a %b %e %H:%M:%S %Y")


def audit(time_ns: int) -> str:
    """The security audit log: `20261124055901`."""
    return _format(time_ns // SECOND, "%Y%m%d%H%M%S")


def dump(time_ns: int) -> str:
    """Short dumps, in the German locale of the exporting user: `24.11.2026 05:59:01`."""
    return _format(time_ns // SECOND, "%d.%m.%Y %H:%M:%S")


def day(time_ns: int) -> str:
    """The day as ABAP and file names write it: `20261124`."""
    return _format(time_ns // SECOND, "%Y%m%d")


def clock(time_ns: int) -> str:
    """The time of day as ABAP writes it: `055901`."""
    return _format(time_ns // SECOND, "%H%M%S")
