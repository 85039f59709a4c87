"""The first look: whatever a rule finds, its look finds first, in plain text and in JSON."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.ingest.batch import Batch
from services.ingest.masking import BUILT_IN_RULES, Masker, MaskingRule
from services.ingest.masking.looks import FirstLook
from tests.services.ingest.masking.test_masker import JWT, KEY, SECRETS

LOGHUB = Path("/work/shared/data/loghub")
TEAM = (
    MaskingRule("customer", r"\bKD-(?P<secret>\d{6})\b", hints=("KD-",), linear=True),
    MaskingRule("quoted", r'"k"=(?P<secret>\d{2,9})', hints=('"k"=',), linear=True),
    MaskingRule("plate", r"\b[A-Z]{1,3}-[A-Z]{1,2} \d{2,4}\b", linear=True),
)
LOOKING = Masker(KEY, (*BUILT_IN_RULES, *TEAM[:2]))
BLIND = tuple(MaskingRule(rule.name, rule.pattern, rule.validator, keys=rule.keys, linear=rule.linear) for rule in LOOKING.rule_set.rules)
"""The same rules without their looks: each is searched in every text."""
SEARCHING = Masker(KEY, BLIND)
TEXTS = {secret: text for _, text, secret in SECRETS}

_PIECES = st.sampled_from(
    [
        *(secret for _, _, secret in SECRETS),
        *("4111111111111111", "4111 1111 1111 1111", "378282246310005", "DE89370400440532013000", "DE89 3704 0044 0532 0130 00", JWT, "bob@example.com"),
        *("password", "paſſword", "toKen", "prıvate_key", "AUTHORİZATION", "api_key", "=", ":", "=>", "hunter2", "Bearer ", "ſplunk ", "0123456789abcdefghij"),
        *(
            "KD-123456",
            "kd-123456",
            '"k"=4711',
            "://u:",
            "@",
            "a@b.de",
            "müller@größe.de",
            "\\",
            '"',
            '\\"',
            "'",
            "\n",
            "\t",
            "\r",
            "\b",
            "\x10",
            "\x1e",
            "\x00",
            "\x7f",
        ),
        *("DE٨٩370400440532013000", "٣", "é", "ß", "\u2028", "😀", "_", ".", "-", " ", "0", "x", "A", "-----BEGIN PRIVATE KEY-----", "?sig=", "&sig="),
    ]
)
_TEXTS = st.lists(st.one_of(_PIECES, st.text(max_size=4)), max_size=10).map("".join)


def mask_attributes(masker: Masker, rows: Sequence[dict[str, Any] | None]) -> list[dict[str, Any] | None]:
    """Returns attributes masked."""
    batch = Batch(body=["x"] * len(rows), source=["s"] * len(rows), attributes=list(rows))
    masker.mask_batch(batch)
    return batch.attributes


@settings(max_examples=300, deadline=None)
@given(texts=st.lists(_TEXTS, min_size=1, max_size=6))
def test_a_column_of_texts_is_masked_as_without_it(texts: list[str]) -> None:
    assert LOOKING.preview(texts).texts == SEARCHING.preview(texts).texts


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(
        st.none()
        | st.dictionaries(
            _TEXTS,
            st.recursive(
                _TEXTS | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.booleans(),
                lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXTS, inner, max_size=2),
                max_leaves=4,
            ),
            max_size=4,
        ),
        min_size=1,
        max_size=4,
    )
)
@example(rows=[{"text": "x\nDE89370400440532013000"}])
@example(rows=[{"text": "\x104111111111111111"}])
@example(rows=[{"text": 'log "{\\"client_secret\\":\\"abc\\"}"'}])
@example(rows=[{"text": "password\t=\thunter2"}, {"text": "bearer\t0123456789abcdefghij"}])
@example(rows=[{"\x1e": "\x1e", "b": "\x1e"}, {"c": "password=x"}])
def test_attributes_are_masked_as_without_it(rows: list[dict[str, Any] | None]) -> None:
    """Rows are looked at as JSON, and masked as values."""
    assert mask_attributes(LOOKING, rows) == mask_attributes(SEARCHING, rows)


OWN = (
    ("account", r"\bKTO (?P<secret>\d{2,9})\b", "(?i)iban_nr|kto|a.b|(?P<secret>z{2})"),
    ("quoted", r'k="(?P<secret>[^"]{2,9})"', ""),
    ("spaced", r"x\s(?P<secret>\w{2,5})", ""),
    ("tiny", r"\de[+-]\d{2}", ""),
    ("named", "", "[^a]b|ä{2}"),
)
REFINED = Masker(KEY, [MaskingRule(name, pattern, keys=keys, linear=True) for name, pattern, keys in OWN])
ANCHORED = Masker(
    KEY,
    [MaskingRule(name, pattern and rf"(?:{pattern}|\Anever\z)", keys=keys and rf"(?:{keys}|\Anever\z)", linear=True) for name, pattern, keys in OWN],
)
"""The same rules with anchors, of which no look is made."""
_OWN_TEXTS = st.lists(
    st.sampled_from(
        [
            *("KTO 4711", "kto", "IBAN_NR", 'k="', '"', "abc", "x\ny", "x ab", "\\", "\t", "a", "b", "ä", "ab", "zz", 'a"b', "\x00", " ", "1e-05"),
        ]
    )
    | st.text(max_size=3),
    max_size=4,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(
    attributes=st.recursive(
        _OWN_TEXTS | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([1e-05, 1e-07, 1e16, -2.5e20, 4711]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_OWN_TEXTS, inner, max_size=3),
        max_leaves=6,
    )
)
@example(attributes={"a": 1e-05})
@example(attributes={'a"b': 1, "x": {"ää": 2, "bb": [3]}})
def test_rules_of_teams_miss_nothing_in_attributes(attributes: Any) -> None:
    """A row is looked at as JSON before its values are: a look that finds nothing is right."""
    assert mask_attributes(REFINED, [{"k": attributes}]) == mask_attributes(ANCHORED, [{"k": attributes}])
    assert all(rule.can_change(b"[1]") for rule in ANCHORED.rule_set.rules)
    assert not any(rule.can_change(b"[1]") for rule in REFINED.rule_set.rules)


@pytest.mark.parametrize("secret", [secret for _, _, secret in SECRETS])
@pytest.mark.parametrize("rows", [1, 3, 400])
def test_a_secret_is_found_at_every_place_of_a_column(secret: str, rows: int) -> None:
    texts = ["plain words, 12 of them"] * rows
    for row in {0, rows // 2, rows - 1}:
        changed = [*texts[:row], TEXTS[secret], *texts[row + 1 :]]
        masked = LOOKING.preview(changed).texts
        assert [number for number, text in enumerate(masked) if text != texts[number] and secret not in text] == [row]


@pytest.mark.parametrize("text", ["\ud8004111111111111111\ud800", "\ud800bob@example.com\udfff", "password=\ud800x", "\ud800DE89370400440532013000"])
def test_lone_surrogates_hide_nothing(text: str) -> None:
    masked = Masker(KEY).preview(["clean", text]).texts
    assert masked == Masker(KEY, BLIND[: len(BUILT_IN_RULES)]).preview(["clean", text]).texts
    assert masked != ["clean", text]


def test_rows_are_told_apart_by_separators_of_any_length() -> None:
    look = FirstLook(BUILT_IN_RULES)
    email = [rule.name for rule in BUILT_IN_RULES].index("email")
    for separator in (b"\x1e", b'"\\u001e"'):
        column = separator.join([b"", b"a", b"bob@example.com", b"", b"x@y.de", b"z", b""])
        assert look.find(column, separator, 5) == {1: [email], 3: [email]}
        assert look.find(column, separator, 4) is None
        assert look.find(separator * 4, separator, 3) == {}


def test_a_hint_that_is_the_separator_ends() -> None:
    look = FirstLook((MaskingRule("odd", "x\x1ey", hints=("\x1e",), linear=True),))
    assert look.find(b"\x1ea\x1eb\x1e", b"\x1e", 2) == {0: [0], 1: [0]}


def test_rules_without_a_look_are_searched_everywhere() -> None:
    masker = Masker(KEY, (*BUILT_IN_RULES, *TEAM))
    masked = masker.preview(["M-AB 123", "KD-123456", "M-AB 12 bob@example.com", "nothing"])
    assert masked.counts == {"plate": 2, "customer": 1, "email": 1}
    assert not masker.rule_set.first_look.is_clean("nothing")
    assert LOOKING.rule_set.first_look.is_clean("nothing")


def test_when_it_cannot_be_told_which_rule_all_are_tried() -> None:
    look = FirstLook((*BUILT_IN_RULES, MaskingRule("odd", "x\x1ey", hints=("x\x1ey",), linear=True)))
    assert look.find(b"\x1eax\x1eyb\x1e", b"\x1e", 2) == {0: list(range(len(BUILT_IN_RULES) + 1))}


@pytest.mark.skipif(not LOGHUB.is_dir(), reason=f"the loghub files are not at {LOGHUB}")
def test_real_lines_are_masked_as_without_it() -> None:
    files = sorted(LOGHUB.glob("*/*_2k.log"))
    assert files
    for path in files:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[:200]
        planted = [f"{line} {text}" for line, (_, text, _) in zip(lines, itertools.cycle(SECRETS), strict=False)]
        assert LOOKING.preview([*lines, *planted]).texts == SEARCHING.preview([*lines, *planted]).texts
