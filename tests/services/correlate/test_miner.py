"""The miner finds the words that vary, and keeps apart what only looks alike."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.correlate.miner import Miner, is_variable
from services.ingest.fingerprints import fingerprint_bodies

LOGHUB = Path(__file__).parents[4] / "shared" / "data" / "loghub"


def mine(*texts: str) -> Miner:
    miner = Miner()
    for number, text in enumerate(texts, 1):
        miner.add(number, text)
    miner.revise()
    return miner


def test_a_word_with_many_values_is_a_variable() -> None:
    users = ("meier", "schmidt", "wagner", "fischer", "kowalski")
    miner = mine(*(f"logon of user {user} accepted" for user in users))
    assert miner.mapping == {2: 1, 3: 1, 4: 1, 5: 1}
    assert miner.text_of(1) == "logon of user <*> accepted"


def test_opened_and_closed_are_two_events() -> None:
    assert mine("connection to <ip> opened", "connection to <ip> closed", "connection to <ip> refused").mapping == {}


def test_words_with_digits_vary_sooner() -> None:
    assert len(mine("node n1-a joined the ring", "node n2-b joined the ring", "node n3-c joined the ring").mapping) == 2


def test_two_variables_meet_step_by_step() -> None:
    users, tables = ("anna", "bert", "carl", "dora", "emil"), ("orders", "items", "prices", "stock", "logs")
    miner = mine(*(f"user {user} locked table {table} for update" for user in users for table in tables))
    assert set(miner.mapping.values()) == {1}
    assert miner.text_of(1) == "user <*> locked table <*> for update"


def test_a_variable_may_hold_several_words() -> None:
    names = ("Anna", "Bert", "Carl", "Dora", "Emil", "Frau von Stein")
    miner = mine(*(f"mail was handed to {name} after some <num> tries" for name in names))
    assert miner.mapping[6] == 1


def test_a_later_text_joins_and_a_revision_says_what_moved() -> None:
    miner = mine("job alpha has finished", "job beta has finished", "job gamma has finished", "job delta has finished")
    assert miner.mapping == {}
    miner.add(9, "job omega has finished")
    assert miner.revise() == {2: 1, 3: 1, 4: 1, 9: 1}
    assert miner.revise() == {}
    miner.add(10, "job sigma has finished")
    assert miner.revise() == {10: 1}


def test_a_restored_grouping_stays() -> None:
    miner = Miner()
    miner.restore(1, "job <*> has finished", [1, 2, 3])
    assert miner.mapping == {2: 1, 3: 1}
    miner.add(7, "job sigma has finished")
    assert miner.revise() == {7: 1}


@given(st.lists(st.text(alphabet="ab <>*=:1", max_size=30), max_size=20))
def test_any_texts_can_be_mined(texts: list[str]) -> None:
    miner = mine(*texts)
    assert set(miner.mapping.values()).isdisjoint(miner.mapping)
    for founder in set(miner.mapping.values()):
        assert miner.text_of(founder) is not None


@pytest.mark.parametrize(
    ("values", "expected"),
    [({"<num>", "<id>"}, True), ({"a", "b", "c", "d"}, False), ({"a1", "b2", "c3"}, True), ({"GET", "POST", "PUT"}, False), ({"<*>", "x"}, True)],
)
def test_what_makes_a_place_a_variable(values: set[str], expected: bool) -> None:
    assert is_variable(values) is expected


@pytest.mark.skipif(not LOGHUB.is_dir(), reason="the real logs of ../shared/data/loghub are not here")
def test_real_logs_are_grouped_as_people_grouped_them() -> None:
    """Group accuracy (Zhu et al., ICSE-SEIP 2019) on fingerprints: a line counts when its group is exactly the people's group."""
    accuracies = {}
    for path in sorted(LOGHUB.rglob("*_structured.csv")):
        with path.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        fingerprints, texts = fingerprint_bodies([row["Content"] for row in rows])
        miner = Miner()
        for fingerprint, text in texts.items():
            miner.add(fingerprint, text)
        miner.revise()
        ours, theirs = defaultdict(set), defaultdict(set)
        for line, (row, fingerprint) in enumerate(zip(rows, fingerprints, strict=True)):
            ours[miner.mapping.get(fingerprint, fingerprint)].add(line)
            theirs[row["EventId"]].add(line)
        people = {frozenset(lines) for lines in theirs.values()}
        accuracies[path.stem] = sum(len(lines) for lines in ours.values() if frozenset(lines) in people) / len(rows)
    print(accuracies)
    assert sum(accuracies.values()) / len(accuracies) > 0.8
