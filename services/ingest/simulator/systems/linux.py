"""Linux hosts: /var/log/messages of every machine, collected by Splunk forwarders."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from services.ingest.simulator import stamps
from services.ingest.simulator.events import HecPayload, Origin, Role
from services.ingest.simulator.landscape import ADMINISTRATORS, LINUX_HOSTS
from services.ingest.simulator.story import Story
from services.ingest.simulator.streams import Mix, Stream, pick
from services.ingest.simulator.systems.web import customer_address


class Line(NamedTuple):
    """A line that a program writes now and then."""

    program: str
    text: Callable[[Random], str]
    role: Role | None = None


def _port(rng: Random) -> int:
    return 32_768 + int(rng.random() * 28_000)


def _number(rng: Random, below: int) -> int:
    return int(rng.random() * below)


LINES: Mix[Line] = Mix(
    (14, Line("systemd", lambda r: f"Started Session {_number(r, 90_000)} of user {pick(r, ADMINISTRATORS)}.")),
    (8, Line("systemd", lambda r: f"session-{_number(r, 90_000)}.scope: Deactivated successfully.")),
    (8, Line("systemd", lambda _: "Starting Collect system activity accounting data...")),
    (8, Line("systemd", lambda _: "sysstat-collect.service: Deactivated successfully.")),
    (9, Line("sshd", lambda r: f"Accepted publickey for {pick(r, ADMINISTRATORS)} from 10.10.9.{_number(r, 250)} port {_port(r)} ssh2")),
    (7, Line("sshd", lambda r: f"pam_unix(sshd:session): session opened for user {pick(r, ADMINISTRATORS)}(uid=1001) by (uid=0)")),
    (7, Line("sshd", lambda r: f"pam_unix(sshd:session): session closed for user {pick(r, ADMINISTRATORS)}")),
    (4, Line("sshd", lambda r: f"Failed password for invalid user admin from {customer_address(r)} port {_port(r)} ssh2", "noise")),
    (2, Line("sshd", lambda r: f"Connection closed by {customer_address(r)} port {_port(r)} [preauth]")),
    (18, Line("CROND", lambda _: "(root) CMD (/usr/lib64/sa/sa1 1 1)")),
    (6, Line("CROND", lambda _: "(root) CMD (run-parts /etc/cron.hourly)")),
    (6, Line("sudo", lambda r: f"{pick(r, ADMINISTRATORS)} : TTY=pts/0 ; PWD=/root ; USER=root ; COMMAND=/usr/bin/systemctl status")),
    (8, Line("chronyd", lambda r: f"Selected source 10.10.0.{20 + _number(r, 4)} (ntp.example.com)")),
    (2, Line("chronyd", lambda r: f"System clock wrong by {r.random() * 0.9:.6f} seconds", "noise")),
    (6, Line("dhclient", lambda r: f"DHCPACK from 10.10.0.5 (xid=0x{_number(r, 2**32):08x})")),
    (8, Line("node_exporter", lambda r: f'level=info msg="scrape finished" collectors=38 duration_seconds={r.random() * 0.2:.4f}')),
    (5, Line("rsyslogd", lambda r: f"action 'action-0-builtin:omfwd' resumed (module 'builtin:omfwd') after {_number(r, 900)} ms")),
    (5, Line("auditd", lambda r: f"Audit daemon rotating log files, {_number(r, 4)} kept")),
    (4, Line("kernel", lambda r: f"TCP: request_sock_TCP: Possible SYN flooding on port 8080. Sending cookies. Count {_number(r, 9)}", "noise")),
    (5, Line("kernel", lambda r: f"audit: type=1400 audit({_number(r, 2**31)}.{_number(r, 999):03d}:{_number(r, 99_999)}): apparmor=STATUS")),
    (4, Line("containerd", lambda r: f'time="now" level=info msg="shim disconnected" id={_number(r, 2**48):012x} namespace=k8s.io')),
    (
        3,
        Line(
            "postfix/smtp",
            lambda r: f"{_number(r, 2**40):010X}: to=<ops@example.com>, relay=mail.example.com[10.10.0.9]:25, delay={r.random():.2f}, status=sent",
        ),
    ),
    (2, Line("smartd", lambda r: f"Device: /dev/sda [SAT], SMART Usage Attribute: 194 Temperature_Celsius changed to {30 + _number(r, 12)}")),
    (1, Line("systemd", lambda r: f"logrotate.service: Consumed {r.random() * 4:.3f}s CPU time.")),
)

_PROGRAMS = (
    "systemd", "sshd", "CROND", "sudo", "chronyd", "dhclient", "node_exporter", "rsyslogd", "auditd", "kernel",
    "containerd", "postfix/smtp", "smartd", "snmpd", "backup",
)  # fmt: skip
_ORIGINS = {(host, program): Origin("linux-syslog", "splunk", program, host) for host in LINUX_HOSTS for program in _PROGRAMS}
_FIELDS = {program: {"service": program, "environment": "production"} for _, program in _ORIGINS}
_WITHOUT_PROCESS_ID = frozenset({"kernel"})


def log(story: Story, rng: Random, time_ns: int, host: str, program: str, text: str, role: Role | None = None) -> None:
    """Emits one line of a host's syslog."""
    process = "" if program in _WITHOUT_PROCESS_ID else f"[{300 + int(rng.random() * 30_000)}]"
    line = f"{stamps.syslog(time_ns)} {host} {program}{process}: {text}"
    story.emit(stamps.to_second(time_ns), _ORIGINS[host, program], HecPayload("syslog", line, _FIELDS[program]), role)


def streams(story: Story) -> list[Stream]:
    """Ordinary life of the machines."""
    rng = story.rng("linux")

    def live(time_ns: int) -> None:
        line, host = LINES.draw(rng), pick(rng, LINUX_HOSTS)
        if not story.is_away(host, time_ns):
            log(story, rng, time_ns, host, line.program, line.text(rng), line.role)

    return [story.arrivals("linux", 2.2, live, lambda _: 1.0)]


def restart(story: Story, rng: Random, host: str, time_ns: int) -> None:
    """Emits an orderly restart of a host that takes about 40 seconds."""
    lines: tuple[tuple[float, str, str], ...] = (
        (0.0, "systemd", "Stopping nginx.service - high performance web server..."),
        (1.2, "systemd", "nginx.service: Deactivated successfully."),
        (1.9, "systemd", "Reached target reboot.target - System Reboot."),
        (2.1, "systemd", "Shutting down."),
        (24.0, "kernel", "Linux version 6.1.0-28-amd64 (gcc 12.2.0) #1 SMP PREEMPT_DYNAMIC"),
        (24.0, "kernel", "Command line: BOOT_IMAGE=/boot/vmlinuz-6.1.0-28-amd64 root=/dev/sda1 ro quiet"),
        (25.1, "kernel", "Memory: 16214012K/16776824K available"),
        (26.4, "kernel", "EXT4-fs (sda1): mounted filesystem with ordered data mode. Quota mode: none."),
        (29.0, "systemd", "Starting nginx.service - high performance web server..."),
        (30.2, "systemd", "Started nginx.service - high performance web server."),
        (31.0, "chronyd", "Selected source 10.10.0.21 (ntp.example.com)"),
        (38.5, "systemd", "Startup finished in 2.1s (kernel) + 12.4s (userspace) = 14.5s."),
    )
    for offset, program, text in lines:
        log(story, rng, time_ns + int(offset * stamps.SECOND), host, program, text)
