"""`elis simulate`: what it prints, writes and returns, and the one sentence for each mistake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from kit.errors import InvalidArgument
from services.ingest.simulator.command import parse_duration, parse_start, simulate
from services.ingest.simulator.scenarios import SCENARIOS
from services.ingest.simulator.stamps import SECOND
from tests.services.ingest.simulator.receivers import TOKEN, run_receiver

app = typer.Typer()
app.command()(simulate)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def write_credentials(path: Path, url: str, token: str = TOKEN) -> str:
    path.write_text(json.dumps({"graphql_url": f"{url}/graphql", "hec_url": url, "otlp_http_url": url, "otlp_grpc_address": "x:1", "ingest_token": token}))
    return str(path)


def test_it_lists_every_scenario_with_its_root() -> None:
    result = run("--list")
    assert result.exit_code == 0
    for name, scenario in SCENARIOS.items():
        assert name in result.stdout
        assert scenario.root is None or f"{scenario.root.system}/{scenario.root.service}" in result.stdout


def test_out_writes_files_to_look_at_and_counts_them(tmp_path: Path) -> None:
    labels = tmp_path / "labels.jsonl"
    result = run("--out", str(tmp_path / "out"), "--duration", "2m", "--labels", str(labels), "--json", "--start", "2026-11-24T06:00:00Z")
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    lines = sum(len((tmp_path / "out" / name).read_bytes().splitlines()) for name in ("hec.jsonl", "otlp.jsonl"))
    assert lines == summary["systems"]["splunk"] + summary["systems"]["application"]
    assert summary["events"] == sum(summary["systems"].values()) == len(labels.read_bytes().splitlines()) - 1
    assert summary["header"]["root"] == {"system": "sap", "service": "hana"}
    assert list((tmp_path / "out" / "sap").rglob("*.trc"))


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    arguments = ("--duration", "1m", "--start", "2026-11-24T06:00:00Z", "--scenario", "bad-release", "--out")
    for name in ("one", "two"):
        assert run(*arguments, str(tmp_path / name)).exit_code == 0
    one = {path.relative_to(tmp_path / "one"): path.read_bytes() for path in (tmp_path / "one").rglob("*") if path.is_file()}
    two = {path.relative_to(tmp_path / "two"): path.read_bytes() for path in (tmp_path / "two").rglob("*") if path.is_file()}
    assert one == two


def test_a_story_is_sent_and_the_planted_root_is_told(tmp_path: Path) -> None:
    with run_receiver() as receiver:
        path = write_credentials(tmp_path / "credentials.json", receiver.url)
        result = run("--credentials", path, "--duration", "1m", "--speed", "0")
    assert result.exit_code == 0
    assert "planted: sap/hana" in result.stdout
    assert receiver.events


def test_refused_events_make_the_command_fail(tmp_path: Path) -> None:
    with run_receiver() as receiver:
        receiver.otlp_answers.append((400, {}, b""))
        path = write_credentials(tmp_path / "credentials.json", receiver.url)
        result = run("--credentials", path, "--duration", "20s", "--speed", "0")
    assert result.exit_code == 1
    assert "did not take" in result.stderr


def test_a_wrong_token_fails_with_one_sentence(tmp_path: Path) -> None:
    with run_receiver() as receiver:
        path = write_credentials(tmp_path / "credentials.json", receiver.url, "wrong")
        result = run("--credentials", path, "--duration", "20s", "--speed", "0")
    assert result.exit_code == 1
    assert "refuses the ingest token" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--scenario", "flood"], 2, "choose one of hana-volume-full, firewall-change, bad-release, lock-storm, quiet"),
        (["--duration", "soon"], 2, "'soon' is not a duration"),
        (["--rate", "-1"], 2, "the rate must lie above 0"),
        (["--fault-at", "1.5"], 2, "between 0 and 1"),
        (["--speed", "-1"], 2, "the speed must be 0"),
        (["--start", "yesterday"], 2, "'yesterday' is not a time"),
        (["--credentials", "/nowhere/credentials.json"], 2, "there is no credentials file /nowhere/credentials.json"),
        (["--labels", "/nowhere/labels.jsonl", "--out", "/tmp"], 2, "/nowhere/labels.jsonl cannot be written"),
    ],
)
def test_each_mistake_gets_one_sentence(arguments: list[str], code: int, sentence: str) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_a_file_that_is_no_credentials_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    path.write_text("{}")
    result = run("--credentials", str(path))
    assert result.exit_code == 2
    assert "is not a credentials file of ELIS" in result.stderr


def test_nobody_at_the_address_fails_with_one_sentence(tmp_path: Path) -> None:
    result = run("--credentials", write_credentials(tmp_path / "credentials.json", "http://127.0.0.1:9"))
    assert result.exit_code == 1
    assert "start ELIS with `elis up`" in result.stderr


def test_control_c_stops_cleanly_and_still_tells_the_counts(tmp_path: Path) -> None:
    with run_receiver() as receiver:
        path = write_credentials(tmp_path / "credentials.json", receiver.url)
        program = "import typer; from services.ingest.simulator.command import simulate; typer.run(simulate)"
        arguments = [sys.executable, "-c", program, "--credentials", path, "--speed", "20", "--json"]
        with subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": ".:protos/gen"}
        ) as process:
            while receiver.otlp_requests < 3:  # It counts what was answered, and sends the next when it has.
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert json.loads(stdout)["events"] > 0
    assert "stopped before the end" in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize(("text", "seconds"), [("40m", 2400), ("1h30m", 5400), ("90s", 90), ("90", 90), ("1h1m1s", 3661)])
def test_durations_are_read(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@given(st.text(max_size=12))
def test_any_other_text_is_refused_as_a_duration(text: str) -> None:
    if re.fullmatch(r"\s*(?=.)([0-9]+h)?([0-9]+m)?([0-9]+s?)?\s*", text) and text.strip():
        assert parse_duration(text) >= 0
    else:
        with pytest.raises(InvalidArgument, match="is not a duration"):
            parse_duration(text)


def test_a_start_without_a_zone_is_utc() -> None:
    assert parse_start("2026-11-24T06:00:00", 60) == parse_start("2026-11-24T07:00:00+01:00", 60) == 1_795_500_000 * SECOND
