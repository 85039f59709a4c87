"""`elis up`: embedded engines, migrations, every target as a child process, credentials."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kit.engines import EngineFailed, Engines, run_engines
from kit.migrate import migrate, migrating_targets
from kit.targets import TARGETS, Target
from kit.tree import TargetExited, Tree

READY_SECONDS = 60.0
_WATCH_SECONDS = 0.2
HOST = "127.0.0.1"
MAX_PORT_OFFSET = 15_000
_STOPPING = (signal.SIGINT, signal.SIGTERM)


class StackFailed(RuntimeError):
    """The stack cannot start or has stopped; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack."""

    data_dir: Path
    credentials_path: Path
    credentials: dict[str, str]
    engines: Engines
    environment: dict[str, str]
    """ELIS_* variables that its targets run with."""
    tree: Tree

    def check(self) -> None:
        """Raises StackFailed, naming it, when a target or an engine has ended."""
        try:
            self.tree.check()
            self.engines.check()
        except (EngineFailed, TargetExited) as error:
            raise StackFailed(str(error)) from error


@contextmanager
def run_stack(data_dir: Path, port_offset: int = 0, report: Callable[[str], None] = lambda _: None) -> Iterator[Stack]:
    """Starts the whole stack and stops it at the end; yields when every target is ready.

    `report` gets one phrase per step. SIGINT and SIGTERM raise SystemExit while it runs, so that it is stopped in
    order. Raises StackFailed with one clear sentence when anything is in the way.
    """
    data_dir = data_dir.resolve()
    _check_folder(data_dir)
    with _lock_folder(data_dir), _stop_on_signals() as stopping:
        _check_ports(port_offset)
        report("starting PostgreSQL and Valkey")
        try:
            with run_engines(data_dir) as engines:
                yield from _run_targets(data_dir, port_offset, engines, report, stopping)
        except (EngineFailed, TargetExited) as error:
            raise StackFailed(str(error)) from error


class _Stopping:
    """Whether the stack is to be stopped, or is being stopped: then further signals change nothing.

    While it starts, a signal is only noted and looked at between steps: an exception that a handler raises inside
    a fork or a callback of the interpreter is swallowed, and the stack would never stop.
    """

    def __init__(self) -> None:
        self.begun = False
        self.running = False
        self._number = 0

    def receive(self, number: int, _: object) -> None:
        """Handles SIGINT and SIGTERM."""
        if not self.begun:
            self._number = number
            if self.running:
                self.check()

    def check(self) -> None:
        """Raises SystemExit when a signal has come."""
        if self._number:
            self.begun = True
            raise SystemExit(128 + self._number)


@contextmanager
def _stop_on_signals() -> Iterator[_Stopping]:
    stopping = _Stopping()
    before = {number: signal.signal(number, stopping.receive) for number in _STOPPING}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_targets(data_dir: Path, port_offset: int, engines: Engines, report: Callable[[str], None], stopping: _Stopping) -> Iterator[Stack]:
    environment = {
        "ELIS_DATABASE_URL": engines.database_url,
        "ELIS_REDIS_URL": engines.redis_url,
        "ELIS_DATA_DIR": str(data_dir),
        "ELIS_PORT_OFFSET": str(port_offset),
        "ELIS_BIND_HOST": HOST,
        **_load_secrets(data_dir),
    }
    tree = Tree(data_dir / "logs")
    try:
        report("migrating")
        for target in migrating_targets():
            stopping.check()
            migrate(target, engines.database_url)
        stopping.check()
        report("starting " + ", ".join(TARGETS))
        tree.start(list(TARGETS.values()), environment)
        _await_ready(tree, port_offset, stopping)
        credentials_path = data_dir / "credentials.json"
        credentials = _write_credentials(credentials_path, port_offset, environment)
        stopping.running = True
        stopping.check()
        yield Stack(data_dir, credentials_path, credentials, engines, environment, tree)
    finally:
        stopping.begun = True
        report("stopping")
        tree.stop()


def _check_folder(data_dir: Path) -> None:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        probe = data_dir / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise StackFailed(f"the data folder {data_dir} cannot be written ({error.strerror}); choose another one with --data (make: DATA=folder)") from None


def _check_ports(port_offset: int) -> None:
    for target in TARGETS.values():
        for purpose, port in target.ports.items():
            with socket.socket(type=socket.SOCK_DGRAM if purpose.endswith("_udp") else socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port + port_offset))
                except OSError:
                    raise StackFailed(
                        f"port {port + port_offset} ({target.name}, {purpose}) is in use; "
                        "stop what uses it or choose other ports with --port-offset (make: PORT_OFFSET=1000)"
                    ) from None


@contextmanager
def _lock_folder(data_dir: Path) -> Iterator[None]:
    with (data_dir / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StackFailed(f"another `elis up` runs on {data_dir}; stop it or choose another folder with --data (make: DATA=folder)") from None
        yield


def _load_secrets(data_dir: Path) -> dict[str, str]:
    """Returns the secrets of this data folder, made at its first start and never shown."""
    path = data_dir / "secrets.json"
    if not path.exists():
        content = {name: secrets.token_hex(32) for name in ("ELIS_SERVICE_SECRET", "ELIS_MASKING_KEY", "ELIS_SEAL_KEY")}
        write_private(path, json.dumps(content))
    loaded: dict[str, str] = json.loads(path.read_text())
    return loaded


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, whole or not at all."""
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _await_ready(tree: Tree, port_offset: int, stopping: _Stopping) -> None:
    deadline = time.monotonic() + READY_SECONDS
    waiting = dict(TARGETS)
    while waiting:
        stopping.check()
        tree.check()
        for name, target in list(waiting.items()):
            if is_ready(target, port_offset):
                del waiting[name]
        if waiting and time.monotonic() > deadline:
            raise StackFailed(f"{', '.join(waiting)} did not become ready in {READY_SECONDS:.0f} s; read {tree.log_path(next(iter(waiting)))}")
        time.sleep(0.05)


