"""`elis up`: what it keeps, what it leaves behind, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.targets import TARGETS
from kit.up import HOST
from tests.fixtures.stack import await_ready, claim_offset, open_folder, processes_of, run_elis, run_up, start
from tests.system.api import Api, name_source, open_api

pytestmark = pytest.mark.system

ME = "{ me { role } }"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user can reach."""
    with open_folder() as path:
        yield path


@pytest.fixture
def offset() -> Iterator[int]:
    """A port offset of this test's own."""
    with claim_offset() as number:
        yield number


def send(api: Api, source: str) -> None:
    """Sends one event and waits until it is found."""
    assert api.send([{"time": time.time(), "source": source, "event": f"hello from {source}"}]).status_code == 200
    api.await_count(source, 1, seconds=30)


def assert_sentence(text: str, *words: str) -> None:
    """One complaint, on one line, with these words and no traceback."""
    lines = [line for line in text.splitlines() if line and not line.endswith("…")]
    assert len(lines) == 1, text
    assert lines[0].startswith("elis: ")
    assert "Traceback" not in text
    for word in words:
        assert word in lines[0]


def test_two_stacks_live_side_by_side_and_keep_what_they_know(folder: Path) -> None:
    with claim_offset() as left, claim_offset() as right:
        one, two = start(folder / "one", left), start(folder / "two", right)
        try:
            await_ready([one, two])
            mine, other = name_source("one"), name_source("two")
            with open_api(one.credentials) as first, open_api(two.credentials) as second:
                send(first, mine)
                send(second, other)
                assert (first.count(other), second.count(mine)) == (0, 0)
                assert second.post(ME, token=one.credentials["admin_api_key"]).status_code == 401
                first.query('mutation { createUser(username: "grace", password: "seven green kettles", role: "viewer") { id } }')
            path = one.data_dir / "credentials.json"
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            before = json.loads(path.read_text())
            required = {"graphql_url", "hec_url", "otlp_http_url", "otlp_grpc_address", "admin_api_key", "ingest_token"}
            assert required <= before.keys()

            again = run_elis("up", "--data", one.data_dir, "--port-offset", left)
            assert again.returncode == 1
            assert_sentence(again.stderr, "another `elis up` runs on", str(one.data_dir))
            taken = run_elis("up", "--data", folder / "three", "--port-offset", right)
            assert taken.returncode == 1
            assert_sentence(taken.stderr, "is in use", "--port-offset")

            assert one.stop(signal.SIGINT) == 0
            assert processes_of(one.data_dir) == []
            with run_up(one.data_dir, left) as back, open_api(back.credentials) as first, open_api(two.credentials) as second:
                assert json.loads(path.read_text()) == before
                first.await_count(mine, 1)
                names = [edge["node"]["username"] for edge in first.query("{ users { edges { node { username } } } }")["users"]["edges"]]
                assert {"admin", "grace"} <= set(names)
                send(first, name_source("after"))
                assert second.count(other) == 1

            os.kill(two.credentials["process_ids"]["correlate"], signal.SIGKILL)
            assert two.process.wait(40) == 1
            complaint = two.complaints.read_text()
            assert "correlate was killed by SIGKILL; its log is" in complaint
            assert "Traceback" not in complaint.partition("its log is")[0]
            assert processes_of(two.data_dir) == []
        finally:
            for up in (one, two):
                if up.process.poll() is None:
                    up.process.kill()


@pytest.mark.parametrize("step", ["starting PostgreSQL", "migrating", "starting auth"])
def test_a_start_that_is_stopped_leaves_nothing(folder: Path, offset: int, step: str) -> None:
    up = start(folder / "data", offset)
    deadline = time.monotonic() + 60
    while step not in up.complaints.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert up.stop(signal.SIGTERM) == 128 + signal.SIGTERM
    assert processes_of(up.data_dir) == []


def test_ctrl_c_while_the_database_is_made_is_no_failure(folder: Path, offset: int) -> None:
    up = start(folder / "data", offset)
    deadline = time.monotonic() + 60
    while not (up.data_dir / "postgres" / "base").exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(up.process.pid, signal.SIGINT)  # as a terminal does: to every program of the group
    assert up.process.wait(60) == 128 + signal.SIGINT
    assert "elis:" not in up.complaints.read_text()
    assert processes_of(up.data_dir) == []


def test_a_port_in_use_is_named(folder: Path, offset: int) -> None:
    with socket.create_server((HOST, TARGETS["ingest"].ports["hec"] + offset)):
        result = run_elis("up", "--data", folder / "data", "--port-offset", offset)
    assert result.returncode == 1
    assert_sentence(result.stderr, f"port {8088 + offset} (ingest, hec) is in use", "--port-offset")
    assert processes_of(folder / "data") == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    result = run_elis("up", "--data", file / "data")
    assert result.returncode == 1
    assert_sentence(result.stderr, f"the data folder {file / 'data'} cannot be written", "--data")


def test_an_unknown_target_is_refused() -> None:
    result = run_elis("run", "nonsense")
    assert result.returncode == 2
    assert_sentence(result.stderr, "there is no target 'nonsense'", *TARGETS)


def test_missing_settings_are_all_named() -> None:
    result = run_elis("run", "ingest", ELIS_PORT_OFFSET="99999")
    assert result.returncode == 2
    assert result.stderr.startswith("elis: the settings are not valid:")
    for name in ("ELIS_DATABASE_URL", "ELIS_REDIS_URL", "ELIS_SERVICE_SECRET", "ELIS_MASKING_KEY", "ELIS_SEAL_KEY", "ELIS_PORT_OFFSET"):
        assert name in result.stderr
    assert "Traceback" not in result.stderr
