"""New template: a warning or an error that was never seen before, more often than a first sight explains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.correlate.baselines import discover
from services.correlate.detectors.base import ERROR, LOOK_BACK, WARNING, Baseline, Observation, count_text, measure_baseline, surprise_of
from services.correlate.history import Scene


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
        severity = np.array([track.severity for track in scene.tracks])
        candidates: dict[int, tuple[float, int, float]] = {}
        baselines: dict[int, Baseline] = {}
        tests = 0
        for window in options.windows:
            if scene.length <= window:
                continue
            baseline = baselines[window] = measure_baseline(scene, scene.counts, scene.masked, scene.started, window, options.half_life)
            observed = scene.counts[:, -window:].sum(axis=1)
            # What was masked a moment ago is the same burst going on: it stays new while it lasts.
            fresh = (baseline.seen == 0) & (scene.first_seen > scene.minute - scene.length) & (baseline.span >= options.minimum_minutes)
            fresh &= ((severity >= WARNING) & (observed >= 2)) | (observed >= options.burst)
            tests = max(tests, int((baseline.span >= options.minimum_minutes).sum()))
            for row in np.flatnonzero(fresh).tolist():
                surprise = surprise_of(baseline, row, float(observed[row]), window, options.least_spread) / (
                    1 + self._count_debuts(scene, row, float(observed[row]), window)
                )
                if surprise > candidates.get(row, (0.0, 0, 0.0))[0]:
                    candidates[row] = (surprise, window, float(observed[row]))
        rows = list(candidates)
        surprises = np.array([candidates[row][0] for row in rows]) - np.log10(max(1, len(options.windows)))
        are_errors = severity[rows] >= ERROR if rows else np.zeros(0, dtype=np.bool_)
        believed = np.where(are_errors, discover(surprises, tests, options.false_share_of_errors), discover(surprises, tests, options.false_share))
        return [
            self._describe(scene, row, candidates[row][1], candidates[row][2], float(surprise), baselines[candidates[row][1]])
            for row, surprise, sure in zip(rows, surprises, believed, strict=True)
            if sure
        ]

    def _count_debuts(self, scene: Scene, row: int, observed: float, window: int) -> int:
        """Returns how many other templates of the same source and service came with a burst like this one before."""
        track = scene.tracks[row]
        first_column = scene.first_seen - (scene.minute - scene.length + 1)
        latest = scene.length - window - 2
        others = np.flatnonzero((first_column >= scene.started + self.options.debut_minutes) & (first_column < latest))
        debuts = 0
        for other in others.tolist():
            rival = scene.tracks[other]
            if (rival.source, rival.service) == (track.source, track.service) and not scene.masked[other].any():
                start = int(first_column[other])
                debuts += bool(scene.counts[other, start : start + window].sum() >= observed / 2)
        return debuts

    def _describe(self, scene: Scene, row: int, window: int, observed: float, surprise: float, baseline: Baseline) -> Observation:
        track = scene.tracks[row]
        seen = np.flatnonzero(scene.counts[row, -window - LOOK_BACK :])
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
            baseline=f"never seen in {int(baseline.span[row])} minutes",
            summary=f"new {level}, {count_text(observed)} times in {window} min",
            tracks=(track,),
        )
