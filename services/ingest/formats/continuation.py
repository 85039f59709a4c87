"""Which lines belong to the record above them: stack traces of Java, Python, Go, .NET and PHP, and indented text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

MAX_LINES: Final = 1_000
"""Lines in one joined record; the next line starts a new one."""
MAX_BYTES: Final = 1_000_000
"""UTF-8 bytes in one joined record."""
QUIET_NANOSECONDS: Final = 5_000_000_000
"""A line that comes later than this after the line above it does not belong to it, where lines carry times."""

_CONTINUES: Final = re.compile(
    r"[ \t]|at [\w.$<]+|Caused by: |Suppressed: |\.\.\. \d+ (?:more|common frames)|Traceback \(most recent call last\):"
    r"|During handling of the above exception|The above exception was the direct cause|goroutine \d+ \[|created by [\w./(*)]+|--- End of |\[signal SIG"
    r"|Stack trace:$|#\d+ \S"
)
STACK_LINE: Final = re.compile(
    r"[ \t]+(?:at \S|\.\.\. \d+ (?:more|common frames)|File \"|--- End of |/\S+\.go:\d+|Caused by: |Suppressed: )"
    r"|at [^\s(]+\(|Caused by: |Suppressed: |\.\.\. \d+ (?:more|common frames)|Traceback \(most recent call last\):"
    r"|During handling of the above exception|The above exception was the direct cause|goroutine \d+ \[|created by [\w./(*)]+|--- End of |\[signal SIG"
    r"|Stack trace:$|#\d+ \S+\(\d+\): "
)
"""Lines that only stack traces have: what joins records that were sent one by one, where an indented line may be an event."""
_EXCEPTION = re.compile(r"(?:[A-Za-z_$][\w$]*\.)+[A-Z][\w$]*(?:Exception|Error|Throwable|Failure|Fault)\b(?:[:\s]|$)")
_MAY_JOIN = re.compile(rf"{_CONTINUES.pattern}|{_EXCEPTION.pattern}")
_GO_FRAME = re.compile(r"[\w./*()\[\]-][\w./*)\[\]-]*+\(")
_GO_EXIT = re.compile(r"exit status \d+$")


class TraceJoiner:
    """Decides line by line whether a line belongs to the record above it, within the bounds of a joined record."""

    __slots__ = ("_continues", "_first", "_go", "_lines", "_may_join", "_python", "_size", "_stamp")

    def __init__(self, *, indented: bool = True) -> None:
        """`indented`: whether indented text belongs to the line above it; else only what looks like a stack trace does."""
        self._continues = (_CONTINUES if indented else STACK_LINE).match
        self._may_join = _MAY_JOIN.match
        self._first = ""
        self._lines = self._size = self._stamp = 0
        self._python = self._go = False

    def takes(self, line: str, stamp: int = 0) -> bool:
        """Returns whether the line joins the record above it; if not, it starts a record.

        `stamp` is when the line was written, in nanoseconds since 1970; 0 when that is not known.
        """
        joins = False
        if self._python or self._go or self._may_join(line):
            joins = self._belongs(line, stamp) if self._lines else False
            self._python = self._python if joins else line.startswith("Traceback (most")
            self._go = self._go and joins
        self._stamp = stamp
        if joins:
            length = len(line.encode("utf-8", "surrogatepass")) + 1
            if self._lines < MAX_LINES and self._size + length <= MAX_BYTES:
                self._lines += 1
                self._size += length
                return True
        self._first = line
        self._lines = 1
        self._size = len(line)
        return False

    def _belongs(self, line: str, stamp: int) -> bool:
        if stamp and self._stamp and not -QUIET_NANOSECONDS <= stamp - self._stamp <= QUIET_NANOSECONDS:
            return False
        if self._continues(line):
            if line.startswith("Traceback (most"):
                self._python = True
            elif line.startswith("goroutine "):
                self._go = True
            return True
        if self._python:
            # The lines of a traceback are indented; the first one at the margin names the exception.
            self._python = line[0] in " \t"
            return True
        if self._go:
            return (line[-1] == ")" and _GO_FRAME.match(line) is not None) or _GO_EXIT.match(line) is not None
        if self._lines > 1:
            return line[0] in " \t"
        return _EXCEPTION.match(line) is not None and _EXCEPTION.match(self._first) is None


def join_continuations(lines: Iterable[str]) -> list[str]:
    """Joins each line that continues a stack trace, or is indented, to the record above it, and drops blank lines.

    A first line without a record above it is a record. Joined records are bounded in lines and bytes;
    what is beyond the bound becomes a record of its own, so nothing is lost.
    """
    records: list[str] = []
    parts: list[str] = []  # the lines of the last record
    takes = TraceJoiner().takes
    for raw in lines:
        line = raw.rstrip("\r\n")
        if not line or line.isspace():
            continue
        if takes(line):
            parts.append(line)
            continue
        if parts:
            records.append(parts[0] if len(parts) == 1 else "\n".join(parts))
        parts = [line]
    if parts:
        records.append("\n".join(parts))
    return records
