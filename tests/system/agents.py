"""Agents of every protocol at once, and requests byte by byte: what they were told, to be held against what is stored."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any

from msgspec import convert

from kit.errors import Unavailable
from services.ingest.canary.protocols import PROTOCOLS, CanaryCredentials, now_ns

PATIENCE_SECONDS = 90.0
PAUSE_SECONDS = 0.01
ACKNOWLEDGING = [protocol.name for protocol in PROTOCOLS.values() if protocol.acknowledges]


class Agents:
    """One sender per protocol in a thread of their own. Each resends an event, unchanged, until it is acknowledged."""

    def __init__(self, credentials: Mapping[str, Any], protocols: Sequence[str], prefix: str) -> None:
        self._credentials = convert(dict(credentials), CanaryCredentials)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.prefix = prefix
        self.acknowledged: dict[str, list[str]] = {name: [] for name in protocols}
        """Texts by protocol."""
        self.resent = 0
        self.failures: list[str] = []

    def start(self) -> None:
        """Starts sending."""
        self._thread.start()

    def stop(self) -> None:
        """Begins no new event and waits until every begun one is acknowledged."""
        self._stopping.set()
        self._thread.join()

    @property
    def least(self) -> int:
        """How many events the slowest sender has got acknowledged."""
        return min(map(len, self.acknowledged.values()))

    async def _run(self) -> None:
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for name in self.acknowledged:
                group.create_task(self._send(stack, name))

    async def _send(self, stack: AsyncExitStack, name: str) -> None:
        send = await PROTOCOLS[name].open(self._credentials, stack)
        number = 0
        while not self._stopping.is_set():
            text, at, deadline = f"{self.prefix} {name} counts to {number}", now_ns(), time.monotonic() + PATIENCE_SECONDS
            while True:
                try:
                    await send(text, at)
                    break
                except Unavailable as error:
                    self.resent += 1
                    if time.monotonic() > deadline:
                        self.failures.append(error.message)
                        return
                    await asyncio.sleep(0.1)
            self.acknowledged[name].append(text)
            number += 1
            await asyncio.sleep(PAUSE_SECONDS)


@contextmanager
def run_agents(credentials: Mapping[str, Any], protocols: Sequence[str], prefix: str) -> Iterator[Agents]:
    """Sends while the block runs; afterwards everything is acknowledged."""
    agents = Agents(credentials, protocols, prefix)
    agents.start()
    try:
        yield agents
    finally:
        agents.stop()


class RawSender:
    """Requests to the event collector on plain sockets, so that nothing between hides what the server does to them."""

    def __init__(self, credentials: Mapping[str, Any], source: str) -> None:
        host, _, port = credentials["hec_url"].removeprefix("http://").partition(":")
        self._address = (host, int(port))
        self._token = credentials["ingest_token"]
        self._source = source
        self._socket: socket.socket | None = None
        self.acknowledged: list[str] = []

    def connect(self) -> bool:
        """Opens a new connection; returns False when it is refused."""
        self.close()
        try:
            self._socket = socket.create_connection(self._address, timeout=30)
        except ConnectionError:
            return False
        return True

    def request(self, text: str) -> bytes:
        """Returns a request with one event."""
        now = time.time_ns()
        body = json.dumps({"time": f"{now // 10**9}.{now % 10**9:09d}", "source": self._source, "event": text}).encode()
        head = f"POST /services/collector HTTP/1.1\r\nHost: x\r\nAuthorization: Splunk {self._token}\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def send(self, data: bytes) -> None:
        """Sends bytes on the open connection."""
        assert self._socket is not None
        self._socket.sendall(data)

    def reply(self, text: str) -> bytes:
        """Reads one whole reply, or as much as there is before the server hangs up; notes the text when it is a success."""
        assert self._socket is not None
        data = b""
        while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < _length(data):
            try:
                more = self._socket.recv(4096)
            except ConnectionError:
                more = b""
            if not more:
                return data
            data += more
        if data.startswith(b"HTTP/1.1 200 "):
            self.acknowledged.append(text)
        return data

    def closed(self) -> bool:
        """Returns whether the server has hung up."""
        assert self._socket is not None
        if not select.select([self._socket], [], [], 0)[0]:
            return False
        try:
            return self._socket.recv(1, socket.MSG_PEEK) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        """Hangs up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _length(reply: bytes) -> int:
    return int(reply.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
