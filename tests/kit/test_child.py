"""Children start whatever their parent does, become their program, and end with their parent."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import psutil
import pytest

from kit.child import ending_with_us


def test_children_start_while_grpc_is_busy() -> None:
    handler = grpc.method_handlers_generic_handler("tests", {"Echo": grpc.unary_unary_rpc_method_handler(lambda request, _: request)})
    server = grpc.server(ThreadPoolExecutor(2), handlers=[handler])
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    stopped = threading.Event()

    def call() -> None:
        with grpc.insecure_channel(address) as channel:
            echo: Any = channel.unary_unary("/tests/Echo")
            while not stopped.is_set():
                echo(b"", timeout=10)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        # With gRPC's fork handlers one of six crashes.
        exits = [subprocess.run(ending_with_us(["true"]), check=False).returncode for _ in range(40)]
    finally:
        stopped.set()
        caller.join()
        server.stop(None).wait()
    assert exits == [0] * 40


def test_a_child_keeps_its_process_id() -> None:
    with subprocess.Popen(ending_with_us(["sh", "-c", "echo $$"]), stdout=subprocess.PIPE, text=True) as child:
        assert child.communicate(timeout=10)[0].strip() == str(child.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_child_ends_with_its_killed_parent() -> None:
    program = """
import subprocess, time
from kit.child import ending_with_us
child = subprocess.Popen(ending_with_us(["sleep", "600"]))
print(child.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        while child.name() != "sleep":  # until then it may not have asked for the signal yet
            pass
        parent.kill()
    child.wait(10)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_child_runs_as_another_user() -> None:
    nobody = pwd.getpwnam("nobody")
    done = subprocess.run(ending_with_us(["sh", "-c", "id -u; id -g; id -G"], signal.SIGINT, nobody), capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(nobody.pw_uid), str(nobody.pw_gid), str(nobody.pw_gid)]


def test_a_child_gives_way() -> None:
    done = subprocess.run(ending_with_us(["nice"], niceness=3), capture_output=True, text=True, check=True)
    assert int(done.stdout) == min(19, os.nice(0) + 3)
