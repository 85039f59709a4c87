"""The network: two firewalls (JSON) and a core switch (syslog with priority), collected by Splunk."""

from __future__ import annotations

from random import Random

from services.ingest.simulator import stamps
from services.ingest.simulator.events import HecPayload, Origin, Role
from services.ingest.simulator.landscape import ADDRESSES, ADMINISTRATORS, APPLICATION_HOSTS, CUSTOMER_NETWORKS, FIREWALLS
from services.ingest.simulator.story import Story
from services.ingest.simulator.streams import Mix, Stream, pick
from services.ingest.simulator.systems.web import customer_address

FIREWALL = {host: Origin("firewall", "splunk", "firewall", host) for host in FIREWALLS}
SWITCH = Origin("switch-syslog", "splunk", "switch", "sw-core-1")
_FIREWALL_FIELDS = {"service": "firewall", "environment": "production"}
_SWITCH_FIELDS = {"service": "switch", "environment": "production"}
_LEVELS = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")

_SWITCH_LINES: Mix[str] = Mix(
    (10, "%LINEPROTO-5-UPDOWN: Line protocol on Interface GigabitEthernet1/0/{port}, changed state to up"),
    (10, "%LINEPROTO-5-UPDOWN: Line protocol on Interface GigabitEthernet1/0/{port}, changed state to down"),
    (8, "%SYS-5-CONFIG_I: Configured from console by netops on vty0 (10.10.9.{port})"),
    (8, "%SEC_LOGIN-5-LOGIN_SUCCESS: Login Success [user: netops] [Source: 10.10.9.{port}] [localport: 22]"),
    (4, "%SPANTREE-6-PORT_STATE: Port Gi1/0/{port} instance 20 moving from learning to forwarding"),
    (2, "%CDP-4-DUPLEX_MISMATCH: duplex mismatch discovered on GigabitEthernet1/0/{port} (not half duplex)"),
)


def report(story: Story, time_ns: int, host: str, level: int, code: str, text: str, role: Role | None = None, **more: str | int) -> None:
    """Emits a firewall event; `level` is the syslog severity 0 to 7, `code` the vendor's message number."""
    event: dict[str, str | int] = {"message": f"%ASA-{level}-{code}: {text}", "level": _LEVELS[level], "message_id": code}
    event.update(more)
    story.emit(time_ns, FIREWALL[host], HecPayload("cisco:asa:json", event, _FIREWALL_FIELDS), role)


def streams(story: Story) -> list[Stream]:
    """Ordinary life: connections come and go, the internet knocks, ports flap."""
    rng = story.rng("network")

    def carry(time_ns: int) -> None:
        connection = 100_000 + int(rng.random() * 9_000_000)
        host = FIREWALLS[0] if rng.random() < 0.9 else FIREWALLS[1]
        client, port = customer_address(rng), 1024 + int(rng.random() * 64_000)
        ending = time_ns + int((0.2 + rng.expovariate(0.2)) * stamps.SECOND)
        text = f"Built inbound TCP connection {connection} for outside:{client}/{port} to dmz:10.20.1.10/443"
        report(story, time_ns, host, 6, "302013", text, action="built", src_ip=client, dest_ip="10.20.1.10", dest_port=443)
        seconds = (ending - time_ns) // stamps.SECOND
        text = (
            f"Teardown TCP connection {connection} for outside:{client}/{port} to dmz:10.20.1.10/443 "
            f"duration 0:{seconds // 60:02d}:{seconds % 60:02d} bytes {int(rng.random() * 90_000)} TCP FINs"
        )
        report(story, ending, host, 6, "302014", text, action="teardown", src_ip=client, dest_ip="10.20.1.10", dest_port=443)

    def refuse(time_ns: int) -> None:
        client = f"{pick(rng, CUSTOMER_NETWORKS)}.{int(rng.random() * 254)}"
        port = pick(rng, (22, 23, 445, 3389, 5060, 8081))
        text = f'Deny tcp src outside:{client}/{1024 + int(rng.random() * 64_000)} dst dmz:10.20.1.10/{port} by access-group "OUTSIDE_IN"'
        more: dict[str, str | int] = {"action": "blocked", "src_ip": client, "dest_ip": "10.20.1.10", "dest_port": port, "rule": "OUTSIDE_IN"}
        report(story, time_ns, "fw-1", 4, "106023", text, "noise", **more)

    def reach_sap(time_ns: int) -> None:
        caller = pick(rng, APPLICATION_HOSTS)
        failure = story.failure("connection", time_ns, caller)
        if failure is not None:
            if failure.each is not None:
                failure.each(time_ns, caller)
            return
        source = ADDRESSES[caller]
        gateway = ADDRESSES["sapapp1"]
        connection = 100_000 + int(rng.random() * 9_000_000)
        text = f"Built outbound TCP connection {connection} for sap:{gateway}/3301 to app:{source}/{32_768 + int(rng.random() * 28_000)}"
        report(story, time_ns, "fw-2", 6, "302013", text, action="built", src_ip=source, dest_ip=gateway, dest_port=3301)

    def administer(time_ns: int) -> None:
        text = f"User '{pick(rng, ADMINISTRATORS)}' executed the 'show conn count' command."
        report(story, time_ns, pick(rng, FIREWALLS), 5, "111009", text, action="command")

    def switch(time_ns: int) -> None:
        text = _SWITCH_LINES.draw(rng).format(port=1 + int(rng.random() * 47))
        level = int(text[text.index("-") + 1])
        line = f"<{23 * 8 + level}>{stamps.syslog(time_ns)} sw-core-1 {story.number('switch', 40_112)}: {text}"
        role: Role | None = "noise" if level <= 4 else None
        story.emit(stamps.to_second(time_ns), SWITCH, HecPayload("cisco:ios", line, _SWITCH_FIELDS), role)

    return [
        story.arrivals("network/carry", 0.9, carry),
        story.arrivals("network/refuse", 0.12, refuse),
        story.arrivals("network/sap", 0.25, reach_sap),
        story.arrivals("network/administer", 0.02, administer),
        story.arrivals("network/switch", 0.18, switch),
    ]


def block(story: Story, rng: Random, time_ns: int, caller: str) -> None:
    """Emits the denial of a connection from an application host to the SAP gateway."""
    source, gateway = ADDRESSES[caller], ADDRESSES["sapapp1"]
    port = 32_768 + int(rng.random() * 28_000)
    text = f'Deny tcp src app:{source}/{port} dst sap:{gateway}/3301 by access-group "APP_SAP_IN" [0x8c5b2e1a, 0x0]'
    more: dict[str, str | int] = {"action": "blocked", "src_ip": source, "dest_ip": gateway, "dest_port": 3301, "rule": "APP_SAP_IN"}
    report(story, time_ns, "fw-2", 4, "106023", text, "root", **more)
