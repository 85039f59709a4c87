"""Which lines belong to the record above them: stack traces of Java, Python, Go and .NET, and indented text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

MAX_LINES: Final = 1_000
"""Lines in one joined record; the next line starts a new one."""
MAX_BYTES: Final = 1_000_000
"""UTF-8 bytes in one joined record."""

_CONTINUES = re.compile(
    r"[ \t]|at [\w.$<]+|Caused by: |Suppressed: |\.\.\. \d+ (?:more|common frames)|Traceback \(most recent call last\):"
    r"|During handling of the above exception|The above exception was the direct cause|goroutine \d+ \[|created by [\w./(*)]+|--- End of "
)
_EXCEPTION = re.compile(r"(?:[A-Za-z_$][\w$]*\.)+[A-Z][\w$]*(?:Exception|Error|Throwable|Failure|Fault)\b(?:[:\s]|$)")
_GO_FRAME = re.compile(r"[\w./*()\[\]-]+\(.*\)$|exit status \d+$")


def join_continuations(lines: Iterable[str]) -> list[str]:
    """Joins each line that continues a stack trace, or is indented, to the record above it, and drops blank lines.

    A first line without a record above it is a record. Joined records are bounded in lines and bytes;
    what is beyond the bound becomes a record of its own, so nothing is lost.
    """
    records: list[str] = []
    parts: list[str] = []  # the lines of the last record
    size = 0
    python = go = False
    continues = _CONTINUES.match
    for raw in lines:
        line = raw.rstrip("\r\n")
        if not line or line.isspace():
            continue
        joins = False
        if parts:
            if continues(line):
                joins = True
                if line.startswith("Traceback (most"):
                    python = True
                elif line.startswith("goroutine "):
                    go = True
            elif python:
                # The first line at the margin after a traceback names the exception.
                joins, python = True, False
            elif (go and _GO_FRAME.match(line)) or (len(parts) == 1 and _EXCEPTION.match(line) and not _EXCEPTION.match(parts[0])):
                joins = True
        if joins:
            length = len(line.encode("utf-8", "surrogatepass")) + 1
            if len(parts) < MAX_LINES and size + length <= MAX_BYTES:
                parts.append(line)
                size += length
                continue
        elif python or go:
            python = go = False
        if parts:
            records.append(parts[0] if len(parts) == 1 else "\n".join(parts))
        parts = [line]
        size = len(line)
        if not joins and line.startswith("Traceback (most"):
            python = True
    if parts:
        records.append("\n".join(parts))
    return records
