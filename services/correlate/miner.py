"""The template miner: looks at all distinct fingerprints and puts those together that are one template.

Fingerprints are stateless, so a word that varies (a user, a table, a product) gives each of its values a fingerprint of
its own. With all of them in sight it shows: a place in a text is a variable when many texts are equal but for it. This
is the idea of Drain (He et al., ICWS 2017) turned round: not a tree that decides at first sight, but statistics over
everything seen, which may be revised.

- Texts are compared word by word; texts of one length that are equal but for one place are neighbours.
- A place is a variable when enough different words were seen in it: fewer when the words carry digits, more when they
  are plain words, because "opened" and "closed" are two events and not one.
- Merging is repeated until nothing changes, so that texts that vary in several places meet step by step.
- A text that is longer at a known variable (two words instead of one) joins when what is before and behind is equal.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

VARIABLE = "<*>"
MAX_PIECES = 160
"""Longer texts are not compared: they are documents, not lines."""
LEAST_FRAME = 3
"""Constant words around a place without which it is the event that varies and not a part of it: `<*> startup succeeded`."""
VALUES_TYPED = 2
VALUES_WITH_DIGITS = 3
VALUES_PLAIN = 5
MAX_STRETCH = 4
"""Words that a variable may hold."""
_ROUNDS = 5
_REMEMBERED = 65_536
"""Texts whose places are not worked out again at every revision."""
_SEPARATOR = re.compile(r"(\s+|[=:,;()\[\]])")
_DIGIT = re.compile(r"\d")

Words = tuple[str, ...]


@dataclass(slots=True)
class _Group:
    """Fingerprints that are one template; the founder was there first and gives it its id."""

    pieces: Words
    """Words and what separates them: joined, they are the text."""
    members: list[int]


class Miner:
    """Keeps every fingerprint's text and the grouping of them. Groups only grow."""

    def __init__(self) -> None:
        self._groups: dict[int, _Group] = {}
        self._pending = False
        self.mapping: dict[int, int] = {}
        """Fingerprint to founder, where they differ."""

    def __len__(self) -> int:
        return len(self._groups) + len(self.mapping)

    def __contains__(self, fingerprint: int) -> bool:
        return fingerprint in self._groups or fingerprint in self.mapping

    def add(self, fingerprint: int, text: str) -> None:
        """Adds a fingerprint with its template text, in order of first sight."""
        if fingerprint not in self:
            self._groups[fingerprint] = _Group(split_text(text), [fingerprint])
            self._pending = True

    def restore(self, template: int, text: str, members: Iterable[int]) -> None:
        """Takes up a template that was formed before, with its fingerprints."""
        self._groups[template] = _Group(split_text(text), list(members))
        self.mapping.update((member, template) for member in self._groups[template].members if member != template)

    def text_of(self, template: int) -> str:
        """Returns the text of a template, with its variables."""
        return "".join(self._groups[template].pieces)

    def revise(self) -> dict[int, int]:
        """Merges what has turned out to be one; returns the founders that were merged away and those that took them in."""
        moved: dict[int, int] = {}
        if not self._pending:
            return moved
        self._pending = False
        for _ in range(_ROUNDS):
            step = self._merge_neighbours()
            step |= self._merge_stretched()
            if not step:
                break
            moved = {source: _follow(step, target) for source, target in moved.items()}
            moved |= {source: _follow(step, target) for source, target in step.items()}
        return moved

    def _merge_neighbours(self) -> dict[int, int]:
        """Merges groups that are equal, or differ in one place that has many values."""
        buckets: dict[tuple[int, int], list[int]] = defaultdict(list)
        for founder, group in self._groups.items():
            for frame in _frames(group.pieces):
                buckets[frame].append(founder)
        moved: dict[int, int] = {}
        for (place, _), members in buckets.items():
            if len(members) < 2:
                continue
            alive = list(dict.fromkeys(_follow(moved, founder) for founder in members))
            values = {self._groups[founder].pieces[place] for founder in alive}
            if len(alive) < 2 or not (len(values) == 1 or is_variable(values)):
                continue
            # A merge in this round may have changed the rest of the text: then the next round decides.
            rests = {(*self._groups[founder].pieces[:place], *self._groups[founder].pieces[place + 1 :]) for founder in alive}
            if len(rests) == 1:
                pieces = self._groups[alive[0]].pieces
                self._groups[alive[0]].pieces = pieces if len(values) == 1 else (*pieces[:place], VARIABLE, *pieces[place + 1 :])
                moved |= self._join(alive[0], alive[1:])
        return moved

    def _merge_stretched(self) -> dict[int, int]:
        """Takes texts in that have several words where a template has its one variable."""
        frames: dict[tuple[Words, Words], int] = {}
        for founder, group in self._groups.items():
            if group.pieces.count(VARIABLE) == 1 and _count_constants(group.pieces) > LEAST_FRAME:
                place = group.pieces.index(VARIABLE)
                frames[group.pieces[:place], group.pieces[place + 1 :]] = founder
        lengths = {(len(before), len(behind)) for before, behind in frames}
        moved: dict[int, int] = {}
        for founder, group in list(self._groups.items()):
            for before, behind in lengths:
                stretch = group.pieces[before : len(group.pieces) - behind]
                if not 1 < len(stretch) < 2 * MAX_STRETCH or VARIABLE in group.pieces or len(stretch) != len(group.pieces) - before - behind:
                    continue
                target = frames.get((group.pieces[:before], group.pieces[before + len(stretch) :]))
                if target is not None and target != founder:
                    moved |= self._join(target, [founder])
                    break
        return moved

    def _join(self, target: int, others: Sequence[int]) -> dict[int, int]:
        for founder in others:
            group = self._groups.pop(founder)
            self._groups[target].members += group.members
            self.mapping.update(dict.fromkeys(group.members, target))
        return dict.fromkeys(others, target)


