"""`elis ingest --follow`, standard input, and `elis canary`, as a user runs them."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.ingest.canary.protocols import PROTOCOLS
from tests.fixtures.stack import ELIS, Up
from tests.system.api import Api, name_source

pytestmark = pytest.mark.system
SECONDS = 60


def credentials(stack: Up) -> str:
    return str(stack.data_dir / "credentials.json")


def elis(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ELIS, *arguments], input=text, capture_output=True, text=True, timeout=SECONDS, check=False)


@contextmanager
def following(*arguments: str, stop: signal.Signals = signal.SIGINT) -> Iterator[None]:
    """Runs `elis ingest --follow` until it is stopped."""
    process = subprocess.Popen([ELIS, "ingest", "--follow", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield
    finally:
        process.send_signal(stop)
        output, errors = process.communicate(timeout=SECONDS)
    if stop is signal.SIGINT:
        assert process.returncode == 0, errors
        assert json.loads(output)["files"], errors


def test_followed_files_are_taken_once_through_rotation_and_a_kill(api: Api, stack: Up, tmp_path: Path) -> None:
    source, path = name_source("follow"), tmp_path / "app.log"
    options = [str(path), "--source", source, "--credentials", credentials(stack), "--positions", str(tmp_path / "positions"), "--json"]
    path.write_text("".join(f"2026-11-24 10:00:0{number} INFO event {number}\n" for number in range(5)))
    with following(*options, stop=signal.SIGKILL):
        api.await_count(source, 5)
    path.rename(tmp_path / "app.log.1")
    with (tmp_path / "app.log.1").open("a") as file:
        file.write("2026-11-24 10:00:06 INFO event 5\n")
    path.write_text("2026-11-24 10:00:07 INFO event 6\n")
    with following(*options):
        api.await_count(source, 7)
        with path.open("a") as file:
            file.write("2026-11-24 10:00:08 INFO event 7\n")
        api.await_count(source, 8)
    bodies = [event["body"] for page in api.pages(source) for event in page]
    assert bodies == [f"event {number}" for number in range(8)]


def test_standard_input(api: Api, stack: Up) -> None:
    source = name_source("stdin")
    done = elis("ingest", "-", "--source", source, "--credentials", credentials(stack), "--json", text="one\ntwo\nlast without an end")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["accepted"] == 3
    api.await_count(source, 3)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_standard_input_is_sent_to_its_last_line_when_it_is_interrupted(api: Api, stack: Up, stop: signal.Signals) -> None:
    source = name_source("stdin")
    with subprocess.Popen(
        [ELIS, "ingest", "-", "--source", source, "--credentials", credentials(stack), "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("one\ntwo ä\nthree without an end".encode("utf-16"))
        process.stdin.flush()
        api.await_count(source, 2)
        process.send_signal(stop)
        output = process.stdout.read()
        assert process.wait(SECONDS) == 0
        process.stdin.close()
    assert json.loads(output)["accepted"] == 3
    api.await_count(source, 3)
    assert [event["body"] for page in api.pages(source) for event in page] == ["one", "two ä", "three without an end"]


def test_compressed_standard_input_is_refused(stack: Up) -> None:
    done = subprocess.run(
        [ELIS, "ingest", "-", "--source", "x", "--credentials", credentials(stack)],
        input=gzip.compress(b"one"),
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 2
    assert b"standard input is compressed" in done.stderr


def test_the_canary_finds_what_it_sent_through_every_protocol(stack: Up) -> None:
    done = elis("canary", "--protocol", "all", "--for", "3s", "--rate", "2", "--credentials", credentials(stack), "--json")
    assert done.returncode == 0, (done.stdout, done.stderr)
    rows = {row["protocol"]: row for row in json.loads(done.stdout)}
    assert rows.keys() == PROTOCOLS.keys()
    for row in rows.values():
        assert row["found"] == row["acknowledged"] > 0, row
        assert (row["missing"], row["duplicated"], row["reordered"]) == (0, 0, 0), row


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["canary", "--protocol", "smoke"], "there is no protocol 'smoke'"),
        (["canary", "--for", "soon"], "'soon' is no duration"),
        (["ingest", "--follow", "-", "--source", "x"], "--follow is for files"),
    ],
)
def test_wrong_use_says_what_to_do(arguments: list[str], says: str) -> None:
    done = elis(*arguments)
    assert done.returncode == 2
    assert says in done.stderr.replace("\n", " ")
