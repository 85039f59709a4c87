"""What the canary concludes from what it sent and what it found."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from services.ingest.canary.ledger import Ledger, Metrics


@pytest.fixture
def ledger() -> Ledger:
    """A book in which five events were acknowledged, a second apart from each other."""
    ledger = Ledger("hec", Metrics(CollectorRegistry()))
    for number in range(5):
        ledger.note_sent()
        ledger.note_acknowledged(number, float(number), 0.01)
    return ledger


def test_what_is_found_is_healthy_and_has_a_latency(ledger: Ledger) -> None:
    ledger.note_page([(number, f"e{number}") for number in range(5)], 6.0)
    assert (ledger.found, ledger.missing, ledger.healthy) == (5, 0, True)
    assert list(ledger.found_seconds) == [6.0, 5.0, 4.0, 3.0, 2.0]


def test_pages_overlap_without_harm(ledger: Ledger) -> None:
    ledger.note_page([(0, "e0"), (1, "e1")], 2.0)
    ledger.note_page([(number, f"e{number}") for number in range(5)], 6.0)
    assert (ledger.found, ledger.duplicated, ledger.reordered) == (5, 0, 0)


def test_an_event_with_two_ids_is_a_duplicate_once(ledger: Ledger) -> None:
    ledger.note_page([(0, "a"), (0, "b"), (1, "e1")], 2.0)
    ledger.note_page([(0, "a"), (0, "b"), (0, "c"), (1, "e1")], 3.0)
    assert (ledger.duplicated, ledger.healthy) == (1, False)


def test_an_event_behind_a_later_one_is_reordered(ledger: Ledger) -> None:
    ledger.note_page([(0, "e0"), (2, "e2"), (1, "e1"), (3, "e3")], 5.0)
    assert (ledger.reordered, ledger.healthy) == (1, False)


def test_what_is_not_found_in_time_is_missing(ledger: Ledger) -> None:
    ledger.note_page([(0, "e0")], 2.0)
    ledger.give_up(before=3.0)
    assert (ledger.missing, len(ledger.waiting), ledger.healthy) == (2, 2, False)


def test_metrics_tell_the_same(ledger: Ledger) -> None:
    ledger.note_page([(0, "e0"), (0, "x"), (2, "e2"), (1, "e1")], 5.0)
    ledger.give_up(before=10.0)
    metrics = ledger.metrics
    counters = (metrics.sent, metrics.acknowledged, metrics.found, metrics.duplicated, metrics.reordered, metrics.missing)
    values = [counter.labels("hec")._value.get() for counter in counters]
    assert values == [5, 5, 3, 1, 1, 2]
