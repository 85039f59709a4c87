"""A set of rules that is used as a whole: the rules in their order, and which sources are exempt from which of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from kit.errors import InvalidArgument
from services.ingest.masking.looks import FirstLook
from services.ingest.masking.rules import MaskingRule

MAX_NAMES: Final = 50_000
"""Names of hosts, services and the like whose masked form is remembered."""
LONGEST_NAME: Final = 200
"""Characters of the name of a source: those that the API takes."""


class RuleSet:
    """Rules with what is derived from them. Never changed: a new set takes its place between two batches."""

    def __init__(self, rules: Sequence[MaskingRule], exceptions: Mapping[str, frozenset[str]] | None = None) -> None:
        """`exceptions` are names of rules by source. Raises InvalidArgument when two rules have one name."""
        names = Counter(rule.name for rule in rules)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise InvalidArgument(f"there are two masking rules named {twice[0]}")
        self.rules = tuple(rules)
        self.exceptions = dict(exceptions or {})
        self.first_look = FirstLook(self.rules)
        self.clean_names: dict[str, None] = {"": None}
        """Names in which nothing is masked."""
        self.masked_names: dict[str, str] = {}
        """Names in which something is, with their masked form."""
        self.name_joins: dict[str, str] = {}
        """Tokens in them under older keys to those under the current one: kept with whatever batch comes next."""
        self._of_source = {source: tuple(rule for rule in self.rules if rule.name not in exempt) for source, exempt in self.exceptions.items()}

    def rules_of(self, source: str) -> tuple[MaskingRule, ...]:
        """Returns the rules that apply to a source."""
        return self._of_source.get(source, self.rules)

    def learn_name(self, name: str, masked: str) -> None:
        """Remembers the masked form of a name."""
        if len(name) > LONGEST_NAME or "\x00" in name:  # such is not used as it is
            return
        if len(self.clean_names) + len(self.masked_names) >= MAX_NAMES:
            self.clean_names.clear()
            self.masked_names.clear()
            self.name_joins.clear()
        if name == masked:
            self.clean_names[name] = None
        else:
            self.masked_names[name] = masked
