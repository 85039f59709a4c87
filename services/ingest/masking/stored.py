"""Rules and exceptions as they are stored, and what becomes of them together with the built-in rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from services.ingest.masking.rules import BUILT_IN_RULES, MaskingRule
from services.ingest.masking.ruleset import RuleSet

if TYPE_CHECKING:
    from kit.db import SqlConnection

BUILT_INS: Final = {rule.name: rule for rule in BUILT_IN_RULES}


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule of the team, or what it changed in a built-in one: an empty pattern and empty keys keep the built-in's own."""

    name: str
    pattern: str
    validator: str
    hints: tuple[str, ...]
    shapes: tuple[str, ...]
    keys: str
    enabled: bool
    sealed: bool
    created_by: str = ""
    updated_by: str = ""
    created_at: datetime | None = None
    updated_at: datetime | None = None

    def to_rule(self) -> MaskingRule:
        """Returns the rule in use; raises InvalidArgument when it cannot be one."""
        built_in = BUILT_INS.get(self.name)
        if built_in is not None and not self.pattern and not self.keys:
            return replace(built_in, sealed=self.sealed)
        return MaskingRule(self.name, self.pattern, self.validator, hints=self.hints, shapes=self.shapes, keys=self.keys, sealed=self.sealed, linear=True)


@dataclass(frozen=True, slots=True)
class StoredException:
    """A source that a rule does not apply to."""

    source: str
    rule: str
    reason: str
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Stored:
    """All that is stored, read in one moment."""

    rules: tuple[StoredRule, ...] = ()
    exceptions: tuple[StoredException, ...] = ()

    def to_rule_set(self) -> RuleSet:
        """Returns the set that masks: the built-in rules in their order, then the team's in order of name."""
        exempt: defaultdict[str, set[str]] = defaultdict(set)
        for exception in self.exceptions:
            exempt[exception.source].add(exception.rule)
        return RuleSet(combine(self.rules), {source: frozenset(names) for source, names in exempt.items()})


def combine(stored: Iterable[StoredRule]) -> list[MaskingRule]:
    """Returns the enabled rules in the order in which they are applied."""
    changed = {rule.name: rule for rule in stored}
    combined: list[MaskingRule] = []
    for built_in in BUILT_IN_RULES:
        change = changed.pop(built_in.name, None)
        if change is None:
            combined.append(built_in)
        elif change.enabled:
            combined.append(change.to_rule())
    return combined + [changed[name].to_rule() for name in sorted(changed) if changed[name].enabled]


async def read_stored(connection: SqlConnection) -> Stored:
    """Reads rules and exceptions; in one moment when the transaction is repeatable."""
    rules: Sequence[dict[str, object]] = await connection.fetch(
        """
        SELECT name, pattern, validator, hints, shapes, keys, enabled, sealed, created_by, updated_by, created_at, updated_at
        FROM ingest.masking_rules ORDER BY name
        """
    )
    exceptions = await connection.fetch("SELECT source, rule, reason, created_by, created_at FROM ingest.masking_exceptions ORDER BY source, rule")
    return Stored(
        tuple(StoredRule(**{**row, "hints": tuple(row["hints"]), "shapes": tuple(row["shapes"])}) for row in rules),  # type: ignore[arg-type]
        tuple(StoredException(**row) for row in exceptions),
    )
