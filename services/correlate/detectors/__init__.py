"""The detectors: one file and one line each."""

from __future__ import annotations

from services.correlate.detectors.base import Detector
from services.correlate.detectors.error_rate import ErrorRate
from services.correlate.detectors.new_template import NewTemplate
from services.correlate.detectors.rare_template import RareTemplate
from services.correlate.detectors.silence import Silence
from services.correlate.detectors.volume import Volume

DETECTORS: dict[str, Detector] = {
    detector.name: detector
    for detector in (
        NewTemplate(),
        RareTemplate(),
        ErrorRate(),
        Volume(),
        Silence(),
    )
}
"""Every detector by name."""
