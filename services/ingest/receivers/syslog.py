"""Syslog, RFC 3164 and RFC 5424, over UDP, TCP and TLS. There are no replies: overload holds TCP senders back, UDP loses.

Source: RFC 5424, 3164, 5425 (TLS), 5426 (UDP), 6587 (TCP), reference wire-formats §5. Messages are parsed by the format `syslog`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from prometheus_client import CollectorRegistry, Counter

from kit.server import Listener
from services.ingest.endpoints import Arrival
from services.ingest.intake import Intake
from services.ingest.receivers.networks import Networks
from services.ingest.receivers.streams import Connection, StreamPort, create_tls_context
from services.ingest.receivers.syslog_datagrams import SyslogDatagrams
from services.ingest.receivers.syslog_frames import FrameReader
from services.ingest.receivers.syslog_store import GATHER_SECONDS, PROTOCOL, SyslogStore, peer_in, peer_of
from services.ingest.settings import IngestSettings
from services.ingest.tokens import NOBODY, Agent

log = structlog.get_logger()

_GATHER_BYTES = 16 * 1024
"""With this much to work on, nothing is gained by waiting for more."""


class SyslogReceiver:
    """Serves the connections of both stream ports."""

    def __init__(self, settings: IngestSettings, intake: Intake, networks: Networks, store: SyslogStore, refused: Counter) -> None:
        self._limit = settings.syslog_message_bytes
        self._idle_seconds = settings.socket_idle_timeout.total_seconds()
        self._networks = networks
        self._default_source = settings.syslog_source
        self._endpoints = intake.endpoints
        self._store = store
        self._refused = refused

    def refuse(self, address: str, reason: str) -> None:
        """Counts a peer that was turned away."""
        self._refused.labels(PROTOCOL).inc()
        self._endpoints.refused(Arrival(PROTOCOL, NOBODY, address), f"disconnected: {reason}")

    async def serve(self, connection: Connection) -> None:
        """Stores what a peer sends, and reads on only when that is stored."""
        network = self._networks.find(connection.address)
        if connection.peer_name:  # the certificate was verified: the network does not matter
            agent = Agent(f"certificate:{connection.peer_name}", connection.peer_name, "")
            peer = peer_of(connection.address, network.source if network is not None else self._default_source, agent)
        elif network is not None:
            peer = peer_in(network, connection.address)
        else:
            self.refuse(connection.address, "the address is not in ELIS_SYSLOG_ALLOW")
            return
        frames = FrameReader(self._limit)
        while data := await connection.read(self._idle_seconds):
            if len(data) < _GATHER_BYTES:
                await asyncio.sleep(GATHER_SECONDS)
                data += connection.take()
            messages, broken = frames.feed(data)
            await self._store.store([(message, peer) for message in messages], [(frame, peer) for frame in broken])
        messages, broken = frames.finish()
        await self._store.store([(message, peer) for message in messages], [(frame, peer) for frame in broken])


def create_syslog_listeners(settings: IngestSettings, intake: Intake, registry: CollectorRegistry) -> Sequence[Listener]:
    """Returns the UDP and TCP port, and the TLS port when it has a certificate; none of them is open yet."""
    networks = Networks(settings.syslog_allow, settings.syslog_source)
    store = SyslogStore(intake)
    dropped = Counter("elis_syslog_datagrams_dropped", "Syslog datagrams that were dropped, by reason.", ["reason"], registry=registry)
    refused = Counter("elis_syslog_connections_refused", "Syslog connections that were turned away or cut off.", ["protocol"], registry=registry)
    receiver = SyslogReceiver(settings, intake, networks, store, refused)
    host, port = settings.bind_host, settings.port("ingest", "syslog")
    datagrams = SyslogDatagrams(host, settings.port("ingest", "syslog_udp"), store, intake, networks, dropped, settings.syslog_message_bytes)
    registry.register(datagrams)
    listeners: list[Listener] = [
        datagrams,
        StreamPort(PROTOCOL, host, port, receiver.serve, receiver.refuse, settings.socket_connections),
    ]
    if settings.tls_certificate and settings.tls_key:
        context = create_tls_context(settings.tls_certificate, settings.tls_key, settings.syslog_client_ca)
        tls_port = settings.port("ingest", "syslog_tls")
        listeners.append(StreamPort("syslog_tls", host, tls_port, receiver.serve, receiver.refuse, settings.socket_connections, context))
    else:
        log.info("the port of syslog over TLS is not opened: ELIS_TLS_CERTIFICATE and ELIS_TLS_KEY are not set")
    return listeners