def split_text(text: str) -> Words:
    """Returns the words of a template text and what separates them."""
    return tuple(piece for piece in _SEPARATOR.split(text) if piece)


def is_variable(values: set[str]) -> bool:
    """Says whether a place in which these words were seen is a variable."""
    if VARIABLE in values:
        return True
    typed = sum(1 for value in values if value.startswith("<"))
    digits = sum(1 for value in values if not value.startswith("<") and _DIGIT.search(value))
    plain = len(values) - typed - digits
    if plain == 0 and digits == 0:
        return typed >= VALUES_TYPED
    return plain >= VALUES_PLAIN or typed + digits >= VALUES_WITH_DIGITS


@lru_cache(_REMEMBERED)
def _frames(pieces: Words) -> tuple[tuple[int, int], ...]:
    """Returns each place of a text that may turn out to be a variable, with the hash of the rest of the text.

    Two rests of equal hash (64 bits) would share a bucket, and then not be merged: what is merged is compared in full.
    """
    return tuple((place, hash((*pieces[:place], *pieces[place + 1 :]))) for place in _places(pieces))


def _places(pieces: Words) -> tuple[int, ...]:
    """Returns the places of a text that may turn out to be variables."""
    if len(pieces) > MAX_PIECES:
        return ()
    constants = _count_constants(pieces)
    return tuple(place for place, piece in enumerate(pieces) if not _SEPARATOR.fullmatch(piece) and constants - (not _is_wildcard(piece)) >= LEAST_FRAME)


@lru_cache(_REMEMBERED)
def _count_constants(pieces: Words) -> int:
    return sum(1 for piece in pieces if not _SEPARATOR.fullmatch(piece) and not _is_wildcard(piece))


def _is_wildcard(piece: str) -> bool:
    return piece.startswith("<") and piece.endswith(">")


def _follow(moved: dict[int, int], founder: int) -> int:
    while founder in moved:
        founder = moved[founder]
    return founder
