"""The scenarios: one file and one line each."""

from __future__ import annotations

from services.ingest.simulator.scenarios import bad_release, firewall_change, hana_volume_full, lock_storm, quiet
from services.ingest.simulator.scenarios.base import Scenario

SCENARIOS: dict[str, Scenario] = {
    "hana-volume-full": hana_volume_full.SCENARIO,
    "firewall-change": firewall_change.SCENARIO,
    "bad-release": bad_release.SCENARIO,
    "lock-storm": lock_storm.SCENARIO,
    "quiet": quiet.SCENARIO,
}
