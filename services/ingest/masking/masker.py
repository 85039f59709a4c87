"""Replaces secrets and personal data by typed, keyed tokens before anything is stored."""

from __future__ import annotations

import hmac
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from kit.errors import InvalidArgument
from services.ingest.batch import Batch
from services.ingest.masking.hints import SEPARATOR, HintScanner
from services.ingest.masking.rules import BUILT_IN_RULES, MASK_PATTERN, MaskingRule

_TOKEN = re.compile(MASK_PATTERN)
_ENCODED_SEPARATOR: Final = b',"\\u001e",'
_HASH_DIGITS: Final = 12
_LONGEST_TOKEN: Final = 48
_MAX_ROUNDS: Final = 8


@dataclass(frozen=True, slots=True)
class Preview:
    """What masking would do: the masked texts and how often each rule replaced something."""

    texts: list[str]
    counts: Counter[str]


class Masker:
    """Masks texts with a fixed list of rules under one key.

    A token is `[rule:hash]`, the hash being HMAC-SHA256 of the value cut to 12 hexadecimal digits: equal values get equal
    tokens, so events stay joinable, and without the key nobody can try values. E-mail addresses are hashed in lower case,
    cards and IBANs without their blanks. Masking masked text changes nothing.
    """

    def __init__(self, key: bytes, rules: Sequence[MaskingRule] = BUILT_IN_RULES) -> None:
        """Raises InvalidArgument when the key is empty or two rules have one name."""
        if not key:
            raise InvalidArgument("the masking key is empty")
        names = Counter(rule.name for rule in rules)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise InvalidArgument(f"there are two masking rules named {twice[0]}")
        self._key = key
        self._rules = tuple(rules)
        self._scanner = HintScanner(self._rules)

    def mask_batch(self, batch: Batch) -> Counter[str]:
        """Masks bodies and string values of attributes (nested) in place; returns counts per rule."""
        counts: Counter[str] = Counter()
        self._mask_column(batch.body, counts)
        self._mask_attributes(batch.attributes, counts)
        return counts

    def mask_text(self, text: str) -> str:
        """Returns one text masked."""
        return self.preview([text]).texts[0]

    def preview(self, texts: Sequence[str]) -> Preview:
        """Returns what masking makes of the texts, without changing them."""
        masked = list(texts)
        counts: Counter[str] = Counter()
        self._mask_column(masked, counts)
        return Preview(masked, counts)

    def _mask_column(self, texts: list[str], counts: Counter[str]) -> None:
        if not texts:
            return
        found = self._scanner.find_rows(SEPARATOR.join(texts).encode("utf-8", "surrogatepass"), len(texts))
        everywhere = range(len(texts))
        touched: set[int] = set()
        for position, rule in enumerate(self._rules):
            rows = everywhere if found is None or position in self._scanner.unhinted else found.get(position)
            for row in rows or ():
                masked = self._mask_one(texts[row], rule, counts)
                if masked != texts[row]:
                    texts[row] = masked
                    touched.add(row)
        for row in touched:
            texts[row] = self._settle(texts[row], counts)

    def _mask_attributes(self, column: list[dict[str, Any] | None], counts: Counter[str]) -> None:
        filled = [row for row, attributes in enumerate(column) if attributes]
        if not filled:
            return
        # One call encodes the column, with a text between the rows that says where they end.
        parts: list[Any] = [SEPARATOR] * (2 * len(filled) - 1)
        parts[::2] = [column[row] for row in filled]
        found = self._scanner.find_rows(orjson.dumps(parts), len(filled), _ENCODED_SEPARATOR)
        if not found and found is not None and not self._scanner.unhinted:
            return
        by_row: dict[int, list[MaskingRule]] = {}
        for position, rule in enumerate(self._rules):
            places = range(len(filled)) if found is None or position in self._scanner.unhinted else found.get(position, ())
            for place in places:
                by_row.setdefault(filled[place], []).append(rule)
        for row, rules in by_row.items():
            column[row] = self._mask_value(column[row], rules, counts)

    def _mask_value(self, value: Any, rules: list[MaskingRule], counts: Counter[str]) -> Any:
        """Returns a JSON value with its strings masked."""
        if type(value) is str:
            masked = value
            for rule in rules:
                masked = self._mask_one(masked, rule, counts)
            return masked if masked == value else self._settle(masked, counts)
        if type(value) is dict:
            return {key: self._mask_member(key, inner, rules, counts) for key, inner in value.items()}
        if type(value) is list:
            return [self._mask_value(inner, rules, counts) for inner in value]
        return value

    def _mask_member(self, key: str, value: Any, rules: list[MaskingRule], counts: Counter[str]) -> Any:
        """Masks a member of an object: wholly when its name is that of a secret."""
        if isinstance(value, (str, int, float)) and not isinstance(value, bool) and value != "":
            for rule in rules:
                if rule.key_regex is not None and rule.key_regex.fullmatch(key):
                    text = str(value)
                    if _TOKEN.fullmatch(text) or not text.strip("*. "):
                        return value
                    counts[rule.name] += 1
                    return self._token(rule.name, text)
        return self._mask_value(value, rules, counts)

    def _settle(self, text: str, counts: Counter[str]) -> str:
        """Applies all rules to a text that was changed until nothing changes: a token can uncover what stood beside a value."""
        for _ in range(_MAX_ROUNDS):
            masked = text
            for rule in self._rules:
                masked = self._mask_one(masked, rule, counts)
            if masked == text:
                break
            text = masked
        return text

    def _mask_one(self, text: str, rule: MaskingRule, counts: Counter[str]) -> str:
        """Returns `text` with what `rule` finds in it replaced."""
        groups = rule.secret_groups
        measure = rule.measure

        def replace(match: re.Match[str]) -> str:
            whole = match.group()
            start, end = match.span()
            for group in groups:
                if match.start(group) >= 0:
                    start, end = match.span(group)
                    break
            secret = text[start:end]
            if measure is not None:
                end = start + measure(secret)
                secret = text[start:end]
            if not secret or _TOKEN.fullmatch(secret) or _inside_token(text, start):
                return whole
            counts[rule.name] += 1
            return text[match.start() : start] + self._token(rule.name, secret) + text[end : match.end()]

        return rule.regex.sub(replace, text)

    def _token(self, name: str, secret: str) -> str:
        digest = hmac.digest(self._key, _canonical(name, secret).encode("utf-8", "surrogatepass"), "sha256")
        return f"[{name}:{digest.hex()[:_HASH_DIGITS]}]"


def _canonical(name: str, secret: str) -> str:
    """Returns the form of a value that is hashed: the same card or address in two spellings gets one token."""
    if name == "email":
        return secret.lower()
    if name in ("card", "iban"):
        return secret.replace(" ", "").replace("-", "")
    return secret


def _inside_token(text: str, start: int) -> bool:
    """Says whether the place is inside a token that stands there already."""
    bracket = text.rfind("[", max(0, start - _LONGEST_TOKEN), start + 1)
    if bracket < 0:
        return False
    token = _TOKEN.match(text, bracket)
    return token is not None and token.end() > start
