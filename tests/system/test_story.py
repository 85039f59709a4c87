"""`elis demo --once`: one incident with the planted cause, and none where nothing was planted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.stack import claim_offset, open_folder, processes_of, run_elis

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.mark.parametrize(("scenario", "expected"), [("hana-volume-full", "1. sap/hana"), ("quiet", "no incident was opened")])
def test_a_story_ends_as_it_was_planted(scenario: str, expected: str) -> None:
    with open_folder() as folder, claim_offset() as offset:
        data: Path = folder / "data"
        result = run_elis("demo", "--once", "--scenario", scenario, "--speed", "400", "--data", data, "--port-offset", offset, timeout=280)
        assert result.returncode == 0, result.stdout + result.stderr
        assert expected in result.stdout
        assert "Traceback" not in result.stderr
        assert processes_of(data) == []
