"""A client process: sends encoded bodies over a few connections and measures the replies. Run as `python -m benchmarks.client JOB`.

It says `ready` when its connections are open, starts when it reads a line, prints its progress, and leaves its outcome in a file.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Awaitable, Callable, Iterator
from itertools import count, cycle
from pathlib import Path
from time import monotonic, time_ns
from typing import Literal, Protocol

import grpc
import msgspec
import uvloop

from benchmarks.bodies import Body, read_bodies

REQUEST_SECONDS = 60.0
RETRY_SECONDS = 0.05
PROGRESS_SECONDS = 0.2
_GRPC_BUSY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
_HTTP_BUSY = (429, 503)
BUSY = -1


class Job(msgspec.Struct):
    """What a client is to do."""

    protocol: Literal["http", "grpc"]
    host: str
    port: int
    path: str
    """Path of the URL, or of the gRPC method."""
    headers: dict[str, str]
    bodies: str
    """A file of benchmarks.bodies."""
    outcome: str
    """The file that the outcome goes to."""
    connections: int
    seconds: float
    """The client gives up after so long; with `repeat`, it sends for so long."""
    repeat: bool = False
    """Whether the bodies are sent again and again, until the time is over."""
    rate: float = 0.0
    """Requests per second that are started, whether earlier ones are answered or not; 0: the next when one is answered."""


class Outcome(msgspec.Struct):
    """What a client has done."""

    started: float = 0.0
    """Monotonic clock, seconds: one clock for all processes of a machine."""
    ended: float = 0.0
    ended_at_ns: int = 0
    """The same moment, nanoseconds since 1970."""
    requests: int = 0
    events: int = 0
    """Events that were taken."""
    duplicates: int = 0
    """Events of requests that were taken for one that is sent again: equal records without a time of their own."""
    retries: int = 0
    failures: dict[str, int] = {}
    """Number of requests refused for good, by status."""
    first_failure: str = ""
    latencies: list[float] = []
    """Seconds from the first byte of a request to the last of its acknowledgement, retries included."""
    cpu_seconds: float = 0.0


class Refused(Exception):
    """A request was refused for good."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status


class Connection(Protocol):
    """One connection that sends one request at a time."""

    async def open(self) -> None:
        """Connects."""

    async def send(self, events: int, body: bytes) -> int:
        """Returns how many events were taken; BUSY: send it again. Raises Refused."""

    async def close(self) -> None:
        """Disconnects."""


class HttpConnection:
    """HTTP/1.1 on a socket: a library would cost more than the server that is measured."""

    def __init__(self, job: Job) -> None:
        self._job = job
        lines = [f"POST {job.path} HTTP/1.1", f"Host: {job.host}:{job.port}", *(f"{name}: {value}" for name, value in job.headers.items())]
        self._head = "\r\n".join(lines).encode() + b"\r\nContent-Length: %d\r\n\r\n"

    async def open(self) -> None:
        """Connects."""
        self._reader, self._writer = await asyncio.open_connection(self._job.host, self._job.port)

    async def send(self, events: int, body: bytes) -> int:
        """Sends a request and reads the whole reply."""
        self._writer.write(self._head % len(body) + body)
        await self._writer.drain()
        head = await self._reader.readuntil(b"\r\n\r\n")
        status, lowered = int(head[9:12]), head.lower()
        if b"\r\ntransfer-encoding: chunked" in lowered:
            content = await self._read_chunks()
        else:
            content = await self._reader.readexactly(_read_number(lowered, b"\r\ncontent-length:", 0))
        if status in _HTTP_BUSY:
            return BUSY
        # An error of GraphQL has status 200, and no row of the corpus contains this.
        if status != 200 or content.startswith((b'{"errors":[', b'{"data":null')) or b'"errors":true' in content[:200]:
            raise Refused(str(status), content[:300].decode("utf-8", "replace"))
        return _read_number(lowered, b"\r\nelis-accepted:", events)

    async def _read_chunks(self) -> bytes:
        parts: list[bytes] = []
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            parts.append(await self._reader.readexactly(size))
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)
        return b"".join(parts)

    async def close(self) -> None:
        """Disconnects."""
        self._writer.close()


class GrpcConnection:
    """A gRPC channel with a connection of its own, which sends bytes as they are."""

    def __init__(self, job: Job) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.aio.insecure_channel(f"{job.host}:{job.port}", options=options)
        self._call: Callable[..., Awaitable[bytes]] = self._channel.unary_unary(job.path)
        self._metadata = tuple((name.lower(), value) for name, value in job.headers.items())

    async def open(self) -> None:
        """Connects."""
        await self._channel.channel_ready()

    async def send(self, events: int, body: bytes) -> int:
        """Makes a call."""
        try:
            await self._call(body, metadata=self._metadata, timeout=REQUEST_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() in _GRPC_BUSY:
                return BUSY
            raise Refused(error.code().name, error.details() or "") from None
        return events

    async def close(self) -> None:
        """Disconnects."""
        await self._channel.close()


async def run_job(job: Job) -> Outcome:
    """Does a job; the clock starts when a line arrives on stdin."""
    bodies = read_bodies(Path(job.bodies))
    connections: list[Connection] = [HttpConnection(job) if job.protocol == "http" else GrpcConnection(job) for _ in range(job.connections)]
    await asyncio.gather(*(connection.open() for connection in connections))
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

    outcome = Outcome(started=monotonic())
    used = _cpu_seconds()
    deadline = outcome.started + job.seconds
    queue: Iterator[Body] = cycle(bodies) if job.repeat else iter(bodies)
    reporter = asyncio.create_task(_report(outcome))
    pace = iter(lambda: outcome.started, None) if not job.rate else (outcome.started + number / job.rate for number in count())
    await asyncio.gather(*(_send_all(connection, queue, pace, deadline, outcome) for connection in connections))
    outcome.ended, outcome.ended_at_ns = monotonic(), time_ns()
    outcome.cpu_seconds = _cpu_seconds() - used
    reporter.cancel()
    await asyncio.gather(*(connection.close() for connection in connections))
    return outcome


async def _send_all(connection: Connection, queue: Iterator[Body], pace: Iterator[float], deadline: float, outcome: Outcome) -> None:
    """Sends bodies of the queue until it or the time is at an end. A request that is late counts from when it was due."""
    for events, body in queue:
        started, due = monotonic(), next(pace)
        if started > deadline:
            return
        if due > outcome.started:
            if due > started:
                await asyncio.sleep(due - started)
            started = due
        try:
            while (taken := await connection.send(events, body)) == BUSY:
                outcome.retries += 1
                await asyncio.sleep(RETRY_SECONDS)
                if monotonic() > deadline:
                    raise Refused("busy", "busy until the time was over")
        except Refused as error:
            outcome.failures[error.status] = outcome.failures.get(error.status, 0) + 1
            outcome.first_failure = outcome.first_failure or str(error)
            continue
        outcome.latencies.append(monotonic() - started)
        outcome.requests += 1
        outcome.events += taken
        outcome.duplicates += events - taken


async def _report(outcome: Outcome) -> None:
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        print(outcome.events, flush=True)


def _read_number(head: bytes, name: bytes, default: int) -> int:
    """Returns the number that a header in lower case holds."""
    start = head.find(name)
    return default if start < 0 else int(head[start + len(name) : head.index(b"\r\n", start + 2)])


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Runs the job in the file that is named."""
    job = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Job)
    outcome = uvloop.run(run_job(job))
    Path(job.outcome).write_bytes(msgspec.json.encode(outcome))


if __name__ == "__main__":
    main()
