"""Severities as OpenTelemetry numbers, from the words, letters and numbers that senders use.

The numbers are those of the OpenTelemetry log data model (TRACE 1, DEBUG 5, INFO 9, WARN 13, ERROR 17, FATAL 21)
and the syslog mapping is the one of its appendix B: notice is INFO2, critical is ERROR2, alert is ERROR3.
"""

from __future__ import annotations

import re
from typing import Final

UNKNOWN: Final = 0
TRACE: Final = 1
DEBUG: Final = 5
INFO: Final = 9
NOTICE: Final = 10
WARN: Final = 13
ERROR: Final = 17
CRITICAL: Final = 18
ALERT: Final = 19
FATAL: Final = 21

SYSLOG: Final = (FATAL, ALERT, CRITICAL, ERROR, WARN, NOTICE, INFO, DEBUG)
"""Severity number by the syslog severity 0 (emergency) to 7 (debug)."""

WORDS: Final[dict[str, int]] = {
    "trace": TRACE,
    "verbose": TRACE,
    "trce": TRACE,
    "trc": TRACE,
    "vrb": TRACE,
    "finest": TRACE,
    "t": TRACE,
    "v": TRACE,
    "debug": DEBUG,
    "dbg": DEBUG,
    "dbug": DEBUG,
    "finer": DEBUG,
    "path": DEBUG,
    "d": DEBUG,
    "fine": 6,
    "config": 7,
    "info": INFO,
    "information": INFO,
    "informational": INFO,
    "inf": INFO,
    "log": INFO,
    "ok": INFO,
    "success": INFO,
    "normal": INFO,
    "low": INFO,
    "i": INFO,
    "notice": NOTICE,
    "n": NOTICE,
    "warning": WARN,
    "warn": WARN,
    "medium": WARN,
    "wrn": WARN,
    "w": WARN,
    "error": ERROR,
    "err": ERROR,
    "eror": ERROR,
    "fail": ERROR,
    "severe": ERROR,
    "failure": ERROR,
    "failed": ERROR,
    "high": ERROR,
    "e": ERROR,
    "crit": CRITICAL,
    "critical": FATAL,
    "c": FATAL,
    "alert": ALERT,
    "fatal": FATAL,
    "ftl": FATAL,
    "f": FATAL,
    "panic": FATAL,
    "emerg": FATAL,
    "emergency": FATAL,
}
"""Severity number by lower-case word. `crit` is the syslog word; `critical` is the top level of Python and .NET."""

_USUAL_WORDS: Final = WORDS | {word.upper(): number for word, number in WORDS.items()}

LEVEL_PATTERN: Final = (
    "(?:TRACE|VERBOSE|FINEST|FINER|FINE|CONFIG|DEBUG|INFO(?:RMATION(?:AL)?)?|NOTICE|WARN(?:ING)?|"
    "ERR(?:OR)?|SEVERE|FAILURE|CRIT(?:ICAL)?|ALERT|FATAL|PANIC|EMERG(?:ENCY)?|INF|WRN|DBG|VRB|TRC|FTL)"
)
"""Regular expression of the level words in upper case, without groups: what a log line may call its level."""

_LEADING_WORDS: Final = "trace|trce|debug|dbug|info|notice|warn(?:ing)?|err(?:or)?|fail|severe|crit(?:ical)?|alert|fatal|panic|emerg(?:ency)?"
_LEADING = re.compile(
    rf"[*\[<( ]{{0,4}}({_LEADING_WORDS})[\])>*]{{0,3}}\s?:|\[({_LEADING_WORDS})\]",
    re.IGNORECASE,
)
_LONGEST_LEADING: Final = 18
"""Characters that a leading level can have, its colon among them."""


def severity_of_word(word: str) -> int:
    """Returns the severity number for a level word or letter in any case, or 0."""
    return _USUAL_WORDS.get(word) or WORDS.get(word.strip().lower(), UNKNOWN)


def severity_of_number(level: int) -> int:
    """Returns the severity number for a numeric `level` field, or 0.

    Multiples of ten from 10 to 60 are those of bunyan and pino (10 trace … 60 fatal); 0 to 7 are syslog's.
    """
    if 0 <= level <= 7:
        return SYSLOG[level]
    if level % 10 == 0 and 10 <= level <= 60:
        return (TRACE, DEBUG, INFO, WARN, ERROR, FATAL)[level // 10 - 1]
    return UNKNOWN


def severity_of_priority(priority: int) -> int:
    """Returns the severity number for a syslog PRI (facility * 8 + severity)."""
    return SYSLOG[priority & 7]


def severity_of_status(status: int) -> int:
    """Returns the severity number for an HTTP status: ERROR from 500, WARN from 400, else INFO."""
    if status >= 500:
        return ERROR
    return WARN if status >= 400 else INFO


def leading_severity(message: str) -> tuple[int, str]:
    """Returns number and word of the level that a message opens with (`error: …`, `[error] …`), or (0, "")."""
    match = _LEADING.match(message) if ":" in message[:_LONGEST_LEADING] or message[:1] == "[" else None
    if match is None:
        return UNKNOWN, ""
    word = match.group(1) or match.group(2)
    return severity_of_word(word), word
