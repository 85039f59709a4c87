"""Volume: a service of a source sends far more or far less than it used to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.correlate.baselines import Floats, surprise_below
from services.correlate.detectors.base import Baseline, Observation, count_text, rate_text, surprise_of
from services.correlate.scene import Integers, Scene


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
        totals = scene.flow_events
        # Where a spike was unusual, its minutes were masked track by track: what remains is the usual part.
        usual = totals - scene.flow_masked
        spikes = Baseline(scene, usual, None, scene.flow_started, options.spike_window, options.half_life)
        drops = Baseline(scene, usual, None, scene.flow_started, options.drop_window, options.half_life)
        old_enough = spikes.span >= options.minimum_minutes
        window = totals[:, -options.spike_window :]
        most = options.spike * spikes.rates() * options.spike_window
        observed = window.sum(axis=1)
        # Both minutes must be high: a second of chatter that straddles nothing is not a change of volume.
        high = (observed >= options.spike_events) & (window.min(axis=1) >= most / options.spike_window) & (observed >= most)
        window = totals[:, -options.drop_window :]
        expected = drops.rates() * options.drop_window
        low = (expected >= options.drop_events) & (window.sum(axis=1) > 0) & (window.max(axis=1) <= options.drop * expected / options.drop_window)
        found = []
        for flow in sorted(np.flatnonzero(old_enough & (high | low)).tolist(), key=lambda number: scene.flows.keys[number]):
            found += self._find_spike(scene, flow, totals[flow], spikes) if high[flow] else []
            found += self._find_drop(scene, flow, totals[flow], drops) if low[flow] else []
        return found

    def _find_spike(self, scene: Scene, flow: int, counts: Floats, baseline: Baseline) -> list[Observation]:
        options, window = self.options, self.options.spike_window
        observed, expected = float(counts[-window:].sum()), baseline.rate(flow) * window
        surprise = surprise_of(baseline, flow, observed, window, options.least_spread)
        if surprise < options.surprise:
            return []
        members = scene.rows_of([flow])
        tracks = scene.counts(members)
        risen = members[tracks[:, -window:].sum(axis=1) > 2 * window * tracks[:, : -window - 2].mean(axis=1)]
        return [self._describe(scene, risen if len(risen) else members, "spike", window, (observed, expected, surprise), baseline, flow)]

    def _find_drop(self, scene: Scene, flow: int, counts: Floats, baseline: Baseline) -> list[Observation]:
        options, window = self.options, self.options.drop_window
        observed, expected = float(counts[-window:].sum()), baseline.rate(flow) * window
        spread = max(options.least_spread, baseline.spread(flow))
        surprise = surprise_below(observed, window, float(baseline.seen[flow]), float(baseline.minutes[flow]), spread)
        if surprise < options.surprise:
            return []
        members = scene.rows_of([flow])
        return [self._describe(scene, members, "drop", window, (observed, expected, surprise), baseline, flow)]

    def _describe(
        self, scene: Scene, members: Integers, kind: str, window: int, figures: tuple[float, float, float], baseline: Baseline, flow: int
    ) -> Observation:
        observed, expected, surprise = figures
        system, source, name = scene.flows.keys[flow]
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
            baseline=rate_text(baseline.rate(flow), int(baseline.span[flow])),
            summary=f"{word} events: {count_text(observed)} in {window} min instead of {count_text(expected)}",
            tracks=tuple(scene.tracks[member] for member in members.tolist()),
        )
