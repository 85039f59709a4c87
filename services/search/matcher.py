"""Conditions as predicates on decoded lines: the live tail asks them of every event as it arrives.

They select exactly the events that an engine selects; a property test holds both to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from services.search.conditions import (
    All,
    Attribute,
    AttributePrefix,
    AttributePresent,
    AttributeRange,
    Condition,
    Either,
    Everything,
    Not,
    Number,
    Present,
    Text,
    TextPrefix,
    Words,
    read_number,
)
from services.search.lines import Leaf, Line, flatten_attributes
from services.search.selection import Selection
from services.search.words import MAX_WORD_BYTES, is_searchable, split_words


class Candidate:
    """A decoded line with what several conditions ask of it, worked out once."""

    __slots__ = ("_leaves", "_words", "line")

    def __init__(self, line: Line) -> None:
        self.line = line
        self._leaves: dict[str, list[Leaf]] | None = None
        self._words: list[str] | None = None

    @property
    def leaves(self) -> dict[str, list[Leaf]]:
        """The attributes by path."""
        if self._leaves is None:
            self._leaves = flatten_attributes(bytes(self.line.attributes))
        return self._leaves

    @property
    def words(self) -> list[str]:
        """The words of the body."""
        if self._words is None:
            self._words = split_words(self.line.body)
        return self._words


Predicate: TypeAlias = Callable[[Candidate], bool]


def compile_selection(selection: Selection) -> Predicate:
    """Returns a predicate that says whether an event is in a selection."""
    holds = compile_condition(selection.condition)
    start, end = selection.start, selection.end
    return lambda candidate: start <= candidate.line.timestamp < end and holds(candidate)


def compile_condition(condition: Condition) -> Predicate:
    """Returns a predicate that says whether a condition holds for an event."""
    match condition:
        case Everything():
            return lambda _: True
        case All(conditions):
            parts = [compile_condition(part) for part in conditions]
            return lambda candidate: all(part(candidate) for part in parts)
        case Either(conditions):
            parts = [compile_condition(part) for part in conditions]
            return lambda candidate: any(part(candidate) for part in parts)
        case Not(inner):
            holds = compile_condition(inner)
            return lambda candidate: not holds(candidate)
        case Words():
            return _match_words(condition)
        case Text(field, values):
            wanted = frozenset(values)
            return lambda candidate: getattr(candidate.line, field) in wanted
        case TextPrefix(field, prefix):
            return lambda candidate: getattr(candidate.line, field).startswith(prefix)
        case Present(field):
            return lambda candidate: getattr(candidate.line, field) != ""
        case Number(field, low, high):
            return lambda candidate: (low is None or getattr(candidate.line, field) >= low) and (high is None or getattr(candidate.line, field) <= high)
        case Attribute(path, value):
            return _match_value(path, value)
        case AttributePrefix(path, prefix):
            return lambda candidate: any(isinstance(leaf, str) and leaf.startswith(prefix) for leaf in candidate.leaves.get(path, ()))
        case AttributeRange():
            return _match_range(condition)
        case AttributePresent(path):
            below = path + "."
            return lambda candidate: path in candidate.leaves or any(key.startswith(below) for key in candidate.leaves)


def _match_words(condition: Words) -> Predicate:
    """Compares with a regular expression where letters and digits are ASCII, and word by word elsewhere."""
    *first, last = condition.words
    count = len(condition.words)
    rest = f"[a-z0-9]{{0,{MAX_WORD_BYTES - len(last.encode())}}}" if condition.prefix else ""
    search = re.compile("(?<![a-z0-9])" + "[^a-z0-9]+".join(map(re.escape, condition.words)) + rest + "(?![a-z0-9])").search

    def holds(candidate: Candidate) -> bool:
        body = candidate.line.body
        if body.isascii():
            return search(body.lower()) is not None
        words = candidate.words
        for start in range(len(words) - count + 1):
            final = words[start + count - 1]
            fits = final.startswith(last) and is_searchable(final) if condition.prefix else final == last
            if fits and words[start : start + count - 1] == first:
                return True
        return False

    return holds


def _match_value(path: str, value: str) -> Predicate:
    number = read_number(value)
    truth = {"true": True, "false": False}.get(value)

    def equals(leaf: Leaf) -> bool:
        if isinstance(leaf, str):
            return leaf == value
        if isinstance(leaf, bool):
            return leaf is truth
        return number is not None and leaf == number

    return lambda candidate: any(equals(leaf) for leaf in candidate.leaves.get(path, ()))


def _match_range(condition: AttributeRange) -> Predicate:
    low, high, include_low, include_high = condition.low, condition.high, condition.include_low, condition.include_high

    def lies_in(leaf: Leaf) -> bool:
        if isinstance(leaf, str | bool):
            return False
        if low is not None and (leaf < low or (leaf == low and not include_low)):
            return False
        return high is None or leaf < high or (leaf == high and include_high)

    return lambda candidate: any(lies_in(leaf) for leaf in candidate.leaves.get(condition.path, ()))
