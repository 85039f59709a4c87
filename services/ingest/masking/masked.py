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

    hits: dict[tuple[str, str], int] = field(default_factory=dict)
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
    """Takes down what is replaced while one batch is masked; makes the tokens.

    Who masks sets `row` and `field` before: they say what the next replacements are in. Without
    `sources` the text is no event's: nothing is sealed, no source is exempt.
    """

    __slots__ = ("_keys", "_sources", "_traced", "field", "masked", "row", "rule_set", "rules")

    def __init__(self, rule_set: RuleSet, keys: TokenKeys, sources: Sequence[str] | None) -> None:
        self.rule_set = rule_set
        self.masked = Masked()
        self.row = 0
        self.field = ""
        self.rules = rule_set.rules
        """The rules that apply to the row."""
        self._keys = keys
        self._sources = sources
        self._traced = any(rule.sealed for rule in rule_set.rules)

    def choose_rules(self) -> None:
        """Takes the rules that apply to the source of the row: needed only when there are exceptions."""
        if self._sources is not None:
            self.rules = self.rule_set.rules_of(self._sources[self.row])

    def descend(self, step: str) -> str:
        """Goes to a member of the field, if the path matters; returns the path to come back to."""
        before = self.field
        if self._traced:
            self.field = f"{before}/{step.replace('~', '~0').replace('/', '~1')}"
        return before

    def ascend(self, name: str) -> None:
        """Comes back to a field."""
        self.field = name

    def replace(self, rule: MaskingRule, secret: str) -> str:
        """Returns the token for a value that a rule found, and notes it."""
        masked = self.masked
        key = rule.name, "" if self._sources is None else self._sources[self.row]
        masked.hits[key] = masked.hits.get(key, 0) + 1
        token = self._keys.token(rule.name, secret)
        for old in self._keys.older_tokens(rule.name, secret):
            masked.joins[old] = token
        if rule.sealed and self._sources is not None:
            masked.sealed.setdefault(self.row, []).append(SealedText(self.field, rule.name, token, secret))
        return token
