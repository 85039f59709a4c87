"""Error rate: a service reports more errors than it used to, whatever their text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.correlate.baselines import discover
from services.correlate.detectors.base import GUARD, Baseline, Observation, count_text, rate_text, surprise_of
from services.correlate.scene import ERROR, Flags, Integers, Scene


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
        services = scene.flows.services
        found: dict[int, tuple[float, int, float, float]] = {}
        for window in options.windows:
            if scene.length <= window or not scene.tracks:
                continue
            observed = services.add_up(scene.flow_window(window, errors=True))
            rows = np.flatnonzero(observed >= options.least_errors)
            if not len(rows):
                continue
            started = services.earliest(scene.flow_started)[rows]
            baseline = Baseline(scene, services.rows(rows, scene.flow_errors), _masked_errors(scene, rows), started, window, options.half_life)
            volume = Baseline(scene, services.rows(rows, scene.flow_events), None, started, window, options.half_life)
            healthy = services.add_up(scene.flow_window(window)) - observed
            for place in np.flatnonzero(baseline.span >= options.minimum_minutes).tolist():
                row = int(rows[place])
                usual = volume.rate(place) * window
                more = min(options.most_volume, max(1.0, float(healthy[row]) / usual)) if usual else 1.0
                expected = baseline.rate(place) * window * more
                if observed[row] < options.ratio * expected:
                    continue
                surprise = surprise_of(baseline, place, float(observed[row]), window, options.least_spread, more)
                if surprise > found.get(row, (0.0, 0, 0.0, 0.0))[0]:
                    found[row] = (surprise, window, float(observed[row]), expected)
        if not found:
            return []
        surprises = np.array([surprise for surprise, *_ in found.values()]) - np.log10(max(1, len(options.windows)))
        believed = discover(surprises, len(services.keys), options.false_share)
        return [
            self._describe(scene, services.keys[row], services.members(row), found[row], float(surprise))
            for row, surprise, sure in zip(found, surprises, believed, strict=True)
            if sure
        ]

    def _describe(self, scene: Scene, service: tuple[str, ...], flows: Integers, found: tuple[float, int, float, float], surprise: float) -> Observation:
        _, window, observed, expected = found
        before = slice(0, scene.length - window - GUARD)
        minutes = max(1, scene.length - window - GUARD)
        rows = scene.rows_of(flows.tolist())
        rows = rows[scene.severity[rows] >= ERROR]
        counts = scene.counts(rows)
        usual = np.where(scene.masked(rows), 0.0, counts)[:, before].sum(axis=1) / minutes * window
        risen = rows[counts[:, -window:].sum(axis=1) > 2 * usual]
        tracks = tuple(scene.tracks[row] for row in (risen if len(risen) else rows).tolist())
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


def _masked_errors(scene: Scene, services: Integers) -> Flags:
    """Returns services x columns: where any errors are known to be unusual. The services are in rising order."""
    rows, columns = scene.masked_cells
    of_row = scene.flows.services.of_flow[scene.flow[rows]]
    concerned = (scene.severity[rows] >= ERROR) & np.isin(of_row, services)
    masked = np.full((len(services), scene.length), False)
    masked[np.searchsorted(services, of_row[concerned]), columns[concerned]] = True
    return masked
