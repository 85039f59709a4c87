"""Syslog over UDP, TCP and TLS, sent by the clients that teams have."""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import shutil
import socket
import subprocess
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from tests.services.ingest.conftest import RunningIngest
from tests.services.ingest.receivers.stored import read_events, wait_for_events

HOST = "127.0.0.1"
RFC5424 = '<34>1 2026-11-24T06:00:00.003Z web-1 su 77 ID47 [origin@32473 ip="10.0.0.1"] \ufeffsu root failed'


def log_lines(handler: logging.Handler, *texts: str) -> None:
    """Logs warnings through a handler of the standard library, then closes it."""
    logger = logging.Logger("shop")
    logger.addHandler(handler)
    for text in texts:
        logger.warning(text)
    handler.close()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["udp", "tcp"])
async def test_the_handler_of_the_standard_library(running_ingest: RunningIngest, pool: asyncpg.Pool[Any], kind: socket.SocketKind) -> None:
    def send() -> None:
        handler = logging.handlers.SysLogHandler((HOST, running_ingest.ports["syslog"]), socktype=kind)
        handler.setFormatter(logging.Formatter("shop[%(process)d]: %(message)s"))
        log_lines(handler, "payment failed", "payment failed", "payment came at last")

    await asyncio.to_thread(send)
    events = await wait_for_events(pool, 3)
    assert [event["body"] for event in events] == ["payment failed", "payment failed", "payment came at last"]
    assert {(event["source"], event["system"], event["service"], event["host"], event["severity_number"]) for event in events} == {
        ("syslog", "infrastructure", "shop", HOST, 13)
    }


@pytest.mark.skipif(shutil.which("logger") is None, reason="util-linux is not installed")
@pytest.mark.parametrize("options", [["--udp"], ["--tcp"], ["--tcp", "--octet-count"], ["--udp", "--rfc3164"], ["--tcp", "--rfc3164"]], ids=" ".join)
async def test_the_command_logger(running_ingest: RunningIngest, pool: asyncpg.Pool[Any], options: list[str]) -> None:
    command = ["logger", "--server", HOST, "--port", str(running_ingest.ports["syslog"]), *options, "--tag", "backup", "-p", "daemon.err", "disk 7 is full"]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=30)
    (event,) = await wait_for_events(pool, 1)
    assert (event["body"], event["service"], event["severity_number"]) == ("disk 7 is full", "backup", 17)
    assert event["host"]
    assert event["attributes"]["syslog.facility"] == 3


async def test_both_framings_in_one_connection(running_ingest: RunningIngest, pool: asyncpg.Pool[Any]) -> None:
    message = RFC5424.encode()
    multi_line = b"<11>1 2026-11-24T06:00:01Z web-1 java 1 - - first line\nsecond line"
    _, writer = await asyncio.open_connection(HOST, running_ingest.ports["syslog"])
    writer.write(b"%d %s" % (len(message), message) + b"<13>Nov 24 06:00:02 web-1 cron[3]: by line\r\n" + b"%d %s" % (len(multi_line), multi_line))
    writer.write(b"<13>Nov 24 06:00:03 web-1 cron[3]: by NUL\0<13>Nov 24 06:00:04 web-1 cron[3]: without an end")
    writer.write_eof()
    bodies = {event["body"]: event for event in await wait_for_events(pool, 5)}
    assert bodies.keys() == {"su root failed", "by line", "first line\nsecond line", "by NUL", "without an end"}
    event = bodies["su root failed"]
    assert (event["host"], event["service"], event["timestamp"]) == ("web-1", "su", 1795500000003000000)
    assert event["attributes"]["syslog.structured_data"] == {"origin@32473": {"ip": "10.0.0.1"}}
    writer.close()
