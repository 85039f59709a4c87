"""Volume: a service of a source sends far more or far less than it used to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.correlate.baselines import Floats, surprise_below
from services.correlate.detectors.base import Baseline, Observation, count_text, earliest, group_rows, measure_baseline, rate_text, surprise_of
from services.correlate.history import Scene


@dataclass(frozen=True, slots=True)
class VolumeOptions:
    """`spike` and `drop` are the ratios to the usual volume beyond which a change matters; windows in minutes."""

    half_life: float = 60.0
    minimum_minutes: int = 10
    spike: float = 2.0
    spike_window: int = 2
    spike_events: int = 20
    drop: float = 0.5
    drop_window: int = 3
    drop_events: int = 15
    """Expected events in the window below which a drop cannot be seen."""
    surprise: float = 8.0
    least_spread: float = 2.0


class Volume:
    """Compares the events of each (source, service) with the recent past, above and below."""

    name = "volume"

    def __init__(self, options: VolumeOptions | None = None) -> None:
        self.options = options or VolumeOptions()

    def examine(self, scene: Scene) -> list[Observation]:
        """Returns spikes and drops."""
        options = self.options
        if not scene.tracks or scene.length <= options.drop_window:
            return []
        keys = [(track.system, track.source, track.service) for track in scene.tracks]
        services, group, totals = group_rows(keys, scene.counts)
        started = earliest(scene.started, group, len(services))
        # Where a spike was unusual, its minutes were masked track by track: what remains is the usual part.
        usual = np.zeros_like(totals)
        np.add.at(usual, group, np.where(scene.masked, 0.0, scene.counts))
        masked = np.full(totals.shape, False)
        found = []
        spikes = measure_baseline(scene, usual, masked, started, options.spike_window, options.half_life)
        drops = measure_baseline(scene, usual, masked, started, options.drop_window, options.half_life)
        for row, service in enumerate(services):
            if spikes.span[row] < options.minimum_minutes:
                continue
            members = np.flatnonzero(group == row).tolist()
            found += self._find_spike(scene, service, members, totals[row], spikes, row)
            found += self._find_drop(scene, service, members, totals[row], drops, row)
        return found

    def _find_spike(self, scene: Scene, service: tuple[str, ...], members: list[int], counts: Floats, baseline: Baseline, row: int) -> list[Observation]:
        options, window = self.options, self.options.spike_window
        observed, expected = float(counts[-window:].sum()), baseline.rate(row) * window
        # Both minutes must be high: a second of chatter that straddles nothing is not a change of volume.
        if observed < options.spike_events or counts[-window:].min() < options.spike * expected / window or observed < options.spike * expected:
            return []
        surprise = surprise_of(baseline, row, observed, window, options.least_spread)
        if surprise < options.surprise:
            return []
        risen = [member for member in members if scene.counts[member, -window:].sum() > 2 * window * scene.counts[member, : -window - 2].mean()]
        return [self._describe(scene, service, risen or members, "spike", window, (observed, expected, surprise), baseline, row)]

    def _find_drop(self, scene: Scene, service: tuple[str, ...], members: list[int], counts: Floats, baseline: Baseline, row: int) -> list[Observation]:
        options, window = self.options, self.options.drop_window
        observed, expected = float(counts[-window:].sum()), baseline.rate(row) * window
        if expected < options.drop_events or observed == 0 or counts[-window:].max() > options.drop * expected / window:
            return []
        spread = max(options.least_spread, float(baseline.spread[row]))
        surprise = surprise_below(observed, window, float(baseline.seen[row]), float(baseline.minutes[row]), spread)
        if surprise < options.surprise:
            return []
        return [self._describe(scene, service, members, "drop", window, (observed, expected, surprise), baseline, row)]

    def _describe(
        self,
        scene: Scene,
        service: tuple[str, ...],
        members: list[int],
        kind: str,
        window: int,
        figures: tuple[float, float, float],
        baseline: Baseline,
        row: int,
    ) -> Observation:
        observed, expected, surprise = figures
        system, source, name = service
        word = "more" if kind == "spike" else "fewer"
        return Observation(
            detector=f"{self.name}_{kind}",
            system=system,
            source=source,
            service=name,
            template=None,
            severity=0,
            first=scene.minute - window + 1,
            last=scene.minute,
            expected=expected,
            observed=observed,
            surprise=surprise,
            weight=0.5,
            baseline=rate_text(baseline.rate(row), int(baseline.span[row])),
            summary=f"{word} events: {count_text(observed)} in {window} min instead of {count_text(expected)}",
            tracks=tuple(scene.tracks[member] for member in members),
        )
