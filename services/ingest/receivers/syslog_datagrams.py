"""Syslog over UDP: one message a datagram (RFC 5426); what finds no room is dropped and counted."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections import deque
from collections.abc import Iterator
from typing import cast

import structlog
from prometheus_client import Counter, Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from services.ingest.endpoints import Arrival
from services.ingest.intake import Intake
from services.ingest.receivers.networks import Networks
from services.ingest.receivers.syslog_frames import without_count
from services.ingest.receivers.syslog_store import GATHER_SECONDS, MAX_BATCH, PROTOCOL, Peer, SyslogStore, peer_of
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


class SyslogDatagrams(asyncio.DatagramProtocol, Collector):
    """The UDP port and its bounded queue. Datagrams are dropped when the queue is full, and when they come from elsewhere."""

    def __init__(self, host: str, port: int, store: SyslogStore, intake: Intake, networks: Networks, dropped: Counter, limit: int) -> None:
        self._host = host
        self._port = port
        self._store = store
        self._endpoints = intake.endpoints
        self._networks = networks
        self._dropped = dropped
        self._limit = limit
        self._queue: deque[tuple[bytes, Peer]] = deque()
        self._queued_bytes = 0
        self._peers: dict[str, Peer | None] = {}
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._transport: asyncio.DatagramTransport | None = None
        self._task: asyncio.Task[None] | None = None
        self._lost = 0

    async def start(self) -> None:
        """Opens the port; raises OSError when it cannot be opened."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=(self._host, self._port), reuse_port=hasattr(socket, "SO_REUSEPORT") or None
        )
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._task = loop.create_task(self._run(), name="syslog_udp")

    async def stop(self, grace: float | None) -> None:
        """Closes the port and stores what is queued; what is not stored after `grace` seconds is dropped and counted."""
        if self._transport is None or self._task is None:
            return
        self._transport.close()
        try:
            async with asyncio.timeout(grace):
                await self._emptied.wait()
        except TimeoutError:
            self._dropped.labels("stopping").inc(len(self._queue))
            log.warning("datagrams were dropped while stopping", datagrams=len(self._queue))
        self._task.cancel()
        await asyncio.wait([self._task], timeout=1.0)

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
        if len(self._queue) >= MAX_QUEUED or self._queued_bytes + len(data) > MAX_QUEUED_BYTES:
            self._dropped.labels("queue_full").inc()
            self._endpoints.refused(peer.arrival, "a datagram was dropped: too many wait to be stored")
            return
        if len(data) > self._limit:
            self._dropped.labels("too_large").inc()
            self._endpoints.refused(peer.arrival, f"a datagram of more than {self._limit} bytes was dropped")
            return
        message = without_count(data).rstrip(_TRAILER)
        self._queue.append((message, peer))
        self._queued_bytes += len(message)
        self._emptied.clear()
        self._filled.set()

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
        source = self._networks.source_of(address)
        peer = self._peers[address] = None if source is None else peer_of(address, source)
        return peer

    async def _run(self) -> None:
        while True:
            await self._filled.wait()
            await asyncio.sleep(GATHER_SECONDS)
            rows = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]
            self._queued_bytes -= sum(len(message) for message, _ in rows)
            await self._store.store(rows)
            if not self._queue:
                self._filled.clear()
                self._emptied.set()
