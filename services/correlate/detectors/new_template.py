"""New template: a warning or an error that was never seen before, more often than a first sight explains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.correlate.baselines import discover
from services.correlate.detectors.base import LOOK_BACK, Baseline, Observation, count_tests, count_text, surprise_of
from services.correlate.scene import ERROR, WARNING, Integers, Scene


@dataclass(frozen=True, slots=True)
class NewTemplateOptions:
    """`windows` in minutes; `false_share` bounds the share of false findings; `least_spread` is how much errors clump at least."""

    windows: tuple[int, ...] = (1, 3)
    half_life: float = 720.0
    false_share: float = 1e-3
    false_share_of_errors: float = 5e-3
    least_spread: float = 1.5
    minimum_minutes: int = 10
    burst: int = 10
    """Events from which a template below WARNING is looked at."""
    debut_minutes: int = 10
    """Minutes after the first sound of a source in which everything is new."""


class NewTemplate:
    """Finds templates that were first seen in the newest minutes.

    How surprising n events of an unseen kind are follows from the length of the history alone (baselines, n = 0).
    A source that keeps inventing templates in bursts of that size has its surprise divided by how often it did.
    """

    name = "new_template"

    def __init__(self, options: NewTemplateOptions | None = None) -> None:
        self.options = options or NewTemplateOptions()

    def examine(self, scene: Scene) -> list[Observation]:
        """Returns the templates that appeared."""
        options = self.options
        candidates: dict[int, tuple[float, int, float, int]] = {}
        for window in options.windows:
            if scene.length <= window or not scene.tracks:
                continue
            observed = scene.window(window)
            fresh = (scene.first_seen > scene.minute - scene.length) & (((scene.severity >= WARNING) & (observed >= 2)) | (observed >= options.burst))
            rows = np.flatnonzero(fresh)
            if not len(rows):
                continue
            # What was masked a moment ago is the same burst going on: it stays new while it lasts.
            baseline = Baseline(scene, scene.counts(rows), scene.masked(rows), scene.started[rows], window, options.half_life)
            bursts: dict[int, Integers] = {}
            for place in np.flatnonzero((baseline.seen == 0) & (baseline.span >= options.minimum_minutes)).tolist():
                row, number = int(rows[place]), float(observed[rows[place]])
                flow = int(scene.flow[row])
                if flow not in bursts:
                    bursts[flow] = self._measure_debuts(scene, flow, window)
                surprise = surprise_of(baseline, place, number, window, options.least_spread) / (1 + int((bursts[flow] >= number / 2).sum()))
                if surprise > candidates.get(row, (0.0, 0, 0.0, 0))[0]:
                    candidates[row] = (surprise, window, number, int(baseline.span[place]))
        if not candidates:
            return []
        tests = count_tests(scene, options.windows, options.minimum_minutes)
        surprises = np.array([found[0] for found in candidates.values()]) - np.log10(max(1, len(options.windows)))
        are_errors = scene.severity[list(candidates)] >= ERROR
        believed = np.where(are_errors, discover(surprises, tests, options.false_share_of_errors), discover(surprises, tests, options.false_share))
        return [
            self._describe(scene, row, *found[1:], float(surprise))
            for (row, found), surprise, sure in zip(candidates.items(), surprises, believed, strict=True)
            if sure
        ]

    def _measure_debuts(self, scene: Scene, flow: int, window: int) -> Integers:
        """Returns with how many events the other templates of the same source and service came when they were new."""
        alike = [number for number, (_, *names) in enumerate(scene.flows.keys) if names == list(scene.flows.keys[flow][1:])]
        rows = scene.rows_of(alike)
        first_column = scene.first_seen - (scene.minute - scene.length + 1)
        latest = scene.length - window - 2
        others = rows[(first_column[rows] >= scene.started[rows] + self.options.debut_minutes) & (first_column[rows] < latest)]
        others = others[~np.isin(others, scene.masked_cells[0])]
        bursts: Integers = np.sum([scene.counts_at(others, first_column[others] + minute) for minute in range(window)], axis=0)
        return bursts

    def _describe(self, scene: Scene, row: int, window: int, observed: float, span: int, surprise: float) -> Observation:
        track = scene.tracks[row]
        seen = np.flatnonzero(scene.counts(np.array([row]))[0, -window - LOOK_BACK :])
        first = scene.minute - min(window + LOOK_BACK, scene.length) + 1 + int(seen[0])
        level = "error" if track.severity >= ERROR else "warning" if track.severity >= WARNING else "message"
        return Observation(
            detector=self.name,
            system=track.system,
            source=track.source,
            service=track.service,
            template=track.template,
            severity=track.severity,
            first=first,
            last=scene.minute,
            expected=0.0,
            observed=observed,
            surprise=surprise,
            weight=1.0 if track.severity >= ERROR else 0.8 if track.severity >= WARNING else 0.4,
            baseline=f"never seen in {span} minutes",
            summary=f"new {level}, {count_text(observed)} times in {window} min",
            tracks=(track,),
        )
