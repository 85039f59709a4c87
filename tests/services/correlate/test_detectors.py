"""Each detector finds what was planted, says nothing about noise, and keeps still while the history is short."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from services.correlate.detectors import DETECTORS
from services.correlate.detectors.base import Observation
from services.correlate.history import Counted, History
from services.correlate.scene import Scene, Track

ORDERS = Track("application", "shop", "orders", 1, 9)
FAILED = Track("application", "shop", "orders", 2, 17)
DENIED = Track("infrastructure", "wall", "firewall", 3, 13)
JOB = Track("infrastructure", "cron", "batch", 4, 9)
OTHER = Track("sap", "trace", "abap", 5, 9)

Counts = Callable[[int], Sequence[tuple[Track, int]]]


def scene_of(minutes: int, counts: Counts, seed: int = 0) -> Scene:
    """Counts per minute are Poisson around what `counts` gives."""
    random = np.random.default_rng(seed)
    history = History(400)
    for minute in range(minutes):
        rows = [(track, int(random.poisson(mean))) for track, mean in counts(minute)]
        history.put(1000 + minute, [Counted(track, number, 0) for track, number in rows if number])
    return history.scene(1000 + minutes - 1)


def normal(minute: int) -> list[tuple[Track, int]]:
    return [(ORDERS, 200), (OTHER, 80), (DENIED, 4)]


def observe(scene: Scene, name: str) -> list[Observation]:
    return DETECTORS[name].examine(scene)


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_no_finding(seed: int) -> None:
    for name in DETECTORS:
        assert observe(scene_of(60, normal, seed), name) == []


@pytest.mark.parametrize("name", DETECTORS)
def test_a_short_history_is_no_baseline(name: str) -> None:
    def burst(minute: int) -> list[tuple[Track, int]]:
        return [*normal(minute), *([(FAILED, 100), (JOB, 900)] if minute >= 7 else [])]

    assert observe(scene_of(9, burst), name) == []


def test_nothing_recorded_is_nothing_to_find() -> None:
    empty = History(100)
    empty.put(5, [])
    for detector in DETECTORS.values():
        assert detector.examine(empty.scene(5)) == []


def test_new_errors_are_found_with_the_minute_they_began() -> None:
    [found] = observe(scene_of(40, lambda minute: [*normal(minute), *([(FAILED, 12)] if minute >= 37 else [])]), "new_template")
    assert (found.system, found.service, found.template, found.severity) == ("application", "orders", 2, 17)
    assert (found.first, found.last) == (1037, 1039)
    assert found.expected == 0
    assert found.is_error


def test_a_single_new_error_is_chance() -> None:
    assert observe(scene_of(40, lambda minute: normal(minute)), "new_template") == []
    history = History(400)
    for minute in range(40):
        rows = [Counted(track, count, 0) for track, count in normal(minute)]
        history.put(minute, [*rows, *([Counted(FAILED, 1, 0)] if minute == 39 else [])])
    assert observe(history.scene(39), "new_template") == []


def test_a_source_that_keeps_inventing_templates_surprises_less() -> None:
    def inventive(minute: int) -> list[tuple[Track, int]]:
        return [*normal(minute), (Track("application", "shop", "orders", 100 + minute, 17), 6)]

    assert len(observe(scene_of(60, inventive), "new_template")) <= 1


def test_a_known_warning_that_bursts_is_found() -> None:
    [found] = observe(scene_of(40, lambda minute: [(ORDERS, 200), (OTHER, 80), (DENIED, 4 if minute < 38 else 60)]), "rare_template")
    assert found.template == 3
    assert 1037 <= found.first <= 1038
    assert found.observed > 80
    assert found.expected == pytest.approx(4 * (found.last - 1038 + 2), abs=6)


def test_errors_of_many_kinds_are_found_as_a_rate() -> None:
    def diverse(minute: int) -> list[tuple[Track, int]]:
        failing = [(Track("application", "shop", "orders", 50 + kind, 17), 1) for kind in range(40)] if minute >= 38 else []
        return [*normal(minute), *failing]

    [found] = observe(scene_of(40, diverse), "error_rate")
    assert (found.system, found.service) == ("application", "orders")
    assert found.observed > 30


def test_more_traffic_explains_as_many_more_errors() -> None:
    def rush(minute: int) -> list[tuple[Track, int]]:
        factor = 1 if minute < 37 else 3
        return [(ORDERS, 400 * factor), (FAILED, 4 * factor), (OTHER, 80)]

    assert observe(scene_of(40, rush), "error_rate") == []


def test_volume_is_watched_above_and_below() -> None:
    [spike] = observe(scene_of(40, lambda minute: [(ORDERS, 200 if minute < 38 else 700), (OTHER, 80)]), "volume")
    assert (spike.detector, spike.service) == ("volume_spike", "orders")
    [drop] = observe(scene_of(40, lambda minute: [(ORDERS, 200 if minute < 37 else 40), (OTHER, 80)]), "volume")
    assert (drop.detector, drop.service) == ("volume_drop", "orders")
    assert drop.observed < drop.expected / 2


def test_a_source_that_vanishes_is_missed_and_one_that_comes_rarely_is_not() -> None:
    def vanishing(minute: int) -> list[tuple[Track, int]]:
        rare = [(JOB, 20)] if minute in (5, 30) else []
        return [(ORDERS, 200), *([(OTHER, 80)] if minute < 33 else []), *rare]

    [found] = observe(scene_of(40, vanishing), "silence")
    assert (found.system, found.source) == ("sap", "trace")
    assert found.first == 1033
    assert found.observed == 0


def test_when_all_are_silent_nobody_is_missed() -> None:
    assert observe(scene_of(40, lambda minute: normal(minute) if minute < 33 else []), "silence") == []


def test_an_incident_does_not_become_its_own_baseline() -> None:
    history = History(400)
    random = np.random.default_rng(3)
    for minute in range(60):
        failing = [(FAILED, 30)] if minute >= 30 else []
        history.put(minute, [Counted(track, int(random.poisson(mean)), 0) for track, mean in (*normal(minute), *failing)])
        for found in observe(history.scene(minute), "new_template"):
            history.mask(found.tracks, found.first, found.last)
    assert [found.template for found in observe(history.scene(59), "new_template")] == [2]
