"""Replaces secrets and personal data by typed, keyed tokens before anything is stored."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from services.ingest.batch import Batch
from services.ingest.masking.hits import MaskingHits
from services.ingest.masking.keys import TokenKeys
from services.ingest.masking.looks import SEPARATOR, add_everywhere
from services.ingest.masking.masked import Masked, Notes
from services.ingest.masking.rules import BUILT_IN_RULES, MASK_PATTERN, MaskingRule
from services.ingest.masking.ruleset import LONGEST_NAME, RuleSet
from services.ingest.rejections import storable

_TOKEN = re.compile(MASK_PATTERN)
_SEPARATOR: Final = SEPARATOR.encode()
_ENCODED_SEPARATOR: Final = b'"\\u001e"'
_LONGEST_TOKEN: Final = 48
_MAX_ROUNDS: Final = 8
_SMALL_NUMBER: Final = 10**12
"""Numbers below have fewer digits than the shortest card: the built-in rules find nothing in them."""
_SHORT_NAME: Final = 40
"""Names up to this length are looked at together: shorter than what any built-in rule finds by the end of a text."""
MAX_MATCHES: Final = 2_000
"""Matches of a team's rule in one text; with more, all that follows is masked as one value."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What masking would do: the masked texts and how often each rule replaced something."""

    texts: list[str]
    counts: Counter[str]


