"""Rules of teams: what is refused, what is bounded, and that RE2 finds what it should."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.errors import InvalidArgument
from services.ingest.batch import Batch
from services.ingest.masking import BUILT_IN_RULES, Masker, MaskingRule
from services.ingest.masking.masker import MAX_MATCHES
from services.ingest.masking.trial import UnusableRule, check_rule

KEY = b"a key of the tests, thirty-two b"


def own(pattern: str = "", **fields: Any) -> MaskingRule:
    """Returns a rule of a team, checked as when it is stored."""
    rule = MaskingRule(fields.pop("name", "own"), pattern, linear=True, **fields)
    check_rule(rule)
    return rule


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "neither a pattern nor keys"),
        ({"pattern": "("}, "missing \\)"),
        ({"pattern": "(?<=a)bcd"}, "invalid perl operator"),
        ({"pattern": r"(\w\w)\1"}, "invalid escape"),
        ({"pattern": "x*"}, "matches the empty text"),
        ({"pattern": r"\w"}, "single character"),
        ({"pattern": ".+"}, "single character"),
        ({"pattern": "ab", "validator": "nope"}, "no validator"),
        ({"pattern": "ab", "hints": ("ä",)}, "a hint is ASCII"),
        ({"pattern": "ab", "hints": ("x",) * 33}, "more than 32 hints"),
        ({"pattern": "ab" * 1_001}, "more than 2000"),
        ({"pattern": "ab\x00"}, "NUL"),
        ({"keys": "["}, "missing \\]"),
        ({"pattern": "((a{500}){500}){2}"}, "invalid repetition"),
        ({"pattern": "ab(?:[^c]*c)?"}, "too slow"),
    ],
)
def test_what_cannot_work_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        own(**fields)


@pytest.mark.parametrize("pattern", [r"(a+)+$x", r"(?:a|aa)+b!", r"(\w+\s?)+:end", r"(?:x+x+)+yz"])
def test_patterns_that_ruin_other_engines_are_harmless_or_refused(pattern: str) -> None:
    try:
        rule = own(pattern)
    except UnusableRule:
        return
    evil = "a" * 50_000 + "x" * 50_000 + "a b " * 10_000
    assert Masker(KEY, (rule,)).mask_text(evil)


def test_many_matches_are_bounded_and_none_is_left_in_the_clear() -> None:
    masker = Masker(KEY, (own(r"id=(?P<secret>\d{3,9})"),))
    masked = masker.mask_text("id=12345 " * (MAX_MATCHES + 500))
    assert "12345" not in masked
    assert masked.count("[own:") == MAX_MATCHES + 1


def test_groups_validators_and_letters_of_any_language() -> None:
    masker = Masker(
        KEY, (own(r"Kunde (?:(?P<secret>[a-zäöüß]{2,20})|Nr (?P<secret2>\d{2,9}))", hints=("kund",)), own(r"\d{12,19}", name="pan", validator="card"))
    )
    texts = ["für Kunde größe und Kunde Nr 4711!", "4111111111111111 but 4111111111111112", "KUNDE"]
    first, second, third = masker.preview(texts).texts
    assert re.fullmatch(r"für Kunde \[own:[0-9a-f]{12}\] und Kunde Nr \[own:[0-9a-f]{12}\]!", first)
    assert re.fullmatch(r"\[pan:[0-9a-f]{12}\] but 4111111111111112", second)
    assert third == "KUNDE"
    assert masker.preview([first, second]).texts == [first, second]


def test_a_lone_surrogate_does_not_stop_a_batch() -> None:
    assert Masker(KEY, (own("KD-[0-9]{3}"),)).mask_text("\ud800 KD-123").startswith("? [own:")


def test_attributes_are_hidden_by_their_names_alone() -> None:
    masker = Masker(KEY, (*BUILT_IN_RULES, own(keys="(?i)iban_nr|kto", name="account")))
    batch = Batch()
    batch.append("x", source="s", attributes={"IBAN_NR": "12", "a": {"kto": 7}, "b": 7, "kto": ["1", "", {"kto": "2", "x": "y"}]})
    masked = masker.mask_batch(batch)
    attributes = batch.attributes[0]
    assert attributes is not None
    assert attributes["IBAN_NR"].startswith("[account:")
    assert attributes["a"]["kto"].startswith("[account:")
    assert attributes["b"] == 7
    assert attributes["kto"][0].startswith("[account:")
    assert attributes["kto"][1] == ""
    assert attributes["kto"][2]["kto"].startswith("[account:")
    assert attributes["kto"][2]["x"] == "y"
    assert masked.counts == {"account": 4}


def test_what_a_batch_says_besides_its_text_is_masked_too() -> None:
    masker = Masker(KEY)
    batch = Batch()
    for _ in range(2):  # the second time from memory
        batch.append(
            "clean",
            source="s",
            host="bob@example.com",
            service="svc password=hunter2",
            severity_text="ERROR",
            attributes={"bob@example.com": 4111111111111111, "BOB@example.com": 1.5, "list": {"secret": ["hunter3", 4]}},
        )
        masker.mask_batch(batch)
    assert batch.host[0] == batch.host[1]
    assert batch.host[0].startswith("[email:")
    assert batch.service[1].startswith("svc password=[credential:")
    assert batch.severity_text == ["ERROR", "ERROR"]
    attributes = batch.attributes[1]
    assert attributes is not None
    mail = batch.host[0]
    assert list(attributes) == [mail, f"{mail}#2", "list"]
    assert attributes[mail].startswith("[card:")
    assert all(value.startswith("[credential:") for value in attributes["list"]["secret"])


TEAM = (
    MaskingRule("customer", r"\bKD-(?P<secret>\d{6})\b", hints=("KD-",), linear=True),
    MaskingRule("person", r"(?i)(?:kunde|user)[ =](?P<secret>[\wäöü]{3,20})", hints=("kund", "user"), linear=True),
    MaskingRule("plate", r"\b[A-Z]{1,3}-[A-Z]{1,2} \d{2,4}\b", linear=True),
)
_TEXTS = st.lists(
    st.sampled_from(
        ["KD-123456", "KD-1234567", "Kunde ", "USER=", "größe", "M-AB 123", " ", "-", "[customer:0123456789ab]", "[", "bob@example.com", "\x1e", "é", "x"]
    )
    | st.text(max_size=4),
    max_size=12,
).map("".join)


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(_TEXTS, min_size=1, max_size=6), padding=st.sampled_from(["", "plain words and nothing else " * 200]))
def test_rules_of_teams_miss_nothing_and_masking_twice_changes_nothing(texts: list[str], padding: str) -> None:
    masker = Masker(KEY, (*BUILT_IN_RULES, *TEAM))
    unhinted = Masker(KEY, (*BUILT_IN_RULES, *(MaskingRule(rule.name, rule.pattern, linear=True) for rule in TEAM)))
    masked = masker.preview([*texts, padding]).texts[:-1]
    assert masked == unhinted.preview(texts).texts
    assert masker.preview(masked).texts == masked
