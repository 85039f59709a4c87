"""The processes of a stack and its engines: what they have used of the processor, and what they hold of the memory."""

from __future__ import annotations

from pathlib import Path
from time import monotonic, sleep

import psutil

from kit.up import Stack

SETTLED_SHARE = 0.12
"""A stack is idle when it uses less of one processor than this: it polls, pings and keeps its leases."""
_INTERVAL_SECONDS = 1.0


class Processes:
    """The targets, PostgreSQL with its backends, and Valkey."""

    def __init__(self, stack: Stack) -> None:
        self._singles = {name: psutil.Process(pid) for name, pid in stack.tree.process_ids().items()}
        self._singles["valkey"] = next(child for child in psutil.Process().children() if "valkey" in child.name())
        self._postgres = psutil.Process(int((Path(stack.data_dir) / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0]))

    def cpu_seconds(self) -> dict[str, float]:
        """Returns the processor time used so far, by process."""
        used = {name: _cpu_seconds(process) for name, process in self._singles.items()}
        # Backends come and go: the time of those that have gone is kept by their parent.
        gone = self._postgres.cpu_times()
        used["postgresql"] = gone.children_user + gone.children_system + sum(map(_cpu_seconds, self._backends()))
        return used

    def memory_bytes(self) -> dict[str, int]:
        """Returns the resident memory by process. PostgreSQL's processes share much of theirs: each page is counted once."""
        held = {name: int(process.memory_info().rss) for name, process in self._singles.items()}
        held["postgresql"] = sum(map(_share_of_memory, self._backends()))
        return held

    def settle(self, seconds: float) -> None:
        """Waits until the stack is idle, at most so long."""
        deadline = monotonic() + seconds
        while monotonic() < deadline:
            before = sum(self.cpu_seconds().values())
            sleep(_INTERVAL_SECONDS)
            if sum(self.cpu_seconds().values()) - before < SETTLED_SHARE * _INTERVAL_SECONDS:
                return

    def _backends(self) -> list[psutil.Process]:
        return [self._postgres, *self._postgres.children(recursive=True)]


def subtract(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    """Returns what was used in between, by process."""
    return {name: after[name] - before.get(name, 0.0) for name in after}


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _share_of_memory(process: psutil.Process) -> int:
    try:
        memory = process.memory_full_info()
    except psutil.NoSuchProcess:
        return 0
    # Proportional where the system can tell (Linux), else what is the process's alone.
    return int(getattr(memory, "pss", memory.uss))