class Masker:
    """Masks with a set of rules under one key.

    A token is `[rule:hash]`, the hash being HMAC-SHA256 of the value cut to 12 hexadecimal digits: equal values get equal
    tokens, so events stay joinable, and without the key nobody can try values. E-mail addresses are hashed in lower case,
    cards and IBANs without their blanks. Masking masked text changes nothing. Safe to call from several threads.
    """

    def __init__(self, key: bytes, rules: Sequence[MaskingRule] = BUILT_IN_RULES, *, old_keys: Sequence[bytes] = (), hits: MaskingHits | None = None) -> None:
        """`old_keys` are those that made tokens before; `hits` counts. Raises InvalidArgument when the key is empty or two rules have one name."""
        self._keys = TokenKeys(key, old_keys)
        self._rule_set = RuleSet(rules)
        self._hits = hits

    @property
    def rule_set(self) -> RuleSet:
        """The rules in use."""
        return self._rule_set

    def use(self, rule_set: RuleSet) -> None:
        """Masks with other rules from the next batch on."""
        self._rule_set = rule_set

    def with_rules(self, rule_set: RuleSet) -> Masker:
        """Returns a masker under the same keys that counts nothing: for dry runs."""
        other = Masker.__new__(Masker)
        other._keys, other._rule_set, other._hits = self._keys, rule_set, None
        return other

    def mask_batch(self, batch: Batch) -> Masked:
        """Masks bodies, attributes (nested, names too), hosts, services and severity texts in place, with one set of rules throughout."""
        notes = Notes(self._rule_set, self._keys, batch.source)
        notes.field = "body"
        self._mask_column(batch.body, notes)
        self._mask_attributes(batch.attributes, notes)
        # Names that were all seen clean are known in one step.
        if {*batch.host, *batch.service, *batch.severity_text}.difference(notes.rule_set.clean_names):
            for column in (batch.host, batch.service, batch.severity_text):
                self._mask_names(column, notes)
        masked = notes.masked
        if notes.rule_set.name_joins:
            masked.joins.update(notes.rule_set.name_joins)
        if masked.hits and self._hits is not None:
            self._hits.add(masked.hits)
        return masked

    def mask_name(self, name: str) -> str:
        """Returns a name of a source, a service, a sender: masked, and remembered, since names come again."""
        if name in self._rule_set.clean_names:
            return name
        column = [name]
        self.mask_names(column)
        return column[0]

    def mask_names(self, column: list[str]) -> None:
        """Masks names in place. Those that an index of PostgreSQL cannot hold are cut to LONGEST_NAME, NUL becomes U+FFFD."""
        if not set(column).difference(self._rule_set.clean_names):
            return
        notes = Notes(self._rule_set, self._keys, None)
        self._mask_names(column, notes)
        column[:] = [storable(name)[:LONGEST_NAME] for name in column]
        if notes.masked.hits and self._hits is not None:
            self._hits.add(notes.masked.hits)

    def mask_text(self, text: str) -> str:
        """Returns one text masked."""
        return self.preview([text]).texts[0]

    def preview(self, texts: Sequence[str]) -> Preview:
        """Returns what masking makes of the texts, without changing them."""
        masked = list(texts)
        notes = Notes(self._rule_set, self._keys, None)
        self._mask_column(masked, notes)
        return Preview(masked, notes.masked.counts)

    def _mask_names(self, column: list[str], notes: Notes) -> None:
        """Masks texts of which few are different and most were seen before."""
        rule_set = notes.rule_set
        unknown = [name for name in set(column).difference(rule_set.clean_names) if name not in rule_set.masked_names]
        found: dict[str, str] = {}
        if unknown:
            masked = list(unknown)
            own = Notes(rule_set, self._keys, None)  # such names are shared: no source is exempt, and nothing is sealed
            self._mask_column(masked, own)
            for key, count in own.masked.hits.items():
                notes.masked.hits[key] = notes.masked.hits.get(key, 0) + count
            rule_set.name_joins.update(own.masked.joins)
            for name, result in zip(unknown, masked, strict=True):
                rule_set.learn_name(name, result)
                if name != result:
                    found[name] = result
        if found or rule_set.masked_names:
            known = rule_set.masked_names
            column[:] = [found.get(name) or known.get(name) or name for name in column]

    def _mask_column(self, texts: list[str], notes: Notes) -> None:
        if not texts:
            return
        rule_set = notes.rule_set
        first_look = rule_set.first_look
        joined = SEPARATOR.join(("", *texts, "")).encode("utf-8", "surrogatepass")
        found = first_look.find(joined, _SEPARATOR, len(texts))
        if found is None:
            found = first_look.find_each(text.encode("utf-8", "surrogatepass") for text in texts)
        for row, positions in add_everywhere(found, first_look.blind, len(texts)):
            notes.row = row
            text = texts[row]
            masked = _mask_string(text, self._choose(positions, notes), notes)
            if masked != text:
                texts[row] = masked

    def _mask_attributes(self, column: list[dict[str, Any] | None], notes: Notes) -> None:
        filled: Sequence[int] = range(len(column)) if all(column) else [row for row, attributes in enumerate(column) if attributes]
        if not filled:
            return
        first_look = notes.rule_set.first_look
        # One call encodes the column, with a text around the rows that says where they end.
        parts: list[Any] = [SEPARATOR] * (2 * len(filled) + 1)
        parts[1::2] = [column[row] for row in filled]
        found = first_look.find(orjson.dumps(parts), _ENCODED_SEPARATOR, len(filled))
        if found is None:
            found = first_look.find_each(orjson.dumps(column[row]) for row in filled)
        for place, positions in add_everywhere(found, (*first_look.blind, *first_look.keyed), len(filled)):
            row = filled[place]
            notes.row, notes.field = row, "attributes"
            rules = self._choose(positions, notes)
            if any(rule.linear for rule in rules):
                content = orjson.dumps(column[row])
                rules = [rule for rule in rules if not rule.linear or rule.can_change(content)]
            if rules:
                column[row] = _mask_value(column[row], rules, notes)

    @staticmethod
    def _choose(positions: Sequence[int], notes: Notes) -> list[MaskingRule]:
        """Returns the rules at these positions that apply to the row."""
        rules = [notes.rule_set.rules[position] for position in positions]
        if notes.rule_set.exceptions:
            notes.choose_rules()
            rules = [rule for rule in rules if rule in notes.rules]
        return rules


def _mask_value(value: Any, rules: Sequence[MaskingRule], notes: Notes) -> Any:
    """Returns a JSON value with its texts, numbers and names masked."""
    kind = type(value)
    if kind is str:
        return _mask_string(value, rules, notes)
    if kind is dict:
        return _mask_object(value, rules, notes)
    if kind is list:
        masked = []
        for number, inner in enumerate(value):
            path = notes.descend(str(number))
            masked.append(_mask_value(inner, rules, notes))
            notes.ascend(path)
        return masked
    if kind is int or kind is float:
        if -_SMALL_NUMBER < value < _SMALL_NUMBER and not any(rule.linear for rule in rules):
            return value
        text = str(value)
        masked_text = _mask_string(text, rules, notes)
        return value if masked_text == text else masked_text
    return value


