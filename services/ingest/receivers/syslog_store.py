"""Syslog messages on their way to the intake: batches that are kept and tried again until they are stored."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import structlog

from kit.errors import RateLimited, Unavailable
from services.ingest.batch import Batch
from services.ingest.endpoints import Arrival
from services.ingest.intake import Intake
from services.ingest.receivers.networks import Network
from services.ingest.receivers.syslog_frames import BrokenFrame
from services.ingest.rejections import Rejection, RejectReason
from services.ingest.tokens import Agent

log = structlog.get_logger()

PROTOCOL = "syslog"
DEFAULT_SYSTEM = "infrastructure"
PEER_ATTRIBUTE = "network.peer.address"
"""OpenTelemetry's name of the address that a message came from."""
MAX_BATCH = 4_096
"""Messages that are stored at once."""
GATHER_SECONDS = 0.005
"""How long a message waits for company: the lines of a stack trace come one by one."""
FIRST_PAUSE_SECONDS = 0.05
LAST_PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Peer:
    """Where messages come from."""

    address: str
    source: str
    agent: Agent
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def arrival(self) -> Arrival:
        """The peer as endpoints and rejected events name it."""
        return Arrival(PROTOCOL, self.agent, self.address)


def peer_of(address: str, source: str, agent: Agent) -> Peer:
    """Returns a peer whose messages carry its address."""
    return Peer(address, source, agent, {PEER_ATTRIBUTE: address})


def peer_in(network: Network, address: str) -> Peer:
    """Returns a peer on the allow-list. Its network is the agent: each has limits of its own, and none waits for another."""
    name = str(network.addresses)
    return peer_of(address, network.source, Agent(f"{PROTOCOL}:{name}", name, network.source))


class SyslogStore:
    """Stores messages. There is no reply to a syslog sender: what was read is kept until it is stored."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def store(self, rows: Sequence[tuple[bytes, Peer]], broken: Sequence[tuple[BrokenFrame, Peer]] = ()) -> None:
        """Returns when all is stored, however long that takes. Equal messages are as many events: only a retry is recognised.

        All are of one agent, whose limits hold for them.
        """
        for start in range(0, max(len(rows), 1), MAX_BATCH):
            await self._store_batch(rows[start : start + MAX_BATCH], () if start else broken)

    async def _store_batch(self, rows: Sequence[tuple[bytes, Peer]], broken: Sequence[tuple[BrokenFrame, Peer]]) -> None:
        rows = [(message, peer) for message, peer in rows if message and not message.isspace()]
        if not rows and not broken:
            return
        arrival = (rows[0] if rows else broken[0])[1].arrival
        rejections = [Rejection(peer.source, RejectReason.FRAME_BROKEN, frame.detail, frame.raw) for frame, peer in broken]
        size = sum(len(message) for message, _ in rows)
        key, observed_at, pause = uuid4().hex, time.time_ns(), FIRST_PAUSE_SECONDS
        self._touch(rows)
        while True:
            try:
                with self._intake.admit(arrival, size):
                    # Preparing a batch changes it, so that every try needs a new one.
                    await self._intake.take(
                        _batch_of(rows),
                        arrival,
                        default_system=DEFAULT_SYSTEM,
                        formats=[PROTOCOL] * len(rows),
                        idempotency_key=key,
                        rejections=rejections,
                        observed_at=observed_at,
                    )
                return
            except (Unavailable, RateLimited) as error:
                log.warning("syslog messages wait", reason=error.message, messages=len(rows), seconds=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LAST_PAUSE_SECONDS)

    def _touch(self, rows: Sequence[tuple[bytes, Peer]]) -> None:
        """Counts the bytes of each sender."""
        sizes: dict[str, int] = {}
        peers: dict[str, Peer] = {}
        for message, peer in rows:
            sizes[peer.address] = sizes.get(peer.address, 0) + len(message)
            peers[peer.address] = peer
        for address, size in sizes.items():
            self._intake.read(peers[address].arrival, size)


def _batch_of(rows: Sequence[tuple[bytes, Peer]]) -> Batch:
    batch = Batch()
    for message, peer in rows:
        batch.append(message.decode("utf-8", "replace").removeprefix("\ufeff"), source=peer.source, attributes=peer.attributes)
    return batch
