"""What masking did to a batch, and the note-taking while it is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from services.ingest.masking.keys import TokenKeys
from services.ingest.masking.rules import MaskingRule
from services.ingest.masking.ruleset import RuleSet


class SealedText(NamedTuple):
    """A value that a sealed rule replaced, on its way to being encrypted."""

    field: str
    """`body`, or `attributes` with a JSON pointer (RFC 6901) into them."""
    rule: str
    token: str
    value: str


@dataclass(slots=True)
class Masked:
    """What was replaced in a batch."""

    hits: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often, by rule and source."""
    sealed: dict[int, list[SealedText]] = field(default_factory=dict)
    """Values to keep encrypted, by row."""
    joins: dict[str, str] = field(default_factory=dict)
    """Tokens under older keys to the token of the same value under the current one."""

    @property
    def counts(self) -> Counter[str]:
        """How often each rule replaced something."""
        counts: Counter[str] = Counter()
        for (rule, _), count in self.hits.items():
            counts[rule] += count
        return counts


class Notes:
    """Takes down what is replaced while one batch is masked; makes the tokens."""

    def __init__(self, rule_set: RuleSet, keys: TokenKeys, sources: Sequence[str] | None) -> None:
        self.rule_set = rule_set
        self.masked = Masked()
        self._keys = keys
        self._sources = sources
        self._row = -1
        self._source = ""
        self._field = ""
        self.rules = rule_set.rules
        """The rules that apply to the row."""

    def enter(self, row: int, name: str) -> None:
        """Says which row and field the next replacements are in."""
        self._row, self._field = row, name
        if self._sources is not None:
            self._source = self._sources[row]
        if self.rule_set.exceptions:
            self.rules = self.rule_set.rules_of(self._source)

    def descend(self, step: str) -> str:
        """Goes to a member of the field, if the path matters; returns the path to come back to."""
        before = self._field
        self._field = f"{before}/{step.replace('~', '~0').replace('/', '~1')}"
        return before

    def ascend(self, name: str) -> None:
        """Comes back to a field."""
        self._field = name

    def replace(self, rule: MaskingRule, secret: str) -> str:
        """Returns the token for a value that a rule found, and notes it."""
        masked = self.masked
        masked.hits[rule.name, self._source] += 1
        token = self._keys.token(rule.name, secret)
        for old in self._keys.older_tokens(rule.name, secret):
            masked.joins[old] = token
        if rule.sealed and self._row >= 0:
            masked.sealed.setdefault(self._row, []).append(SealedText(self._field, rule.name, token, secret))
        return token
