"""`elis ingest` and `elis canary`: their help says what holds when an option is left out."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from services.ingest.canary.command import canary
from services.ingest.command import ingest

app = typer.Typer()
app.command("ingest")(ingest)
app.command("canary")(canary)


@pytest.mark.parametrize(
    ("command", "default"),
    [
        ("ingest", "detected per file"),
        ("ingest", "what the format implies"),
        ("ingest", "production"),
        ("ingest", "positions beside the credentials"),
        ("canary", "until Ctrl-C"),
    ],
)
def test_help_tells_defaults_that_are_no_values(command: str, default: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert f"[default: ({default})]" in result.stdout
