"""A cheap first look: which rows of a column can hold something to mask at all.

Looking for forty hints one by one costs more than the rest of the masking. In a large column one table look-up by each
pair of bytes finds the starts of all hints at once, and vector operations find the runs of digits that cards and IBANs
have; a small column is searched in the plain way. A find counts only when the context that its rule asks for follows.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import AnyStr, Final

import numpy as np
from numpy.typing import NDArray

from services.ingest.masking.rules import SHAPES, MaskingRule

SEPARATOR: Final = "\x1e"
"""Stands between the texts of a joined column (the ASCII record separator)."""

_BITS: Final = 64
"""Hints that are told apart; more of them share bits, which costs a look more and loses nothing."""
_HINT_LENGTH: Final = 4
_PADDING: Final = b"\x1e" * 32
_SMALL: Final = 3_000
"""Bytes below which the fixed cost of the vector operations is more than the search itself."""
_FEW: Final = 40
"""Places below which the same holds for finding their rows."""


class HintScanner:
    """Finds, for each rule, the rows of a joined column in which one of its hints or shapes occurs."""

    def __init__(self, rules: Sequence[MaskingRule]) -> None:
        """Builds the tables."""
        self._starts = np.zeros(65_536, dtype=np.bool_)
        self._first = np.zeros(65_536, dtype=np.uint64)
        self._second = np.zeros(65_536, dtype=np.uint64)
        self._owners: list[set[int]] = []
        self._hints: dict[str, list[int]] = {}
        self._shaped: dict[str, list[int]] = {}
        self._contexts: dict[int, re.Pattern[bytes]] = {}
        self.unhinted: list[int] = []
        """Positions of the rules that must be searched everywhere."""
        self.keyed: list[int] = []
        """Positions of the rules of teams that hide attributes by name: their hints say nothing about names."""
        for position, rule in enumerate(rules):
            if rule.context:
                self._contexts[position] = re.compile(rule.context.encode())
            for shape in rule.shapes:
                self._shaped.setdefault(shape, []).append(position)
            if rule.hints:
                self._add_hints(position, rule)
            elif not rule.shapes and rule.pattern:
                self.unhinted.append(position)
            if rule.linear and rule.keys:
                self.keyed.append(position)

    def _add_hints(self, position: int, rule: MaskingRule) -> None:
        for hint in rule.hints:
            start = hint[:_HINT_LENGTH].lower()
            owners = self._hints.setdefault(start, [])
            owners.append(position)
            number = (len(self._hints) - 1) % _BITS if len(owners) == 1 else list(self._hints).index(start) % _BITS
            if number == len(self._owners):
                self._owners.append(set())
            self._owners[number].add(position)
            first, second, bit = _pairs(start[:2]), _pairs(start[2:]), np.uint64(1 << number)
            self._first[first] |= bit
            self._second[second] |= bit
            self._starts[first] = True

    def find_rows(self, data: bytes, rows: int, separator: bytes = SEPARATOR.encode()) -> dict[int, list[int]] | None:
        """Returns rows by rule position for a column of `rows` UTF-8 texts joined by `separator`.

        Returns None when a text itself holds the separator, so that rows cannot be told apart.
        """
        found: dict[int, list[int]] = {}
        for position, places in self._find_small(data) if len(data) < _SMALL else self._find_large(data):
            context = self._contexts.get(position)
            real = places if context is None else [place for place in places if context.match(data, place)]
            if real:
                found.setdefault(position, []).extend(real)
        if not found:
            return {}
        if data.count(separator) != rows - 1:
            return None
        ends = list(accumulate(map(len, data.split(separator)), lambda end, length: end + len(separator) + length))
        return {position: _rows_of(places, ends) for position, places in found.items()}

    def _find_small(self, data: bytes) -> Iterator[tuple[int, list[int]]]:
        # As text with a character for each byte: Python looks for texts ten times faster than for bytes.
        lower = data.decode("latin-1").lower()
        for hint, positions in self._hints.items():
            if hint in lower:
                places = _find_all(lower, hint)
                yield from ((position, places) for position in positions)
        for shape, positions in self._shaped.items():
            places = [match.start() for match in SHAPES[shape].finditer(data)]
            if places:
                yield from ((position, places) for position in positions)

    def _find_large(self, data: bytes) -> Iterator[tuple[int, list[int]]]:
        padded = data + _PADDING
        for offset in (0, 1):
            pairs = np.frombuffer(padded, dtype="<u2", offset=offset, count=(len(padded) - offset) // 2)
            starts = np.flatnonzero(np.take(self._starts, pairs[:-1]))
            bits = self._first[pairs[starts]] & self._second[pairs[starts + 1]]
            real = np.flatnonzero(bits)
            if not len(real):
                continue
            bits, places = bits[real], starts[real] * 2 + offset
            present = int(np.bitwise_or.reduce(bits))
            for number, owners in enumerate(self._owners):
                if present >> number & 1:
                    chosen = places[(bits >> np.uint64(number)) & np.uint64(1) == 1].tolist()
                    yield from ((position, chosen) for position in owners)
        if self._shaped:
            yield from self._find_shapes(np.frombuffer(padded, dtype=np.uint8))

    def _find_shapes(self, data: NDArray[np.uint8]) -> Iterable[tuple[int, list[int]]]:
        digit = (data - np.uint8(48)) < 10
        for shape, positions in self._shaped.items():
            hits = (_card_digits(digit) if shape == "card" else _iban_heads(data, digit)).tolist()
            if hits:
                yield from ((position, hits) for position in positions)


def _find_all(data: AnyStr, text: AnyStr) -> list[int]:
    """Returns where a text stands."""
    return [match.start() for match in re.finditer(re.escape(text), data)]


def _rows_of(places: list[int], ends: list[int]) -> list[int]:
    """Returns the rows that hold the places, each once and in order."""
    if len(places) < _FEW:
        return sorted({bisect_left(ends, place) for place in places})
    rows: list[int] = np.unique(np.searchsorted(ends, places)).tolist()
    return rows


def _card_digits(digit: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Returns where 13 digits in a row start, or groups of 4-4-4 or 4-6-4 with one character between."""
    two = digit[:-1] & digit[1:]
    four = two[:-2] & two[2:]
    start = np.flatnonzero(four[:-16])
    run = four[start + 4] & four[start + 8] & digit[start + 12]
    fours = four[start + 5] & four[start + 10]
    amex = four[start + 5] & four[start + 7] & four[start + 12]
    starts: NDArray[np.int64] = start[run | fours | amex]
    return starts


def _iban_heads(data: NDArray[np.uint8], digit: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Returns where two capitals and two digits stand, followed by a digit, a capital or a blank."""
    upper = (data - np.uint8(65)) < 26
    start = np.flatnonzero(upper[1:-4] & digit[2:-3])
    blank = data[start + 4] == 32
    heads: NDArray[np.int64] = start[upper[start] & digit[start + 3] & (digit[start + 4] | upper[start + 4] | blank)]
    return heads


def _pairs(text: str) -> NDArray[np.int64]:
    """Returns the pairs of bytes (little endian) that stand for one or two characters in any case; none means any pair."""
    first = _cases(text[0]) if text else range(256)
    second = _cases(text[1]) if len(text) > 1 else range(256)
    return np.array([low | high << 8 for low in first for high in second], dtype=np.int64)


def _cases(character: str) -> list[int]:
    return sorted({ord(character.lower()), ord(character.upper())})
