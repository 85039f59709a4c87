"""A firewall rule cuts the order application off from the gateway of SAP; old connections die one after the other."""

from __future__ import annotations

from functools import partial

from services.ingest.simulator.events import Root
from services.ingest.simulator.landscape import ABAP_HOSTS, ADDRESSES, APPLICATION_HOSTS, PRODUCTS
from services.ingest.simulator.scenarios.base import Plot, Scenario
from services.ingest.simulator.story import Failure, Story
from services.ingest.simulator.streams import Ramp, Schedule, Stream, pick
from services.ingest.simulator.systems import abap, network, orders

_GATEWAY = f"{ADDRESSES['sapapp1']}:3301"
_COMMANDS: tuple[tuple[float, str, str], ...] = (
    (0.0, "111008", "User 's.lind' executed the 'configure terminal' command."),
    (
        4.0,
        "111010",
        "User 's.lind', running 'CLI' from IP 10.10.9.44, executed 'access-list APP_SAP_IN line 14 extended deny tcp 10.20.4.0 255.255.255.0 "
        "10.30.1.0 255.255.255.0 range 3300 3399'",
    ),
    (9.0, "111008", "User 's.lind' executed the 'write memory' command."),
)


def _plot(story: Story) -> Plot:
    rng = story.rng("firewall-change/troubles")
    # Pooled connections that exist already live on until they are recycled.
    cut_off = Ramp(story.after_onset(6), 180 * story.tempo, 0.96)
    denied = Ramp(story.after_onset(6), 0.0, 1.0)

    def block(time_ns: int, caller: str) -> None:
        network.block(story, rng, time_ns, caller)

    unreachable = Failure(
        f"connect to SAP gateway {_GATEWAY} failed: partner not reached (NIETIMEOUT, connect timed out)",
        "com.sap.conn.jco.JCoException",
        5.0,
        2,
        503,
        each=block,
    )
    background = Failure("denied", each=block)

    def call(time_ns: int, _: str) -> Failure | None:
        return unreachable if rng.random() < cut_off(story.second(time_ns)) else None

    def connect(time_ns: int, _: str) -> Failure | None:
        return background if denied(story.second(time_ns)) else None

    return Plot([_change(story), *_sap(story), _chatter(story)], {"sap": call, "connection": connect})


def _change(story: Story) -> Stream:
    def command(code: str, text: str, time_ns: int) -> None:
        network.report(story, time_ns, "fw-2", 5, code, text, "root", action="command")

    return Schedule(*((story.after_onset(after), partial(command, code, text)) for after, code, text in _COMMANDS))


def _sap(story: Story) -> list[Stream]:
    rng = story.rng("firewall-change/sap")

    def lose_connection(time_ns: int) -> None:
        peer = f"{ADDRESSES[pick(rng, APPLICATION_HOSTS)]}:{32_768 + int(rng.random() * 28_000)}"
        text = f"***LOG Q0I=> NiIRead: P={peer}; L={_GATEWAY}: recv (110: ETIMEDOUT, Connection timed out) [nixxi.cpp    5420]"
        abap.trace(story, rng, time_ns, ABAP_HOSTS[0], "M", text, "symptom")

    def end_conversation(time_ns: int) -> None:
        text = f"*** ERROR => ThPOpen: conversation {int(rng.random() * 90_000_000):08d} of RFC_ORDERS lost [thxxcpic.c   2140]"
        abap.trace(story, rng, time_ns, ABAP_HOSTS[0], "M", text, "symptom")

    return [
        story.arrivals("firewall-change/lost", 0.3, lose_connection, Ramp(story.after_onset(30), 150 * story.tempo)),
        story.arrivals("firewall-change/conversation", 0.12, end_conversation, Ramp(story.after_onset(45), 150 * story.tempo)),
    ]


def _chatter(story: Story) -> Stream:
    """Loud and innocent: an old version of the mobile application uses a deprecated field."""
    rng = story.rng("firewall-change/chatter")

    def complain(time_ns: int) -> None:
        body = f"deprecated field 'warehouse_code' in request of ShopApp/5.1 for article {pick(rng, PRODUCTS)}"
        orders.log(story, time_ns, "inventory-service", pick(rng, APPLICATION_HOSTS), "WARN", body, {}, role="noise")

    return story.arrivals("firewall-change/chatter", 3.0, complain, Ramp(story.after_onset(100), 30 * story.tempo))


SCENARIO = Scenario(
    "firewall-change",
    "a firewall rule cuts the order application off from the gateway of SAP",
    Root("splunk", "firewall"),
    _plot,
)
