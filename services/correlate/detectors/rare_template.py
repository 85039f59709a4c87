"""Rare template: a template that is known comes far more often than it used to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.correlate.baselines import discover
from services.correlate.detectors.base import ERROR, WARNING, Baseline, Observation, count_text, find_begin, measure_baseline, rate_text, surprise_of
from services.correlate.history import Scene


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
        severity = np.array([track.severity for track in scene.tracks])
        candidates: dict[int, tuple[float, int, float]] = {}
        baselines: dict[int, Baseline] = {}
        tests = 0
        for window in options.windows:
            if scene.length <= window:
                continue
            baseline = baselines[window] = measure_baseline(scene, scene.counts, scene.masked, scene.started, window, options.half_life)
            observed = scene.counts[:, -window:].sum(axis=1)
            enough = baseline.span >= options.minimum_minutes
            tests = max(tests, int(enough.sum()))
            expected = np.divide(baseline.seen * window, baseline.minutes, out=np.zeros(len(observed)), where=baseline.minutes > 0)
            known = (baseline.seen > 0) | (scene.first_seen <= scene.minute - scene.length)
            burst = enough & known & (observed >= options.least_events) & (observed >= options.ratio * expected)
            burst &= (severity >= WARNING) | (baseline.active < options.rare)
            for row in np.flatnonzero(burst).tolist():
                surprise = surprise_of(baseline, row, float(observed[row]), window, options.least_spread)
                if surprise > candidates.get(row, (0.0, 0, 0.0))[0]:
                    candidates[row] = (surprise, window, float(observed[row]))
        rows = list(candidates)
        surprises = np.array([candidates[row][0] for row in rows]) - np.log10(max(1, len(options.windows)))
        believed = discover(surprises, tests, options.false_share)
        return [
            self._describe(scene, row, candidates[row][1], candidates[row][2], float(surprise), baselines[candidates[row][1]])
            for row, surprise, sure in zip(rows, surprises, believed, strict=True)
            if sure
        ]

    def _describe(self, scene: Scene, row: int, window: int, observed: float, surprise: float, baseline: Baseline) -> Observation:
        track = scene.tracks[row]
        rate = baseline.rate(row)
        return Observation(
            detector=self.name,
            system=track.system,
            source=track.source,
            service=track.service,
            template=track.template,
            severity=track.severity,
            first=scene.minute - find_begin(scene.counts[row], window, rate),
            last=scene.minute,
            expected=rate * window,
            observed=observed,
            surprise=surprise,
            weight=0.9 if track.severity >= ERROR else 0.7 if track.severity >= WARNING else 0.3,
            baseline=rate_text(rate, int(baseline.span[row])),
            summary=f"{count_text(observed)} times in {window} min instead of {count_text(rate * window)}",
            tracks=(track,),
        )
