"""Runs a program as a child that ends with its parent: `python kit/child.py SIGNAL PARENT UID:GID NICENESS PROGRAM [ARGUMENT ...]`.

It becomes the program, so that the process keeps its id. It is a program of its own rather than a `preexec_fn`: that
one runs after `fork`, and in a process with live gRPC channels the fork handlers of gRPC crash one child in six
before it gets that far. Without it and without `user` the standard library uses `vfork`, which runs no handlers.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from pwd import struct_passwd

_PR_SET_PDEATHSIG = 1


def ending_with_us(command: Sequence[str], number: signal.Signals = signal.SIGTERM, user: struct_passwd | None = None, niceness: int = 0) -> list[str]:
    """Returns the command that runs `command` as `user`, and that the kernel sends `number` when we die, however we die (Linux).

    With a niceness (0 to 19) it gives way to other processes of a machine that is full.
    """
    owner = "" if user is None else f"{user.pw_uid}:{user.pw_gid}"
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(int(number)), str(os.getpid()), owner, str(niceness), *command]


def _main(number: str, parent: str, owner: str, niceness: str, *command: str) -> None:
    os.nice(int(niceness))
    if owner:
        user, group = map(int, owner.split(":"))
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)
    if sys.platform == "linux":
        # After the change of user, which clears it. A parent that died before this line is found by the next one.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != int(parent):
            return
    os.execvp(command[0], command)  # noqa: S606 - the whole purpose


if __name__ == "__main__":
    _main(*sys.argv[1:])
