"""Syslog over UDP, TCP and TLS, sent by the clients that teams have."""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import shutil
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from services.ingest.intake import Intake
from services.ingest.limits import Limits
from services.ingest.receivers.streams import BUFFER_BYTES, StreamPort
from services.ingest.settings import IngestSettings
from tests.services.ingest.conftest import ARRIVAL, RunningIngest
from tests.services.ingest.receivers.certificates import CLIENT_NAME, make_certificates
from tests.services.ingest.receivers.sockets import HOST, Sockets, connect, open_sockets
from tests.services.ingest.receivers.stored import read_events, wait_for_events

RFC5424 = '<34>1 2026-11-24T06:00:00.003Z web-1 su 77 ID47 [origin@32473 ip="10.0.0.1"] \ufeffsu root failed'
LOGGER_OPTIONS = [["--udp"], ["--tcp"], ["--tcp", "--octet-count"], ["--udp", "--rfc3164"], ["--tcp", "--rfc3164"]]


async def wait_until(condition: Any) -> None:
    """Returns when a condition holds; fails when it does not come to that."""
    async with asyncio.timeout(30.0):
        while not condition():  # noqa: ASYNC110 - what is waited for knows no events
            await asyncio.sleep(0.01)


def stream_port(sockets: Sockets) -> StreamPort:
    """Returns the TCP port of syslog."""
    return next(listener for listener in sockets.syslog if isinstance(listener, StreamPort))


