"""Bad input of the commands: one clear sentence, the right exit code, no traceback, and nothing lost."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.fixtures.stack import Up, run_elis
from tests.system.api import Api, name_source

pytestmark = pytest.mark.system


@pytest.fixture
def credentials(stack: Up) -> Path:
    """The credentials file of the stack."""
    return stack.data_dir / "credentials.json"


def write(folder: Path, name: str, content: bytes) -> Path:
    """Returns a new file."""
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "code", "sentence"),
    [
        ("missing.log", 2, "there is no file {path}; nothing was sent"),
        ("folder", 1, "{path} is a folder; name the files in it"),
        ("binary.log", 1, "{path} is a binary file; ELIS takes text"),
        ("empty.log", 0, "{path} is empty: nothing to send"),
    ],
)
def test_a_file_that_is_no_log(tmp_path: Path, credentials: Path, name: str, code: int, sentence: str) -> None:
    (tmp_path / "folder").mkdir()
    write(tmp_path, "binary.log", random.Random(1).randbytes(20_000))
    write(tmp_path, "empty.log", b"")
    path = tmp_path / name
    result = run_elis("ingest", path, "--source", name_source("bad"), "--credentials", credentials)
    assert result.returncode == code
    assert result.stderr.strip().removeprefix("elis: ") == sentence.format(path=path)
    assert result.stdout.strip() == ""


def test_a_bad_file_does_not_hold_up_a_good_one(tmp_path: Path, credentials: Path, api: Api) -> None:
    source = name_source("mixed")
    bad, good = write(tmp_path, "bad.log", bytes(1000)), write(tmp_path, "good.log", b"INFO: one\nINFO: two\n")
    result = run_elis("ingest", bad, good, "--source", source, "--credentials", credentials, "--json")
    assert result.returncode == 1
    assert "is a binary file" in result.stderr
    assert json.loads(result.stdout)["accepted"] == 2
    api.await_count(source, 2)


def test_a_line_of_100_megabytes_does_not_hold_up_its_neighbours(tmp_path: Path, credentials: Path, api: Api) -> None:
    source = name_source("long")
    path = write(tmp_path, "long.log", b"a line before\n" + b"x" * 100_000_000 + b"\na line after\n")
    result = run_elis("ingest", path, "--source", source, "--credentials", credentials, "--json")
    assert result.returncode == 1
    assert result.stderr.strip() == f"elis: {path}: 1 line(s) longer than 1 MiB were not sent; split them, the file still has them"
    counts = json.loads(result.stdout)
    assert (counts["accepted"], counts["rejected"]) == (2, 1)
    api.await_count(source, 2)
    assert {event["body"] for event in api.events(source)} == {"a line before", "a line after"}


def test_a_wrong_token_sends_nothing(tmp_path: Path, credentials: Path, api: Api) -> None:
    source, log = name_source("wrong"), write(tmp_path, "good.log", b"INFO: one\n")
    wrong = write(tmp_path, "wrong.json", json.dumps({**json.loads(credentials.read_text()), "ingest_token": "nonsense"}).encode())
    for command in (["ingest", log, "--source", source], ["simulate", "--duration", "60s", "--speed", "0"]):
        result = run_elis(*command, "--credentials", wrong)
        assert result.returncode == 1
        assert result.stderr.startswith("elis: ELIS at ")
        assert "refuses the ingest token" in result.stderr
        assert "Traceback" not in result.stderr
    assert api.count(source) == 0


def test_without_a_credentials_file_the_way_to_one_is_shown(tmp_path: Path) -> None:
    log = write(tmp_path, "good.log", b"INFO: one\n")
    for command in (["ingest", log, "--source", "x"], ["simulate"]):
        result = run_elis(*command, "--credentials", tmp_path / "none.json")
        assert result.returncode == 2
        assert "start ELIS with `elis up`" in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["simulate", "demo"])
def test_an_unknown_scenario_is_refused(command: str) -> None:
    result = run_elis(command, "--scenario", "nonsense")
    assert result.returncode == 2
    assert result.stderr.startswith("elis: there is no scenario 'nonsense'; choose one of hana-volume-full")


def test_migrating_without_a_database_says_so() -> None:
    url = "postgresql://x@127.0.0.1:1/x"
    result = run_elis("migrate", ELIS_DATABASE_URL=url, ELIS_REDIS_URL="redis://x", ELIS_SERVICE_SECRET="s" * 64)
    assert result.returncode == 1
    assert result.stderr.startswith("elis: PostgreSQL does not answer")
    assert "Traceback" not in result.stderr
