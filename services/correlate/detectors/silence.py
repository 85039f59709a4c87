"""Silence: a source that was heard regularly has vanished while others go on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.correlate.baselines import Floats, surprise_below
from services.correlate.detectors.base import Observation, count_text, rate_text
from services.correlate.scene import Scene


@dataclass(frozen=True, slots=True)
class SilenceOptions:
    """`regular` is the share of minutes in which a source must have been heard; `others` the share of the usual rest that goes on."""

    minimum_minutes: int = 15
    regular: float = 0.6
    least_gap: int = 4
    gap_factor: float = 3.0
    others: float = 0.4
    surprise: float = 8.0
    least_spread: float = 2.0
    longest: int = 60
    """Minutes after which a silence is no news any more."""


class Silence:
    """Finds regular sources whose gap is far longer than any before it and too long for their rate."""

    name = "silence"

    def __init__(self, options: SilenceOptions | None = None) -> None:
        self.options = options or SilenceOptions()

    def examine(self, scene: Scene) -> list[Observation]:
        """Returns the sources that have vanished."""
        options = self.options
        if not scene.tracks or scene.length < options.minimum_minutes:
            return []
        sources = scene.flows.sources
        heard_in = scene.flow_events[:, scene.recorded]
        # Only who was heard in the longest gap that matters, and not in the shortest, is looked at more closely.
        lately = sources.add_up(heard_in[:, -options.longest - 1 :].sum(axis=1))
        just_now = sources.add_up(heard_in[:, -options.least_gap :].sum(axis=1))
        started = sources.earliest(scene.flow_started)
        found = []
        for row in np.flatnonzero((lately > 0) & (just_now == 0)).tolist():
            flows = sources.members(row)
            totals = scene.flow_events[flows].sum(axis=0)
            counts = totals[started[row] :][scene.recorded[started[row] :]]
            heard = np.flatnonzero(counts > 0)
            gap = len(counts) - 1 - int(heard[-1])
            before = counts[: heard[-1] + 1]
            if not options.least_gap <= gap <= options.longest or len(before) < options.minimum_minutes:
                continue
            if self._is_regular(heard, before, gap) and self._others_go_on(scene.totals - totals, gap):
                rate = float(before.mean())
                spread = max(options.least_spread, float(before.var() / rate))
                surprise = surprise_below(0, gap, float(before.sum()), len(before), spread)
                if surprise >= options.surprise:
                    found.append(self._describe(scene, sources.keys[row], scene.rows_of(flows.tolist()).tolist(), gap, rate, surprise))
        return found

    def _is_regular(self, heard: np.ndarray[tuple[int], np.dtype[np.int64]], before: Floats, gap: int) -> bool:
        usual_gap = int(np.diff(heard).max()) - 1 if len(heard) > 1 else len(before)
        return len(heard) / len(before) >= self.options.regular and gap > self.options.gap_factor * usual_gap

    def _others_go_on(self, others: Floats, gap: int) -> bool:
        usual = float(others[:-gap].mean()) if len(others) > gap else 0.0
        return usual > 0 and float(others[-gap:].mean()) >= self.options.others * usual

    def _describe(self, scene: Scene, key: tuple[str, ...], members: list[int], gap: int, rate: float, surprise: float) -> Observation:
        system, source = key
        services = {scene.tracks[member].service for member in members}
        return Observation(
            detector=self.name,
            system=system,
            source=source,
            service=services.pop() if len(services) == 1 else "",
            template=None,
            severity=0,
            first=scene.minute - gap + 1,
            last=scene.minute,
            expected=rate * gap,
            observed=0.0,
            surprise=surprise,
            weight=0.6,
            baseline=rate_text(rate, scene.length - gap),
            summary=f"no event for {gap} min, {count_text(rate * gap)} were expected",
            tracks=tuple(scene.tracks[member] for member in members),
        )
