"""Client processes, started together and watched: they run beside ELIS, not inside the process that measures."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from benchmarks.client import Job, Outcome

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0
STOP_SECONDS = 5.0
GRACE_SECONDS = 90.0
"""How long a client may go on after its time is over: its last requests end."""


class BenchmarkFailed(Exception):
    """A figure cannot be measured; the message says why."""


def run_clients(jobs: Sequence[Job], folder: Path, report: Callable[[int], None] = lambda _: None) -> Outcome:
    """Runs clients at the same time and returns what they did together; `report` gets the number of acknowledged events.

    Raises BenchmarkFailed when a client fails or a request was refused for good.
    """
    asyncio.run(_run_clients(jobs, folder, report))
    outcome = _add([msgspec.json.decode(Path(job.outcome).read_bytes(), type=Outcome) for job in jobs])
    if outcome.failures:
        raise BenchmarkFailed(f"requests were refused: {outcome.failures}, the first with: {outcome.first_failure}")
    if not outcome.requests:
        raise BenchmarkFailed("no request was answered in time")
    return outcome


async def _run_clients(jobs: Sequence[Job], folder: Path, report: Callable[[int], None]) -> None:
    processes: list[asyncio.subprocess.Process] = []
    try:
        for number, job in enumerate(jobs):
            path = folder / f"job-{number}.json"
            path.write_bytes(msgspec.json.encode(job))
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.client", str(path)),
                cwd=ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            processes.append(process)
        async with asyncio.timeout(START_SECONDS):
            for process in processes:
                if await _read_line(process) != b"ready\n":
                    raise BenchmarkFailed("a client did not start")
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
        acknowledged = [0] * len(processes)

        def count(number: int, events: int) -> None:
            acknowledged[number] = events
            report(sum(acknowledged))

        async with asyncio.timeout(max(job.seconds for job in jobs) + GRACE_SECONDS):
            await asyncio.gather(*(_follow(process, number, count) for number, process in enumerate(processes)))
    except TimeoutError:
        raise BenchmarkFailed("a client did not finish in time") from None
    finally:
        for process in processes:
            if process.returncode is None:
                process.terminate()
        for process in processes:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)


async def _follow(process: asyncio.subprocess.Process, number: int, count: Callable[[int, int], None]) -> None:
    while line := await _read_line(process):
        count(number, int(line))
    code = await process.wait()
    if code:
        raise BenchmarkFailed(f"a client ended with {code}; it says above why")


async def _read_line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    return await process.stdout.readline()


def _add(outcomes: Sequence[Outcome]) -> Outcome:
    total = Outcome(started=min(outcome.started for outcome in outcomes), ended=max(outcome.ended for outcome in outcomes))
    for outcome in outcomes:
        total.ended_at_ns = max(total.ended_at_ns, outcome.ended_at_ns)
        total.requests += outcome.requests
        total.events += outcome.events
        total.duplicates += outcome.duplicates
        total.retries += outcome.retries
        total.cpu_seconds += outcome.cpu_seconds
        total.latencies += outcome.latencies
        total.first_failure = total.first_failure or outcome.first_failure
        for status, number in outcome.failures.items():
            total.failures[status] = total.failures.get(status, 0) + number
    return total
