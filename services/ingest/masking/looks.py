"""A cheap first look: which texts of a column can hold something to mask at all.

Each rule has a look: an expression that finds a part of whatever the rule finds. All looks together are one expression of
RE2, whose automaton reads a whole column at about a nanosecond per byte, however many rules there are; it is asked for the
next find until there is none. Only the few texts that it stops at are shown to the rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import re2

from services.ingest.masking.rules import MaskingRule

SEPARATOR: Final = "\x1e"
"""Stands between the texts of a joined column (the ASCII record separator)."""

_PLAIN: Final = SEPARATOR.encode()
_AUTOMATON_BYTES: Final = 8 * 1024 * 1024
_BYTES_PER_CHARACTER: Final = 512
"""Memory that an automaton may take, and how much more of it for each character of its expression: with too little RE2 becomes very slow."""


class FirstLook:
    """Finds, for each text of a column, the positions of the rules that can find something in it."""

    def __init__(self, rules: Sequence[MaskingRule]) -> None:
        """Compiles the looks of the rules."""
        self._positions = [position for position, rule in enumerate(rules) if rule.first_look]
        looks = [rules[position].first_look for position in self._positions]
        options = re2.Options()
        options.log_errors = False
        joined = "|".join(f"(?:{look})" for look in looks)
        options.max_mem = _AUTOMATON_BYTES + _BYTES_PER_CHARACTER * len(joined)
        self._any = re2.compile(joined, options) if looks else None
        self._each = re2.Set.SearchSet(options)
        for look in looks:
            self._each.Add(look)
        self._each.Compile()
        self.blind: Final = [position for position, rule in enumerate(rules) if rule.pattern and not rule.first_look]
        """Positions of the rules that must be searched everywhere."""
        self.keyed: Final = [position for position, rule in enumerate(rules) if rule.linear and rule.keys]
        """Positions of the rules of teams that hide attributes by name: their hints say nothing about names."""

    def find(self, column: bytes, separator: bytes, rows: int) -> dict[int, list[int]] | None:
        """Returns positions of rules by row, of `rows` UTF-8 texts each of which stands between two separators.

        Returns None when a text itself holds the separator, so that rows cannot be told apart.
        """
        found: dict[int, list[int]] = {}
        if self._any is None:
            return found
        width = len(separator)
        row, counted, start = -1, 0, 0
        while (match := self._any.search(column, start)) is not None:
            start = column.rfind(separator, 0, match.start() + width)
            row += column.count(separator, counted, start + width)
            counted = start + width
            end = column.find(separator, counted)
            if end < 0:
                break
            found[row] = self._look_at(column[start : end + width])
            start = end  # what bounds a text to the left belongs to its look
        if found and row + column.count(separator, counted) != rows:
            return None
        return found

    def find_each(self, texts: Iterable[bytes]) -> dict[int, list[int]]:
        """Returns the same for texts one by one."""
        if self._any is None:
            return {}
        return {row: self._look_at(_PLAIN + text + _PLAIN) for row, text in enumerate(texts) if self._any.search(_PLAIN + text + _PLAIN)}

    def is_clean(self, text: str) -> bool:
        """Says whether no rule can find anything in a text; False may be a mistake, True is none."""
        if self.blind:
            return False
        return self._any is None or self._any.search(_PLAIN + text.encode("utf-8", "surrogatepass") + _PLAIN) is None

    def _look_at(self, text: bytes) -> list[int]:
        """Returns the positions of the rules whose look finds something: of all, should the automaton not have the memory to tell."""
        return [self._positions[number] for number in sorted(self._each.Match(text) or ())] or self._positions


def add_everywhere(found: dict[int, list[int]], positions: Iterable[int], rows: int) -> Iterator[tuple[int, list[int]]]:
    """Yields rows with positions of rules in their order, some of which are for every row."""
    everywhere = frozenset(positions)
    if not everywhere:
        yield from found.items()
        return
    for row in range(rows):
        yield row, sorted(everywhere.union(found.get(row, ())))
