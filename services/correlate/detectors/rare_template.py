"""Rare template: a template that is known comes far more often than it used to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.correlate.baselines import discover
from services.correlate.detectors.base import Baseline, Observation, count_tests, count_text, find_begin, rate_text, surprise_of
from services.correlate.scene import ERROR, WARNING, Scene


@dataclass(frozen=True, slots=True)
class RareTemplateOptions:
    """`windows` in minutes; `ratio` is how many times the usual count there must be; `rare` the share of minutes that had any."""

    windows: tuple[int, ...] = (1, 3)
    half_life: float = 120.0
    false_share: float = 1e-3
    least_spread: float = 2.0
    minimum_minutes: int = 10
    ratio: float = 4.0
    least_events: int = 4
    rare: float = 0.25


class RareTemplate:
    """Finds bursts of known templates: of warnings and errors however frequent, of other messages only when they are rare."""

    name = "rare_template"

    def __init__(self, options: RareTemplateOptions | None = None) -> None:
        self.options = options or RareTemplateOptions()

    def examine(self, scene: Scene) -> list[Observation]:
        """Returns the templates that burst."""
        options = self.options
        candidates: dict[int, tuple[float, int, float, float, int]] = {}
        for window in options.windows:
            if scene.length <= window or not scene.tracks:
                continue
            observed = scene.window(window)
            rows = np.flatnonzero(observed >= options.least_events)
            if not len(rows):
                continue
            baseline = Baseline(scene, scene.counts(rows), scene.masked(rows), scene.started[rows], window, options.half_life)
            expected = np.divide(baseline.seen * window, baseline.minutes, out=np.zeros(len(rows)), where=baseline.minutes > 0)
            known = (baseline.seen > 0) | (scene.first_seen[rows] <= scene.minute - scene.length)
            burst = (baseline.span >= options.minimum_minutes) & known & (observed[rows] >= options.ratio * expected)
            if burst.any():
                burst &= (scene.severity[rows] >= WARNING) | (baseline.active() < options.rare)
            for place in np.flatnonzero(burst).tolist():
                row, number = int(rows[place]), float(observed[rows[place]])
                surprise = surprise_of(baseline, place, number, window, options.least_spread)
                if surprise > candidates.get(row, (0.0, 0, 0.0, 0.0, 0))[0]:
                    candidates[row] = (surprise, window, number, baseline.rate(place), int(baseline.span[place]))
        if not candidates:
            return []
        tests = count_tests(scene, options.windows, options.minimum_minutes)
        surprises = np.array([found[0] for found in candidates.values()]) - np.log10(max(1, len(options.windows)))
        believed = discover(surprises, tests, options.false_share)
        return [
            self._describe(scene, row, *found[1:], float(surprise))
            for (row, found), surprise, sure in zip(candidates.items(), surprises, believed, strict=True)
            if sure
        ]

    def _describe(self, scene: Scene, row: int, window: int, observed: float, rate: float, span: int, surprise: float) -> Observation:
        track = scene.tracks[row]
        return Observation(
            detector=self.name,
            system=track.system,
            source=track.source,
            service=track.service,
            template=track.template,
            severity=track.severity,
            first=scene.minute - find_begin(scene.counts(np.array([row]))[0], window, rate),
            last=scene.minute,
            expected=rate * window,
            observed=observed,
            surprise=surprise,
            weight=0.9 if track.severity >= ERROR else 0.7 if track.severity >= WARNING else 0.3,
            baseline=rate_text(rate, span),
            summary=f"{count_text(observed)} times in {window} min instead of {count_text(rate * window)}",
            tracks=(track,),
        )
