"""One regular expression over many texts at once.

Formats read the texts of a source together: joined, one a line, they are matched by PCRE2's compiled code in one call,
which is several times faster than a call of `re` for each. Texts of several lines are matched by `re`, one by one; the
answers are the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import pcre2
import structlog

log = structlog.get_logger()

FEW: Final = 4
"""Fewer texts are matched faster by `re`."""
_MARK: Final = "\x1f"
"""Unit separator: behind each group of a match. Texts that hold one are matched by `re`."""
_PART = re.compile(r"\\.|\[\^?|.", re.DOTALL)


class LinePattern:
    """A pattern that is matched at the start of each text; it must reach to the end of a text of one line. Compiled at its first use."""

    __slots__ = ("_flags", "_groups", "_lines", "_match", "_nothing", "_pattern", "_template")

    def __init__(self, pattern: str, flags: int = 0, *, groups: int = 0) -> None:
        """Takes the syntax of `re`, without conditions and references; classes are those of ASCII. `flags` may add re.DOTALL.

        `groups`: how many groups are of interest, the first ones; 0: all.
        """
        self._pattern = pattern
        self._flags = flags | re.ASCII
        self._lines: Any = None
        self._match: Callable[[str], re.Match[str] | None] | None = None
        self._groups = groups
        self._nothing: tuple[str, ...] = ()
        self._template = ""

    def read(self, texts: Sequence[str]) -> list[tuple[str, ...]]:
        """Returns the groups of each text, "" for one that took no part. Of a text that does not match all are empty."""
        if self._lines is None:
            self._compile()
        if len(texts) < FEW:
            return list(map(self._read_one, texts))
        if _is_usual("".join(texts)):
            return self._read_joined("\n".join((*texts, "")), len(texts)) or list(map(self._read_one, texts))
        usual = [text for text in texts if _is_usual(text)]
        found = iter(self.read(usual) if usual else ())
        return [next(found) if _is_usual(text) else self._read_one(text) for text in texts]

    def _read_joined(self, joined: str, lines: int) -> list[tuple[str, ...]] | None:
        """Returns the groups of each line, or None when the engine gives up or the matches are not one for each line."""
        try:
            text, matches = self._lines.subn(self._template, joined)
        except (pcre2.LibraryError, UnicodeEncodeError):  # out of its stack or of the steps that a match may take; half a surrogate pair
            return None
        groups = text.split(_MARK)
        groups.pop()  # behind the last mark
        if matches != lines or len(groups) != lines * self._groups:
            return None
        return list(zip(*[iter(groups)] * self._groups, strict=True))

    def _read_one(self, text: str) -> tuple[str, ...]:
        if self._match is None:
            self._match = re.compile(self._pattern, self._flags).match
        found = self._match(text)
        return self._nothing if found is None else found.groups("")[: self._groups]

    def _compile(self) -> None:
        # (?r): letters that are matched in any case are those of ASCII, as the flag says for `re`.
        pattern = rf"(?r)^(?:{within_line(self._pattern)}|.*)\n"
        try:
            self._lines = pcre2.compile(pattern, flags=pcre2.MULTILINE | pcre2.ASCII, jit=True)
        except pcre2.LibraryError as error:
            log.warning("no memory may be made executable: patterns are not compiled to machine code", reason=str(error))
            self._lines = pcre2.compile(pattern, flags=pcre2.MULTILINE | pcre2.ASCII)
        self._groups = self._groups or self._lines.groups
        self._nothing = ("",) * self._groups
        self._template = "".join(f"${number}{_MARK}" for number in range(1, self._groups + 1))


def _is_usual(text: str) -> bool:
    return "\n" not in text and _MARK not in text


def within_line(pattern: str) -> str:
    """Returns a pattern that matches what the given one matches in a text of one line, and never goes beyond a line end."""
    parts: list[str] = []
    opened = ""
    for part in _PART.findall(pattern):
        if opened:
            parts.append(r" \t\r\f\x0b" if part == r"\s" and opened == "[" else r"\[" if part == "[" else part)
            if part == "]":
                opened = ""
        elif part[0] == "[":
            opened = part
            parts.append(r"[^\n" if part == "[^" else part)
        else:
            parts.append(r"[ \t\r\f\x0b]" if part == r"\s" else part)
    return "".join(parts)
