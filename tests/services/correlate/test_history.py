"""The recent past in memory holds the same whatever the order in which minutes come."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.correlate.history import Counted, History
from services.correlate.scene import Track

ONE = Track("sap", "trace", "abap", 1, 9)
TWO = Track("sap", "trace", "abap", 2, 9)


@given(st.permutations(range(12)))
def test_the_order_of_minutes_does_not_matter(order: list[int]) -> None:
    history = History(10)
    for minute in order:
        history.put(minute, [Counted(ONE, minute + 1, minute)])
    assert [history.count([ONE], minute, minute) for minute in range(2, 12)] == list(range(3, 13))
    assert history.count([ONE], 0, 1) == 0
    assert history.newest == 11


def test_putting_a_minute_again_replaces_it_and_says_whether_it_changed() -> None:
    history = History(10)
    assert history.put(5, [Counted(ONE, 3, 7)])
    assert not history.put(5, [Counted(ONE, 3, 7)])
    assert history.put(5, [Counted(ONE, 4, 7), Counted(TWO, 1, 8)])
    assert history.count([ONE, TWO], 5, 5) == 5
    assert history.events_of([TWO], 0, 9) == [(5, TWO, 8)]
    assert history.first_events(5) == [7, 8]


def test_merged_templates_add_up() -> None:
    history = History(10)
    history.put(4, [Counted(ONE, 3, 7)])
    history.put(5, [Counted(ONE, 3, 8), Counted(TWO, 2, 9)])
    history.merge_templates({2: 1})
    assert history.count([ONE], 4, 5) == 8
    assert history.count([TWO], 4, 5) == 0
    assert [event for _, _, event in history.events_of([ONE], 4, 5)] == [7, 8, 9]
    history.put(6, [Counted(ONE, 1, 10)])
    assert history.scene(6).totals.sum() == 9


def test_a_template_is_as_old_as_its_oldest_part() -> None:
    history = History(10)
    history.put(5, [Counted(ONE, 1, 1)])
    history.put(6, [Counted(TWO, 1, 2)])
    assert history.debuts("sap", "abap", 6, 6) == [TWO]
    history.learn_first_seen({2: -500})
    assert history.debuts("sap", "abap", 6, 6) == []


TRACKS = [Track("sap", source, "abap", template, severity) for source in ("trace", "log") for template in (1, 2, 3) for severity in (9, 17)]
PUTS = st.tuples(st.integers(0, 30), st.lists(st.tuples(st.sampled_from(TRACKS), st.integers(1, 50)), max_size=6))
MASKS = st.tuples(st.lists(st.sampled_from(TRACKS), max_size=4), st.integers(0, 30), st.integers(0, 5))
MERGES = st.sampled_from([{2: 1}, {3: 1}, {3: 2}])


@given(st.lists(st.one_of(PUTS, MASKS, MERGES), max_size=40), st.integers(0, 32))
def test_the_sums_that_are_kept_are_those_of_the_tracks(steps: list[tuple[Any, ...] | dict[int, int]], minute: int) -> None:
    history = History(12)
    for step in steps:
        if isinstance(step, dict):
            history.merge_templates(step)
        elif len(step) == 2:
            history.put(step[0], [Counted(track, number, 0) for track, number in step[1]])
        else:
            history.mask(step[0], step[1], step[1] + step[2])
    scene = history.scene(minute)
    rows = np.arange(len(scene.tracks))
    counts, masked, errors = scene.counts(rows), scene.masked(rows), (scene.severity >= 17)[:, None]
    for flow in range(len(scene.flows.keys)):
        members = scene.rows_of([flow])
        assert [scene.tracks[row][:3] for row in members.tolist()] == [scene.flows.keys[flow]] * len(members)
        assert (scene.flow_events[flow] == counts[members].sum(axis=0)).all()
        assert (scene.flow_errors[flow] == (counts * errors)[members].sum(axis=0)).all()
        assert (scene.flow_masked[flow] == (counts * masked)[members].sum(axis=0)).all()
    assert (scene.totals == counts.sum(axis=0)).all()
    assert (scene.window(3) == counts[:, -3:].sum(axis=1)).all()


def test_texts_that_never_repeat_do_not_fill_the_memory() -> None:
    history = History(10)
    for minute in range(60):
        fresh = [Counted(Track("sap", "trace", "abap", 1000 * minute + number, 9), 1, number) for number in range(300)]
        history.put(minute, [Counted(ONE, 5, minute), *fresh])
    scene = history.scene(59)
    assert len(scene.tracks) < 9000
    assert scene.counts(np.arange(len(scene.tracks))).sum() == 10 * 305
    assert history.count([ONE], 55, 59) == 25
    assert history.events_of([ONE], 58, 59) == [(58, ONE, 58), (59, ONE, 59)]
