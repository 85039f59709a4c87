"""Conditions on events: what a query means, independent of how it was written and of the engine that answers.

    Everything                       every event
    All, Either, Not                 and, or, not
    Words                            words that follow each other in the body
    Text, TextPrefix, Present        a text field is one of the values, starts with a prefix, has a value
    Number                           a number field lies in a closed range
    Attribute, AttributePrefix,      the value at a path of the attributes: equal, starting with, in a range,
    AttributeRange, AttributePresent there at all

An attribute value that is an array matches when one of its elements does. A dot in a path stands for both
a key with a dot and a nested object.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

LARGEST_SIGNED = 2**63 - 1
LARGEST_UNSIGNED = 2**64 - 1
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Everything:
    """Every event."""


@dataclass(frozen=True, slots=True)
class All:
    """All conditions hold."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """At least one condition holds."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The condition does not hold."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class Words:
    """The body has these words (at least one) next to each other; with `prefix`, the last is a beginning."""

    words: tuple[str, ...]
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """A text field equals one of the values."""

    field: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TextPrefix:
    """A text field starts with the prefix."""

    field: str
    prefix: str


@dataclass(frozen=True, slots=True)
class Present:
    """A text field has a value."""

    field: str


@dataclass(frozen=True, slots=True)
class Number:
    """A number field lies between low and high, both included; None is no bound."""

    field: str
    low: int | None
    high: int | None


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute equals the value: as text, and as number or truth value when the text reads as one."""

    path: str
    value: str


@dataclass(frozen=True, slots=True)
class AttributePrefix:
    """An attribute is a text that starts with the prefix."""

    path: str
    prefix: str


@dataclass(frozen=True, slots=True)
class AttributeRange:
    """An attribute is a number in a range; None is no bound."""

    path: str
    low: float | None
    high: float | None
    include_low: bool
    include_high: bool


@dataclass(frozen=True, slots=True)
class AttributePresent:
    """There is a value at the path or below it."""

    path: str


Condition: TypeAlias = (
    Everything | All | Either | Not | Words | Text | TextPrefix | Present | Number | Attribute | AttributePrefix | AttributeRange | AttributePresent
)


def read_number(text: str) -> int | float | None:
    """Returns the number that a text spells in JSON's way, as engines hold it; None when it is none.

    Whole numbers of up to 64 bits are exact; others become 64-bit floats.
    """
    if not _NUMBER.fullmatch(text):
        return None
    if text.lstrip("-").isdigit():
        return normalise_number(int(text))
    number = float(text)
    return number if abs(number) != float("inf") else None


def normalise_number(number: float) -> int | float:
    """Returns a number as engines hold it: an int of 64 bits when it is one, else a float."""
    if isinstance(number, int):
        return number if -LARGEST_SIGNED - 1 <= number <= LARGEST_UNSIGNED else float(number)
    if number.is_integer() and -(2.0**63) <= number < 2.0**63:
        return int(number)
    return number


def combine(conditions: list[Condition]) -> Condition:
    """Returns one condition for all of them."""
    needed = [condition for condition in conditions if not isinstance(condition, Everything)]
    if not needed:
        return Everything()
    return needed[0] if len(needed) == 1 else All(tuple(needed))
