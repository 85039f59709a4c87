"""Runs targets as child processes: the first exit stops the rest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from kit.child import ending_with_us
from kit.targets import Target

STOP_SECONDS = 20.0


def describe_exit(code: int) -> str:
    """Says how a process ended, from its return code."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"


class TargetExited(RuntimeError):
    """A target ended while the tree should run."""


class Tree:
    """The child processes of `elis up`, one per target, each logging to its own file."""

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, targets: Sequence[Target], environment: Mapping[str, str]) -> None:
        """Starts the targets with these variables added to our own."""
        self._log_dir.mkdir(parents=True, exist_ok=True)
        for target in targets:
            with self.log_path(target.name).open("ab") as log_file:
                self._children[target.name] = subprocess.Popen(
                    ending_with_us([sys.executable, "-m", target.module], niceness=target.niceness),
                    env={**os.environ, **environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log_file,
                    stderr=log_file,
                    # Its own group: Ctrl-C reaches `elis up` only, which then stops the tree in order. Not its own session:
                    # Linux gives each session the same share of a full machine, whatever its niceness (sched(7), autogroup).
                    process_group=0,
                )

    def log_path(self, name: str) -> Path:
        """Returns the log file of a target."""
        return self._log_dir / f"{name}.log"

    def process_ids(self) -> dict[str, int]:
        """Returns the process id of every target."""
        return {name: child.pid for name, child in self._children.items()}

    def check(self) -> None:
        """Raises TargetExited, naming the target and the end of its log, when one has ended."""
        for name, child in self._children.items():
            code = child.poll()
            if code is not None:
                raise TargetExited(f"{name} {describe_exit(code)}; its log is {self.log_path(name)}\n{self._last_lines(name)}")

    def stop(self) -> None:
        """Stops every target: SIGTERM, then SIGKILL for what has not drained in time."""
        for child in self._children.values():
            if child.poll() is None:
                child.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in self._children.values():
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _last_lines(self, name: str, count: int = 5) -> str:
        lines = self.log_path(name).read_text(errors="replace").splitlines()
        return "\n".join(f"  {line[:500]}" for line in lines[-count:])
