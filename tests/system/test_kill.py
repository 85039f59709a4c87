"""Nothing acknowledged is lost and nothing is counted twice, whatever dies under load."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from services.ingest.canary.protocols import SOURCE
from tests.fixtures.landscape import Landscape, run_landscape
from tests.fixtures.stack import ELIS
from tests.system.agents import ACKNOWLEDGING, Agents, RawSender, run_agents
from tests.system.api import Api, eventually, iso, name_source, open_api
from tests.system.load import DAYS, Senders, send_load

pytestmark = pytest.mark.system

SYSLOG_SOURCE = "syslog"
"""Source of syslog messages without a setting."""
STATISTICS = "query($start: DateTime!, $end: DateTime!) { statistics(range: {start: $start, end: $end}, groupBy: SOURCE) { groups { key events } } }"


@pytest.fixture(scope="module")
def landscape() -> Iterator[Landscape]:
    """Targets that may be killed; every test leaves all of them running."""
    with run_landscape() as running:
        yield running


@pytest.fixture(scope="module")
def public(landscape: Landscape) -> Iterator[Api]:
    """The public ports of the landscape."""
    with open_api(landscape.credentials) as api:
        yield api


def assert_exactly_once(landscape: Landscape, public: Api, source: str, senders: Senders) -> None:
    """Every acknowledged event is there once in the blocks, once in search, once in the statistics, and no other is."""
    assert senders.failures == []
    expected = Counter(senders.acknowledged)
    assert set(expected.values()) == {1}

    stored = landscape.stored_events(source)
    assert Counter(event["body"] for event in stored) == expected
    assert len({event["event_id"] for event in stored}) == len(stored)

    public.await_count(source, len(stored), seconds=30)
    found = public.events(source)
    assert {int(event["id"]): event["body"] for event in found} == {event["event_id"]: event["body"] for event in stored}
    assert len(found) == len(stored)

    now = time.time_ns()
    span = {"start": iso(now - DAYS * 86_400 * 10**9), "end": iso(now + 3600 * 10**9)}

    def counted() -> int:
        groups: list[dict[str, Any]] = public.query(STATISTICS, span)["statistics"]["groups"]
        return next((int(group["events"]) for group in groups if group["key"] == source), 0)

    eventually(lambda: counted() >= len(stored), 30, lambda: f"{counted()} of {len(stored)} counted")
    assert counted() == len(stored)
    assert landscape.ended() == []


def await_progress(senders: Senders, events: int = 200) -> None:
    """Waits until that many more events are acknowledged."""
    before = len(senders.acknowledged)
    eventually(lambda: len(senders.acknowledged) >= before + events, 30)


@pytest.mark.parametrize(("target", "rounds"), [("ingest", 3), ("search", 3), ("correlate", 2), ("auth", 1)])
def test_a_target_is_killed_under_load(landscape: Landscape, public: Api, target: str, rounds: int) -> None:
    source = name_source(f"kill-{target}")
    with send_load(landscape.credentials, source) as senders:
        for _ in range(rounds):
            await_progress(senders)
            time.sleep(random.uniform(0.0, 0.9))
            landscape.kill(target)
            if target != "ingest":
                await_progress(senders)  # nobody who sends notices
            landscape.start(target)
            landscape.await_ready(target)
        await_progress(senders)
    if target == "ingest":
        assert senders.resent > 0
    assert senders.failures == []
    assert_exactly_once(landscape, public, source, senders)


def test_postgres_crashes_under_load(landscape: Landscape, public: Api) -> None:
    source = name_source("kill-postgres")
    with send_load(landscape.credentials, source) as senders:
        for number in (signal.SIGQUIT, signal.SIGKILL) * 2:
            await_progress(senders)
            time.sleep(random.uniform(0.0, 0.5))
            landscape.kill_engine("postgres", number)
            time.sleep(0.3)
            landscape.start_engine("postgres")
        await_progress(senders)
    assert senders.resent > 0
    assert_exactly_once(landscape, public, source, senders)


def test_valkey_crashes_under_load(landscape: Landscape, public: Api) -> None:
    source = name_source("kill-valkey")
    with send_load(landscape.credentials, source) as senders:
        await_progress(senders)
        landscape.kill_engine("valkey")
        await_progress(senders)
        landscape.start_engine("valkey")
        await_progress(senders)
    assert senders.resent == 0
    assert_exactly_once(landscape, public, source, senders)


def assert_each_once(landscape: Landscape, public: Api, agents: Agents) -> None:
    """Every acknowledged event of every protocol is there once in the blocks and once in search, and no other is."""
    assert agents.failures == []
    expected = Counter(text for texts in agents.acknowledged.values() for text in texts)

    def of_these(texts: Iterator[str]) -> Counter[str]:
        return Counter(text for text in texts if text.startswith(f"{agents.prefix} "))

    def stored() -> Counter[str]:
        return of_these(event["body"] for source in (SOURCE, SYSLOG_SOURCE) for event in landscape.stored_events(source))

    def found() -> Counter[str]:
        return of_these(event["body"] for source in (SOURCE, SYSLOG_SOURCE) for event in public.events(source))

    for read in (stored, found):
        eventually(lambda read=read: read() == expected, 60, lambda read=read: f"too many: {[*read() - expected][:9]}, missing: {[*expected - read()][:9]}")  # type: ignore[misc]
    assert landscape.ended() == []


def await_agents(agents: Agents, events: int = 15) -> None:
    """Waits until every protocol has that many more events acknowledged."""
    before = agents.least
    eventually(lambda: agents.least >= before + events, 60)


def test_postgres_crashes_under_load_of_every_protocol(landscape: Landscape, public: Api) -> None:
    # Syslog acknowledges nothing, but what ELIS has read from a connection that holds is kept until it is stored.
    with run_agents(landscape.credentials, [*ACKNOWLEDGING, "syslog-tcp"], name_source("crash")) as agents:
        for number in (signal.SIGQUIT, signal.SIGKILL):
            await_agents(agents)
            landscape.kill_engine("postgres", number)
            time.sleep(0.3)
            landscape.start_engine("postgres")
        await_agents(agents)
    assert agents.resent > 0
    assert_each_once(landscape, public, agents)


def test_sigterm_cuts_no_request_and_loses_nothing(landscape: Landscape, public: Api) -> None:
    source = name_source("drain")
    started, half_head, busy = (RawSender(landscape.credentials, source) for _ in range(3))
    cut: list[bytes] = []

    def send_until_refused() -> None:
        number, fresh, over = 0, True, True
        while True:
            if over or busy.closed():
                if not busy.connect():
                    return
                fresh = True
            text = f"busy {number}"
            try:
                busy.send(busy.request(text))
                reply = busy.reply(text)
            except ConnectionError:
                reply = b""
            if text not in busy.acknowledged:
                if not fresh or reply:
                    cut.append(reply)
                over = True  # a new connection that was never taken from the queue of the port is a refused one
                continue
            number, fresh, over = number + 1, False, b"connection: close" in reply.lower()

    with ExitStack() as stack, run_agents(landscape.credentials, ACKNOWLEDGING, name_source("term")) as agents:
        for one in (started, half_head, busy):
            stack.callback(one.close)
        await_agents(agents)
        sender = threading.Thread(target=send_until_refused)
        sender.start()
        assert started.connect()
        assert half_head.connect()
        request, other = started.request("started"), half_head.request("half a head")
        started.send(request[:-10])
        half_head.send(other[:30])
        eventually(lambda: len(busy.acknowledged) > 20, 30)
        landscape.terminate("ingest")
        time.sleep(0.5)
        started.send(request[-10:])
        half_head.send(other[30:])
        for one, text in ((started, "started"), (half_head, "half a head")):
            reply = one.reply(text)
            assert one.acknowledged == [text], reply
            assert b"connection: close" in reply.lower()
        assert landscape.await_end("ingest") == 0
        sender.join()
        landscape.start("ingest")
        landscape.await_ready("ingest")
        await_agents(agents)
    assert cut == []
    expected = Counter([*started.acknowledged, *half_head.acknowledged, *busy.acknowledged])
    assert Counter(event["body"] for event in landscape.stored_events(source)) == expected
    assert_each_once(landscape, public, agents)


def test_the_canary_finds_everything_after_ingest_and_search_were_killed(landscape: Landscape, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials.json"
    credentials.write_text(json.dumps(landscape.credentials))
    protocols = [option for name in ACKNOWLEDGING for option in ("--protocol", name)]
    command = [str(ELIS), "canary", *protocols, "--rate", "10", "--json", "--credentials", str(credentials)]
    canary = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    before = len(landscape.stored_events(SOURCE))

    def progress(events: int) -> None:
        eventually(lambda: len(landscape.stored_events(SOURCE)) >= before + events, 60)

    progress(60)
    for number, target in enumerate(("ingest", "search"), 1):
        landscape.kill(target)
        landscape.start(target)
        landscape.await_ready(target)
        progress(60 + 60 * number)
    canary.send_signal(signal.SIGINT)
    output, _ = canary.communicate(timeout=90)
    rows = json.loads(output)
    assert [row["protocol"] for row in rows] == ACKNOWLEDGING
    for row in rows:
        assert row["acknowledged"] == row["found"] > 0, row
        assert (row["missing"], row["duplicated"]) == (0, 0), row
