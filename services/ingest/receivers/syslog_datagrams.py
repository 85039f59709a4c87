"""Syslog over UDP: one message a datagram (RFC 5426); what finds no room is dropped and counted."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import structlog
from prometheus_client import Counter, Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from services.ingest.endpoints import Arrival
from services.ingest.intake import Intake
from services.ingest.receivers.networks import Networks
from services.ingest.receivers.syslog_frames import without_count
from services.ingest.receivers.syslog_store import GATHER_SECONDS, MAX_BATCH, PROTOCOL, Peer, SyslogStore, peer_in
from services.ingest.tokens import NOBODY

log = structlog.get_logger()

MAX_QUEUED = 20_000
MAX_QUEUED_BYTES = 16 * 1024 * 1024
RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
"""What the system is asked to hold for us; it may give less (net.core.rmem_max)."""
MAX_PEERS = 10_000
_SO_MEMINFO = 55
"""Linux: counters of a socket, nine 32-bit numbers; the last is how many datagrams found its buffer full."""
_TRAILER = b"\r\n\0 "


@dataclass(slots=True)
class _Queue:
    """Messages of one network that wait to be stored."""

    rows: deque[tuple[bytes, Peer]] = field(default_factory=deque)
    bytes: int = 0
    filled: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class SyslogDatagrams(asyncio.DatagramProtocol, Collector):
    """The UDP port and its queues, one for each network, which are bounded together. A datagram is dropped when it comes from
    elsewhere; without room, one of the longest queue is, so that a noisy network costs no other its messages.
    """

    def __init__(self, host: str, port: int, store: SyslogStore, intake: Intake, networks: Networks, dropped: Counter, limit: int) -> None:
        self._host = host
        self._port = port
        self._store = store
        self._endpoints = intake.endpoints
        self._networks = networks
        self._dropped = dropped
        self._limit = limit
        self._queues: dict[str, _Queue] = {}
        self._queued = 0
        self._queued_bytes = 0
        self._unstored = 0
        """Messages that wait or are being stored."""
        self._peers: dict[str, Peer | None] = {}
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._transport: asyncio.DatagramTransport | None = None
        self._lost = 0

    async def start(self) -> None:
        """Opens the port; raises OSError when it cannot be opened."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=(self._host, self._port), reuse_port=hasattr(socket, "SO_REUSEPORT") or None
        )
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)

    async def stop(self, grace: float | None) -> None:
        """Closes the port and stores what is queued; what is not stored after `grace` seconds is dropped and counted."""
        if self._transport is None:
            return
        self._transport.close()
        try:
            async with asyncio.timeout(grace):
                await self._emptied.wait()
        except TimeoutError:
            self._dropped.labels("stopping").inc(self._unstored)
            log.warning("datagrams were dropped while stopping", datagrams=self._unstored)
        tasks = [queue.task for queue in self._queues.values() if queue.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str | int, ...]) -> None:
        """Queues a message, or drops and counts it."""
        peer = self._peer_of(str(address[0]))
        if peer is None:
            self._dropped.labels("not_allowed").inc()
            self._endpoints.refused(Arrival(PROTOCOL, NOBODY, str(address[0])), "the address is not in ELIS_SYSLOG_ALLOW")
            return
        if len(data) > self._limit:
            self._dropped.labels("too_large").inc()
            self._endpoints.refused(peer.arrival, f"a datagram of more than {self._limit} bytes was dropped")
            return
        message = without_count(data).rstrip(_TRAILER)
        queue = self._queues.get(peer.agent.id)
        if queue is None:
            queue = self._queues[peer.agent.id] = _Queue()
            queue.task = asyncio.get_running_loop().create_task(self._run(queue), name="syslog_udp")
        if not self._make_room(queue, len(message)):
            self._drop(peer)
            return
        queue.rows.append((message, peer))
        queue.bytes += len(message)
        self._queued += 1
        self._queued_bytes += len(message)
        self._unstored += 1
        self._emptied.clear()
        queue.filled.set()

    def collect(self) -> Iterator[Metric]:
        """Yields the datagrams that the system dropped before we could read them, where it tells (Linux)."""
        lost = CounterMetricFamily("elis_syslog_datagrams_lost", "Syslog datagrams that the system dropped because its buffer was full.")
        if sys.platform == "linux" and self._transport is not None and not self._transport.is_closing():
            counters = self._transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36)
            self._lost = struct.unpack("9I", counters)[8]
        lost.add_metric([], self._lost)
        yield lost

    def error_received(self, error: Exception) -> None:
        """Notes an error of the system, such as an unreachable peer of an earlier reply."""
        log.warning("syslog over UDP", reason=repr(error))

    def _peer_of(self, address: str) -> Peer | None:
        if address in self._peers:
            return self._peers[address]
        if len(self._peers) >= MAX_PEERS:
            self._peers.clear()
        network = self._networks.find(address)
        peer = self._peers[address] = None if network is None else peer_in(network, address)
        return peer

    def _make_room(self, queue: _Queue, size: int) -> bool:
        """Returns whether a message finds room in a queue; where all together are full, it takes that of the newest ones of a longer queue."""
        while self._queued >= MAX_QUEUED or self._queued_bytes + size > MAX_QUEUED_BYTES:
            if self._queued >= MAX_QUEUED:
                longest = max(self._queues.values(), key=lambda other: len(other.rows))
                longer = len(longest.rows) > len(queue.rows) + 1
            else:
                longest = max(self._queues.values(), key=lambda other: other.bytes)
                longer = longest.bytes > queue.bytes + size
            if longest is queue or not longer:
                return False
            message, peer = longest.rows.pop()
            longest.bytes -= len(message)
            self._forget(len(message))
            self._unstored -= 1
            self._drop(peer)
        return True

    def _drop(self, peer: Peer) -> None:
        self._dropped.labels("queue_full").inc()
        self._endpoints.refused(peer.arrival, "a datagram was dropped: too many wait to be stored")

    def _forget(self, size: int) -> None:
        self._queued -= 1
        self._queued_bytes -= size

    async def _run(self, queue: _Queue) -> None:
        while True:
            await queue.filled.wait()
            await asyncio.sleep(GATHER_SECONDS)
            rows = [queue.rows.popleft() for _ in range(min(len(queue.rows), MAX_BATCH))]
            for message, _ in rows:
                queue.bytes -= len(message)
                self._forget(len(message))
            try:
                await self._store.store(rows)
            except Exception as error:  # the next ones are to be stored all the same
                log.error("storing datagrams failed", datagrams=len(rows), exc_info=error)
                self._dropped.labels("failed").inc(len(rows))
            self._unstored -= len(rows)
            if not queue.rows:
                queue.filled.clear()
            if not self._unstored:
                self._emptied.set()
