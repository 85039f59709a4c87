"""The embedded engines start on whatever the last run left in their folder, and end with us."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from redis import Redis

from kit.engines import EngineFailed, Engines, open_postgres, open_valkey, run_engines
from tests.fixtures.stack import open_folder, processes_of

_HOLD = """
import sys, time
from pathlib import Path
from kit.engines import run_engines
with run_engines(Path(sys.argv[1])):
    print("running", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user can reach."""
    with open_folder() as path:
        yield path


def execute(url: str, statement: str) -> object:
    """Runs one statement and returns its value."""

    async def run() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


def test_a_killed_owner_leaves_no_engine_and_loses_no_commit(folder: Path) -> None:
    with run_engines(folder) as engines:
        execute(engines.database_url, "CREATE TABLE kept (n int)")
        execute(engines.database_url, "INSERT INTO kept VALUES (7)")
    owner = subprocess.Popen([sys.executable, "-c", _HOLD, str(folder)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"running\n"
        owner.kill()
    deadline = time.monotonic() + 60
    while processes_of(folder):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with run_engines(folder) as engines:
        assert execute(engines.database_url, "SELECT n FROM kept") == 7
    assert processes_of(folder) == []


def test_a_valkey_that_outlives_its_owner_does_not_take_the_socket_of_the_next(folder: Path) -> None:
    with open_valkey(folder) as first:
        first.process.send_signal(signal.SIGSTOP)  # too busy to notice that it should end
        first.process.terminate()
        waker = threading.Timer(0.5, first.process.send_signal, [signal.SIGCONT])
        waker.start()
        with open_valkey(folder) as second:
            assert first.process.poll() is not None
            first.process.wait()
            with Redis.from_url(second.url) as client:
                assert client.ping()
        waker.join()


def test_an_initialisation_that_was_cut_off_is_repeated(folder: Path) -> None:
    postgres = folder / "postgres"
    postgres.mkdir()
    (postgres / "PG_VERSION").write_text("18\n")
    with open_postgres(postgres) as engine:
        assert execute(engine.url, "SELECT 1") == 1


def test_why_the_database_cannot_be_made_is_said(folder: Path) -> None:
    (folder / "postgres").mkdir()
    (folder / "postgres" / "photo.jpg").write_bytes(b"mine")
    with (
        pytest.raises(EngineFailed, match=r"cannot be set up in .*postgres \(initdb: error: directory .* exists but is not empty\)"),
        open_postgres(folder / "postgres"),
    ):
        pass
    assert (folder / "postgres" / "photo.jpg").read_bytes() == b"mine"


def test_a_lock_file_of_another_program_is_no_obstacle(folder: Path) -> None:
    with open_postgres(folder / "postgres"):
        pass
    (folder / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n")
    with open_postgres(folder / "postgres") as engine:
        assert execute(engine.url, "SELECT 1") == 1


def test_a_path_too_long_for_a_socket_is_no_obstacle(folder: Path) -> None:
    deep = folder / ("x" * 100)
    deep.mkdir()
    with open_valkey(deep) as engine:
        socket = Path(engine.url.removeprefix("unix://"))
        assert socket.is_socket()
    assert not socket.parent.exists()


def test_an_engine_that_ends_is_named(folder: Path) -> None:
    with open_valkey(folder) as engine:
        engines = Engines("", engine.url, {engine.name: engine})
        engines.check()
        engine.process.send_signal(signal.SIGKILL)
        engine.process.wait(10)
        with pytest.raises(EngineFailed, match=r"Valkey was killed by SIGKILL; its log is .*valkey\.log"):
            engines.check()


async def test_postgres_starts_again_when_a_backend_of_the_killed_one_lingers(tmp_path: Path) -> None:
    with open_postgres(tmp_path / "postgres") as first:
        connection = await asyncpg.connect(first.url)
        backend = await connection.fetchval("SELECT pg_backend_pid()")
        os.kill(backend, signal.SIGSTOP)  # it cannot notice that its server is gone
        first.process.kill()
        first.process.wait()
        waker = threading.Timer(1.0, os.kill, (backend, signal.SIGCONT))
        waker.start()
        with open_postgres(tmp_path / "postgres") as second:
            assert second.process.poll() is None
        waker.join()
    connection.terminate()