def is_ready(target: Target, port_offset: int) -> bool:
    """Says whether a target on this machine serves."""
    port = next(iter(target.ports.values())) + port_offset
    return _answers_grpc(port) if "grpc" in target.ports else _answers_http(port)


def _answers_grpc(port: int) -> bool:
    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        try:
            response = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1.0)
        except grpc.RpcError:
            return False
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


def _answers_http(port: int) -> bool:
    try:
        with urlopen(f"http://{HOST}:{port}/readyz", timeout=1.0) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


def _write_credentials(path: Path, port_offset: int, environment: dict[str, str]) -> dict[str, str]:
    """Adds the first admin, key and token when the database has none, and writes the credentials file."""
    known = json.loads(path.read_text()) if path.exists() else {}
    result = subprocess.run(
        [sys.executable, "-m", "services.auth.bootstrap"],
        env={**os.environ, **environment},
        input=json.dumps(known),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if result.returncode != 0:
        raise StackFailed(f"the first admin cannot be made: {result.stderr.strip()}")
    ports = {f"{target.name}.{purpose}": port + port_offset for target in TARGETS.values() for purpose, port in target.ports.items()}
    credentials = {
        "graphql_url": f"http://{HOST}:{ports['gateway.http']}/graphql",
        "playground_url": f"http://{HOST}:{ports['gateway.http']}/",
        "hec_url": f"http://{HOST}:{ports['ingest.hec']}",
        "otlp_http_url": f"http://{HOST}:{ports['ingest.otlp_http']}",
        "otlp_grpc_address": f"{HOST}:{ports['ingest.otlp_grpc']}",
        "syslog_address": f"{HOST}:{ports['ingest.syslog']}",
        "fluent_address": f"{HOST}:{ports['ingest.fluent']}",
        **json.loads(result.stdout),
    }
    write_private(path, json.dumps(credentials, indent=2) + "\n")
    return credentials


def run_until_signal(stack: Stack) -> None:
    """Returns at Ctrl-C or SIGTERM; raises StackFailed when a target or an engine ends first."""
    stopped = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in _STOPPING}
    try:
        while not stopped.wait(_WATCH_SECONDS):
            stack.check()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
