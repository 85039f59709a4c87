"""Error rate: a service reports more errors than it used to, whatever their text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.correlate.baselines import discover
from services.correlate.detectors.base import ERROR, GUARD, Observation, count_text, earliest, group_rows, measure_baseline, rate_text, surprise_of
from services.correlate.history import Scene


@dataclass(frozen=True, slots=True)
class ErrorRateOptions:
    """`windows` in minutes; `most_volume` bounds how much of a rise is put down to more traffic."""

    windows: tuple[int, ...] = (1, 3)
    half_life: float = 120.0
    false_share: float = 1e-3
    least_spread: float = 2.0
    minimum_minutes: int = 10
    ratio: float = 3.0
    least_errors: int = 5
    most_volume: float = 4.0


class ErrorRate:
    """Counts the errors of each (system, service) and compares with what it used to report at this volume."""

    name = "error_rate"

    def __init__(self, options: ErrorRateOptions | None = None) -> None:
        self.options = options or ErrorRateOptions()

    def examine(self, scene: Scene) -> list[Observation]:
        """Returns the services whose errors have risen."""
        options = self.options
        if not scene.tracks:
            return []
        keys = [(track.system, track.service or track.source) for track in scene.tracks]
        is_error = np.array([track.severity >= ERROR for track in scene.tracks])
        services, group, totals = group_rows(keys, scene.counts)
        errors = np.zeros_like(totals)
        np.add.at(errors, group[is_error], scene.counts[is_error])
        masked = np.full(totals.shape, False)
        np.logical_or.at(masked, group[is_error], scene.masked[is_error])
        started = earliest(scene.started, group, len(services))
        found: dict[int, tuple[float, int, float, float]] = {}
        for window in options.windows:
            if scene.length <= window:
                continue
            baseline = measure_baseline(scene, errors, masked, started, window, options.half_life)
            volume = measure_baseline(scene, totals, np.full(totals.shape, False), started, window, options.half_life)
            observed = errors[:, -window:].sum(axis=1)
            for row in np.flatnonzero((observed >= options.least_errors) & (baseline.span >= options.minimum_minutes)).tolist():
                usual = volume.rate(row) * window
                healthy = float(totals[row, -window:].sum() - observed[row])
                more = min(options.most_volume, max(1.0, healthy / usual)) if usual else 1.0
                expected = baseline.rate(row) * window * more
                if observed[row] < options.ratio * expected:
                    continue
                surprise = surprise_of(baseline, row, float(observed[row]), window, options.least_spread, more)
                if surprise > found.get(row, (0.0, 0, 0.0, 0.0))[0]:
                    found[row] = (surprise, window, float(observed[row]), expected)
        rows = list(found)
        surprises = np.array([found[row][0] for row in rows]) - np.log10(max(1, len(options.windows)))
        believed = discover(surprises, len(services), options.false_share)
        return [
            self._describe(scene, services[row], np.flatnonzero((group == row) & is_error).tolist(), found[row], float(surprise))
            for row, surprise, sure in zip(rows, surprises, believed, strict=True)
            if sure
        ]

    def _describe(self, scene: Scene, service: tuple[str, ...], members: list[int], found: tuple[float, int, float, float], surprise: float) -> Observation:
        _, window, observed, expected = found
        before = slice(0, scene.length - window - GUARD)
        minutes = max(1, scene.length - window - GUARD)
        risen = []
        for row in members:
            usual = float(scene.counts[row, before][~scene.masked[row, before]].sum()) / minutes * window
            if scene.counts[row, -window:].sum() > 2 * usual:
                risen.append(row)
        tracks = tuple(scene.tracks[row] for row in risen or members)
        sources = {track.source for track in tracks}
        return Observation(
            detector=self.name,
            system=service[0],
            source=sources.pop() if len(sources) == 1 else "",
            service=service[1],
            template=None,
            severity=max(track.severity for track in tracks),
            first=scene.minute - window + 1,
            last=scene.minute,
            expected=expected,
            observed=observed,
            surprise=surprise,
            weight=0.9,
            baseline=rate_text(expected / window, minutes),
            summary=f"{count_text(observed)} errors in {window} min instead of {count_text(expected)}",
            tracks=tracks,
        )