def _mask_string(text: str, rules: Sequence[MaskingRule], notes: Notes) -> str:
    masked = text
    for rule in rules:
        if rule.linear or rule.regex.search(masked):
            masked = _mask_one(masked, rule, notes)
    return masked if masked == text else _settle(masked, notes)


def _mask_object(value: dict[str, Any], rules: Sequence[MaskingRule], notes: Notes) -> dict[str, Any]:
    masked: dict[str, Any] = {}
    clean = _are_clean(value, rules)
    for name, inner in value.items():
        key = name if clean else _mask_string(name, rules, notes)
        number = 2
        while key in masked:  # two names with one token: both members are kept
            key = f"{_mask_string(name, rules, notes)}#{number}"
            number += 1
        path = notes.descend(key)
        masked[key] = _mask_member(name, inner, rules, notes)
        notes.ascend(path)
    return masked


def _are_clean(names: Collection[str], rules: Iterable[MaskingRule]) -> bool:
    """Says whether no rule finds anything in names, in one search per rule for all of them; False may be a mistake, True is none."""
    if max(map(len, names), default=0) > _SHORT_NAME:
        return False
    joined = SEPARATOR.join(names)
    return not any(rule.linear or rule.regex.search(joined) for rule in rules)


def _mask_member(name: str, value: Any, rules: Sequence[MaskingRule], notes: Notes) -> Any:
    """Masks a member of an object: wholly, with all members of a list, when its name is that of a secret."""
    if isinstance(value, (str, int, float, list)) and not isinstance(value, bool) and value not in ("", []):
        for rule in rules:
            if rule.key_regex is not None and rule.key_regex.fullmatch(name):
                return _hide(value, rule, rules, notes)
    return _mask_value(value, rules, notes)


def _hide(value: Any, rule: MaskingRule, rules: Sequence[MaskingRule], notes: Notes) -> Any:
    if isinstance(value, list):
        return [_hide(inner, rule, rules, notes) for inner in value]
    if isinstance(value, dict):
        return _mask_object(value, rules, notes)
    if value is None or isinstance(value, bool) or value == "":
        return value
    text = str(value)
    if _TOKEN.fullmatch(text) or not text.strip("*. "):
        return value
    return notes.replace(rule, text)


def _settle(text: str, notes: Notes) -> str:
    """Applies all rules to a text that was changed until nothing changes: a token can uncover what stood beside a value."""
    for _ in range(_MAX_ROUNDS):
        if notes.rule_set.first_look.is_clean(text):
            break
        masked = text
        for rule in notes.rules:
            masked = _mask_one(masked, rule, notes)
        if masked == text:
            break
        text = masked
    return text


def _mask_one(text: str, rule: MaskingRule, notes: Notes) -> str:
    """Returns `text` with what `rule` finds in it replaced; the number of searches for a rule of a team is bounded."""
    if not rule.pattern:
        return text
    measure = rule.measure
    parts: list[str] = []
    done = 0
    try:
        for number, match in enumerate(rule.regex.finditer(text)):
            if number == MAX_MATCHES and rule.linear:
                parts += (text[done : match.start()], notes.replace(rule, text[match.start() :]))
                done = len(text)
                break
            start, end = next((match.span(group) for group in rule.secret_groups if match.start(group) >= 0), match.span())
            if measure is not None:
                end = start + measure(text[start:end])
            secret = text[start:end]
            if secret and not _TOKEN.fullmatch(secret) and not _inside_token(text, start):
                parts += (text[done:start], notes.replace(rule, secret))
                done = end
    except UnicodeEncodeError:  # a lone surrogate, which RE2 cannot read and JSON cannot hold
        return _mask_one(text.encode("utf-8", "replace").decode(), rule, notes)
    return "".join((*parts, text[done:])) if parts else text


def _inside_token(text: str, start: int) -> bool:
    """Says whether the place is inside a token that stands there already."""
    bracket = text.rfind("[", max(0, start - _LONGEST_TOKEN), start + 1)
    if bracket < 0:
        return False
    token = _TOKEN.match(text, bracket)
    return token is not None and token.end() > start