async def test_the_handler_of_the_standard_library(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    def send(kind: socket.SocketKind, name: str) -> None:
        handler = logging.handlers.SysLogHandler((HOST, running_ingest.ports["syslog"]), socktype=kind)
        handler.setFormatter(logging.Formatter(f"{name}[%(process)d]: %(message)s"))
        logger = logging.Logger("shop")
        logger.addHandler(handler)
        for text in "payment failed", "payment failed", "payment came at last":
            logger.warning(text)
        handler.close()

    await asyncio.to_thread(send, socket.SOCK_DGRAM, "by-udp")
    await asyncio.to_thread(send, socket.SOCK_STREAM, "by-tcp")
    events = await wait_for_events(pool, 6)
    for name in "by-udp", "by-tcp":
        found = [event for event in events if event["service"] == name]
        assert [event["body"] for event in found] == ["payment failed", "payment failed", "payment came at last"]
        for event in found:
            assert (event["source"], event["system"], event["host"], event["severity_number"]) == ("syslog", "infrastructure", HOST, 13)


@pytest.mark.skipif(shutil.which("logger") is None, reason="util-linux is not installed")
async def test_the_command_logger(settings: IngestSettings, intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    async with open_sockets(settings, intake) as sockets:
        for number, options in enumerate(LOGGER_OPTIONS):
            command = [
                "logger",
                "--server",
                HOST,
                "--port",
                str(sockets.port("syslog")),
                *options,
                "--tag",
                f"backup-{number}",
                "-p",
                "daemon.err",
                "disk is full",
            ]
            await asyncio.to_thread(subprocess.run, command, check=True, timeout=30)
        events = await wait_for_events(pool, len(LOGGER_OPTIONS))
    assert sorted(event["service"] for event in events) == [f"backup-{number}" for number in range(len(LOGGER_OPTIONS))]
    for event in events:
        assert (event["body"], event["severity_number"], event["attributes"]["syslog.facility"]) == ("disk is full", 17, 3)
        assert event["host"] not in ("", HOST)


async def test_both_framings_in_one_connection_that_is_half_closed(settings: IngestSettings, intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    message = RFC5424.encode()
    multi_line = b"<11>1 2026-11-24T06:00:01Z web-1 java 1 - - first line\nsecond line"
    async with open_sockets(settings, intake) as sockets, connect(sockets.port("syslog")) as client:
        client.writer.write(b"%d %s" % (len(message), message) + b"<13>Nov 24 06:00:02 web-1 cron[3]: by line\r\n" + b"%d %s" % (len(multi_line), multi_line))
        client.writer.write(b"<13>Nov 24 06:00:03 web-1 cron[3]: by NUL\0<13>Nov 24 06:00:04 web-1 cron[3]: without an end")
        client.writer.write_eof()
        assert await client.hung_up()
        bodies = {event["body"]: event for event in await read_events(pool)}
    assert bodies.keys() == {"su root failed", "by line", "first line\nsecond line", "by NUL", "without an end"}
    event = bodies["su root failed"]
    assert (event["host"], event["service"], event["timestamp"]) == ("web-1", "su", 1795500000003000000)
    assert event["attributes"]["syslog.structured_data"] == {"origin@32473": {"ip": "10.0.0.1"}}


async def test_tls_with_client_certificates(settings: IngestSettings, intake: Intake, pool: asyncpg.Pool[Any], tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    options = {"tls_certificate": files.server, "tls_key": files.server_key, "syslog_client_ca": files.ca, "syslog_allow": "192.0.2.0/24"}
    context = ssl.create_default_context(cafile=files.ca)
    async with open_sockets(settings, intake, **options) as sockets:
        async with connect(sockets.port("syslog_tls"), context) as stranger:
            stranger.writer.write(b"<13>without a certificate\n")
            assert await stranger.hung_up()
        context.load_cert_chain(files.client, files.client_key)
        async with connect(sockets.port("syslog_tls"), context) as client:
            client.writer.write(b"%d %s" % (len(RFC5424.encode()), RFC5424.encode()))
            (event,) = await wait_for_events(pool, 1)
    assert event["body"] == "su root failed"
    assert CLIENT_NAME in {endpoint.token_name for endpoint, _ in intake.endpoints.draw()}


def test_no_tls_port_without_a_certificate(settings: IngestSettings, intake: Intake) -> None:
    assert len([listener for listener in Sockets(settings, intake).syslog if isinstance(listener, StreamPort)]) == 1


async def test_networks_are_allowed_and_name_sources(settings: IngestSettings, intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    async with open_sockets(settings, intake, syslog_allow="127.0.0.0/8=switches, 10.0.0.0/8") as sockets, connect(sockets.port("syslog")) as client:
        client.writer.write(b"<13>Nov 24 06:00:02 sw-1 link: down\n")
        (event,) = await wait_for_events(pool, 1)
        assert event["source"] == "switches"
    async with open_sockets(settings, intake, syslog_allow="192.0.2.0/24") as sockets:
        async with connect(sockets.port("syslog")) as client:
            assert await client.hung_up()
        with socket.socket(type=socket.SOCK_DGRAM) as sender:
            sender.sendto(b"<13>not allowed", (HOST, sockets.port("syslog")))
            await wait_until(lambda: sockets.dropped("not_allowed") == 1)


async def test_overload_holds_tcp_back_and_loses_nothing(settings: IngestSettings, intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    lines = [b"<13>Nov 24 06:00:02 web-1 job[1]: line %d %s\n" % (number, b"x" * 2_000) for number in range(6_000)]
    async with open_sockets(settings, intake) as sockets, connect(sockets.port("syslog")) as client:
        with intake.admit(ARRIVAL, settings.max_pending_bytes):  # no room for anybody else
            client.writer.write(b"".join(lines))
            await wait_until(lambda: stream_port(sockets).buffered >= BUFFER_BYTES)
            await asyncio.sleep(0.1)
            assert stream_port(sockets).buffered < 1024 * 1024
            assert client.writer.transport.get_write_buffer_size() > 0
        client.writer.write_eof()
        assert await client.hung_up()
        numbers = [int(event["body"].split()[1]) for event in await read_events(pool)]
    assert numbers == list(range(len(lines)))


async def test_overload_drops_datagrams_and_counts_them(settings: IngestSettings, intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    sent = 300
    async with open_sockets(settings, intake) as sockets:
        with intake.admit(ARRIVAL, settings.max_pending_bytes), socket.socket(type=socket.SOCK_DGRAM) as sender:
            for number in range(sent):
                sender.sendto(b"<13>job: %d %s" % (number, b"x" * 60_000), (HOST, sockets.port("syslog")))
                await asyncio.sleep(0.001)
        dropped = int(sockets.dropped("queue_full"))
        assert 0 < dropped < sent
        assert len(await wait_for_events(pool, sent - dropped)) == sent - dropped
    assert sum(counts.refused for endpoint, counts in intake.endpoints.draw() if endpoint.protocol == "syslog") >= dropped


@pytest.mark.skipif(sys.platform != "linux", reason="needs a second address of the loopback")
async def test_a_noisy_network_costs_no_other_its_messages(settings: IngestSettings, intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    intake.limits = Limits(default_events=5)
    networks = "127.0.0.1/32=noisy, 127.0.0.2/32=calm"
    async with open_sockets(settings, intake, syslog_allow=networks) as sockets:
        port = sockets.port("syslog")
        with socket.socket(type=socket.SOCK_DGRAM) as noisy, socket.socket(type=socket.SOCK_DGRAM) as calm:
            calm.bind(("127.0.0.2", 0))
            async with connect(port) as client:
                client.writer.write(b"".join(b"<13>job: %d\n" % number for number in range(1_000)))
                assert len(await wait_for_events(pool, 1_000)) == 1_000  # more than it may: what follows waits for minutes
            for number in range(300):
                noisy.sendto(b"<13>job: %d %s" % (number, b"x" * 60_000), (HOST, port))
                await asyncio.sleep(0.001)
            before = sockets.dropped("queue_full")
            assert before > 0
            calm.sendto(b"<13>link: by datagram %s" % (b"x" * 60_000), (HOST, port))
            _, writer = await asyncio.open_connection(HOST, port, local_addr=("127.0.0.2", 0))
            writer.write(b"<13>link: by stream\n")
            events = await wait_for_events(pool, 1_002)
            writer.close()
        assert {event["body"].rstrip("x ") for event in events if event["source"] == "calm"} == {"by datagram", "by stream"}
        assert sockets.dropped("queue_full") == before + 1  # a noisy one made room
    names = {endpoint.token_name: (endpoint.source, counts.events) for endpoint, counts in intake.endpoints.draw()}
    assert names == {"127.0.0.1/32": ("noisy", 1_000), "127.0.0.2/32": ("calm", 2)}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
async def test_datagrams_that_the_system_drops_are_counted(settings: IngestSettings, intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    sent = 2_000
    async with open_sockets(settings, intake) as sockets:
        with socket.socket(type=socket.SOCK_DGRAM) as sender:
            for number in range(sent):  # without a pause, so that nothing is read meanwhile
                sender.sendto(b"<13>job: %d %s" % (number, b"x" * 8_000), (HOST, sockets.port("syslog")))
        lost = int(sockets.registry.get_sample_value("elis_syslog_datagrams_lost_total") or 0)
        assert lost > 0
        assert len(await wait_for_events(pool, sent - lost)) == sent - lost


async def test_what_was_read_is_stored_when_the_port_is_closed(settings: IngestSettings, intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    async with open_sockets(settings, intake) as sockets, connect(sockets.port("syslog")) as client:
        client.writer.write(b"".join(b"<13>Nov 24 06:00:02 web-1 job[1]: %d\n" % number for number in range(3_000)))
        await client.writer.drain()
        with socket.socket(type=socket.SOCK_DGRAM) as sender:
            sender.sendto(b"<13>job: by datagram", (HOST, sockets.port("syslog")))
            await asyncio.sleep(0.01)
        await sockets.stop()
        assert len(await read_events(pool)) == 3_001
        assert await client.hung_up()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, sockets.port("syslog"))


async def test_idle_slow_and_too_many_connections(settings: IngestSettings, intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    async with open_sockets(settings, intake, socket_connections=201) as sockets:
        port = sockets.port("syslog")
        idle = [await asyncio.open_connection(HOST, port) for _ in range(200)]
        async with connect(port) as slow:
            for byte in b"<13>slow: by byte\n":
                slow.writer.write(bytes([byte]))
                await slow.writer.drain()
            (event,) = await wait_for_events(pool, 1)
            assert event["body"] == "by byte"
            async with connect(port) as late:
                assert await late.hung_up()
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()


async def test_bad_bytes_cost_no_neighbour(settings: IngestSettings, intake: Intake, pool: asyncpg.Pool[Any]) -> None:
    bad = [
        b"999999999999999 <13>huge count\n",
        b"<13>" + b"y" * 200_000 + b"\n",
        b"<13>Nov 24 06:00:02 web-1 bad: \x1b[31mred\x1b[0m \xff\xfe \x07\n",
        b"<999999999999>1 - - - - - - x\n<>\n<13\n<13>\n",
        b"<13>1 9999-99-99T99:99:99Z h a - - - year\n<13>1 9999-12-31T23:59:59Z h a - - - far\n",
        b'<13>1 2026-11-24T06:00:00Z h a - - [a b="' + b"\\" * 60_000 + b"\n",
        b"<13>1 2026-11-24T06:00:00Z h a - - " + b'[a b="c"]' * 7_000 + b" many\n",
        b"8 <13>a\nb\0",
    ]
    async with open_sockets(settings, intake) as sockets, connect(sockets.port("syslog")) as client:
        for number, line in enumerate(bad):
            client.writer.write(b"<13>good: %d\n" % number + line)
            with socket.socket(type=socket.SOCK_DGRAM) as sender:
                sender.sendto(line[:60_000], (HOST, sockets.port("syslog")))
        client.writer.write(b"300 cut off")
        client.writer.write_eof()
        assert await client.hung_up()
        bodies = [event["body"] for event in await read_events(pool)]
    assert {str(number) for number in range(len(bad))} <= set(bodies)
    rejected = await pool.fetch("SELECT reason, count FROM ingest.rejection_groups")
    assert {row["reason"] for row in rejected} == {"frame_broken"}
    assert sum(row["count"] for row in rejected) >= 3
