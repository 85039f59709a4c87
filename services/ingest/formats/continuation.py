"""Which lines belong to the record above them: stack traces of Java, Python, Go, .NET, Node.js and PHP, and indented text."""

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

_MARGIN: Final = (
    r"Caused by: |Wrapped by: |Suppressed: |\.\.\. \d+ (?:more|common frames)|Traceback \(most recent call last\):"
    r"|During handling of the above exception|The above exception was the direct cause|goroutine \d+ (?:gp=\S{1,20} m=\S{1,20} (?:mp=\S{1,20} )?)?\["
    r"|created by [\w./(*)]+|--- (?:End of |Ende der |Fin de )|\[signal SIG|Stack trace:$|runtime stack:$"
)
"""Lines at the margin that only stack traces have."""
_CONTINUES: Final = re.compile(rf"[ \t]|at [\w.$<]+|{_MARGIN}|#\d+ \S")
STACK_LINE: Final = re.compile(
    r"[ \t]+(?:at \S|(?:bei|à|en) [^\s(]+\(|\.\.\. \d+ (?:more|common frames)|File \"|--- (?:End of |Ende der |Fin de )|---> \S|panic: "
    r"|/\S+\.go:\d+|Caused by: |Suppressed: |\+ Exception Group Traceback)"
    rf"|at [^\s(]+\(|{_MARGIN}|#\d+ \S+\(\d+\): "
)
"""Lines that only stack traces have: what joins records that were sent one by one, where an indented line may be an event."""
_EXCEPTION = re.compile(r"(?:[A-Za-z_$][\w$]*\.)+[A-Z][\w$]*(?:Exception|Error|Throwable|Failure|Fault)\b(?:[:\s]|$)")
_CLOSES = re.compile(r"[}\])]{1,8}[,;]?$")
"""What closes an object whose members are indented: Node.js writes one below the trace of an error with properties."""
# java.util.logging writes stamp, class and method on one line, and level and message on the next, unless told otherwise.
_LOGGER_HEAD = re.compile(r"[A-Z][a-z]{2} \d\d, \d{4} \d{1,2}:\d\d:\d\d [AP]M [\w.$<>/-]{1,200}(?: [\w.$<>]{1,200})?$", re.ASCII)
LOGGER_LEVEL: Final = r"(?:SEVERE|WARNING|INFO|CONFIG|FINE|FINER|FINEST)"
_LEVEL_LINE = re.compile(rf"{LOGGER_LEVEL}: ")
_MAY_JOIN = re.compile(rf"{_CONTINUES.pattern}|{_EXCEPTION.pattern}|{_CLOSES.pattern}|{_LEVEL_LINE.pattern}")
_GO_FRAME = re.compile(r"[\w./*()\[\]-][\w./*)\[\]-]*+\(")
_GO_END = re.compile(r"exit status \d+$|[a-z][a-z0-9]{1,6} +0x[0-9a-f]+$")
"""What follows the goroutines: the status, or the registers of the processor."""


class TraceJoiner:
    """Decides line by line whether a line belongs to the record above it, within the bounds of a joined record."""

    __slots__ = ("_continues", "_first", "_go", "_head", "_indented", "_lines", "_may_join", "_python", "_size", "_stamp", "_told")

    def __init__(self, *, indented: bool = True) -> None:
        """`indented`: whether indented text belongs to the line above it; else only what looks like a stack trace does."""
        self._continues = (_CONTINUES if indented else STACK_LINE).match
        self._may_join = _MAY_JOIN.match
        self._first = ""
        self._lines = self._size = self._stamp = 0
        self._python = self._go = False
        self._told = self._indented = False
        self._head = 1  # lines in front of a stack trace

    def takes(self, line: str, stamp: int = 0) -> bool:
        """Returns whether the line joins the record above it; if not, it starts a record.

        `stamp` is when the line was written, in nanoseconds since 1970; 0 when that is not known.
        """
        joins = False
        if self._python or self._go or self._may_join(line):
            joins = self._belongs(line, stamp) if self._lines else False
            self._python = self._python if joins else line.startswith("Traceback (most")
            self._go = self._go and joins
            self._indented = joins and line[:1] in " \t"
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
        self._head = 1
        self._told = self._indented = False
        return False

    def pass_whole(self, text: str) -> None:
        """Notes that the text which was asked for last has several lines: a Python traceback in it may have come to its end."""
        if "Traceback (most" in text and text[text.rfind("\n") + 1 :][:1] not in " \t":
            self._python, self._told = False, True

    def _belongs(self, line: str, stamp: int) -> bool:
        if stamp and self._stamp and not -QUIET_NANOSECONDS <= stamp - self._stamp <= QUIET_NANOSECONDS:
            return False
        if self._continues(line):
            if line.startswith("Traceback (most"):
                # A second one belongs to the first only where Python says that it does.
                self._python = not self._told
                return self._python
            if line.startswith(("goroutine ", "runtime stack:")):
                self._go = True
            elif line.startswith(("During handling", "The above exc")):
                self._told = False
            return True
        if self._python:
            # The lines of a traceback are indented; the first one at the margin names the exception.
            self._python = line[0] in " \t"
            self._told = not self._python
            return True
        if self._go:
            return (line[-1] == ")" and _GO_FRAME.match(line) is not None) or _GO_END.match(line) is not None
        if self._lines > self._head:
            return line[0] in " \t" or (self._indented and _CLOSES.match(line) is not None)
        if self._lines == 1 and _LEVEL_LINE.match(line) and _LOGGER_HEAD.match(self._first):
            self._head = 2
            return True
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
