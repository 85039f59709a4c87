"""The ABAP side of SAP: work process traces, the security audit log and short dumps, as files of each instance.

Layouts: reference "SAP log formats", sections 1 (audit log), 3 (developer traces) and 4 (short dumps).
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from services.ingest.simulator import stamps
from services.ingest.simulator.events import FilePayload, Origin, Role
from services.ingest.simulator.landscape import ABAP_HOSTS, ADDRESSES, APPLICATION_HOSTS, CLIENT, DIALOG_USERS, INSTANCE, RFC_USER, SID
from services.ingest.simulator.story import Story
from services.ingest.simulator.streams import Mix, Stream, pick

TRACE = {host: Origin("prd-dev-trace", "sap", "abap", host) for host in ABAP_HOSTS}
AUDIT = {host: Origin("prd-audit-log", "sap", "abap", host) for host in ABAP_HOSTS}
DUMPS = {host: Origin("prd-short-dumps", "sap", "abap", host) for host in ABAP_HOSTS}
WORK_PROCESSES = 12
_TRACE_FILES = {
    host: [
        (f"{host}/usr/sap/{SID}/{INSTANCE}/work/dev_w{number}", f'trc file: "dev_w{number}", trc level: 1, release: "754"') for number in range(WORK_PROCESSES)
    ]
    for host in ABAP_HOSTS
}
"""Path and first line of the trace of each work process, by host."""


class TraceLine(NamedTuple):
    """A line that work processes write now and then, without the component letter's two blanks."""

    component: str
    text: Callable[[Random], str]
    role: Role | None = None


TRACE_LINES: Mix[TraceLine] = Mix(
    (20, TraceLine("M", lambda r: f"ThSetDoSelfClean: session_size={_kilobytes(r)} KB, heap={_kilobytes(r)} KB")),
    (16, TraceLine("M", lambda r: f"ThCheckTask: request {int(r.random() * 900_000)} accepted from dispatcher")),
    (14, TraceLine("A", lambda r: f"TH VERBOSE LEVEL FULL, mode {1 + int(r.random() * 6)}")),
    (14, TraceLine("B", lambda r: f"dbtran INFO: buffer_entries = {int(r.random() * 9000)}, invalidations = {int(r.random() * 40)}")),
    (12, TraceLine("C", lambda r: f"Connection {int(r.random() * 8)} to HANA alive, last command {r.random() * 40:.1f} ms")),
    (10, TraceLine("S", lambda r: f"spool request {10_000 + int(r.random() * 80_000)} printed on LP{int(r.random() * 9):02d}")),
    (8, TraceLine("N", lambda r: f"login ticket verified for user {pick(r, DIALOG_USERS)}")),
    (6, TraceLine("M", lambda r: f"ThRollOut: rolled out {_kilobytes(r)} KB of user {pick(r, DIALOG_USERS)}")),
    (2, TraceLine("B", lambda r: f"*** WARNING => dbtbxbuf: table buffer displaced {int(r.random() * 900)} objects [dbtbxbuf.c   2317]", "noise")),
    (1.5, TraceLine("M", lambda r: f"*** WARNING => ThRollOutNow: roll area of T{int(r.random() * 200)} nearly full [thxxroll.c   1188]", "noise")),
    (
        1,
        TraceLine(
            "M",
            lambda r: (
                f"***LOG Q0I=> NiIRead: P={ADDRESSES[pick(r, APPLICATION_HOSTS)]}:{32_768 + int(r.random() * 28_000)}; "
                f"L={ADDRESSES['sapapp1']}:3301: recv (104: ECONNRESET, Connection reset by peer) [nixxi.cpp    5420]"
            ),
            "noise",
        ),
    ),
    (
        0.4,
        TraceLine("A", lambda r: f"*** ERROR => RFC: user {pick(r, DIALOG_USERS)} has no authorization for function group SYST [abrfcfun.c   1409]", "noise"),
    ),
)

# Message id, program, what the variables tell, weight (table of section 1).
_AUDIT_LINES: Mix[tuple[str, str, str]] = Mix(
    (30, ("AU3", "SAPMSYST", "transaction")),
    (14, ("AUW", "SAPMSSY1", "report")),
    (10, ("AU1", "SAPMSYST", "logon")),
    (8, ("AUC", "SAPMSYST", "logoff")),
    (2, ("AU2", "SAPMSYST", "failed")),
)
_TRANSACTIONS = ("VA01", "VA02", "VA03", "MD04", "MM03", "FB03", "WE02", "SM37", "ME21N", "SE16N")
_REPORTS = ("RSNAST00", "SDRRAVIS", "RM07MLBS", "RSEIDOC2", "SAPLV60A", "RVKRED77")


def _kilobytes(rng: Random) -> int:
    return 512 + int(rng.random() * 60_000)


def trace(story: Story, rng: Random, time_ns: int, host: str, component: str, text: str, role: Role | None = None) -> None:
    """Emits one line of the trace of some work process."""
    at = stamps.to_second(time_ns)
    path, head = _TRACE_FILES[host][int(rng.random() * WORK_PROCESSES)]
    payload = FilePayload("sap_dev_trace", path, f"{component}  {text}", head, f"M  {stamps.developer_trace(at)}")
    story.emit(at, TRACE[host], payload, role)


def audit(
    story: Story,
    rng: Random,
    time_ns: int,
    host: str,
    message: str,
    *,
    user: str,
    transaction: str = "",
    program: str = "SAPMSYST",
    variables: str = "",
    terminal: str = "",
    role: Role | None = None,
) -> None:
    """Emits one record of the security audit log: 200 characters, without a line end."""
    work_process = int(rng.random() * WORK_PROCESSES)
    task = f"{7700 + work_process:07d}{work_process:05d}D{work_process:X}"
    record = (
        f"2{message}{stamps.audit(time_ns)}{task}{terminal[:8]:<8}{user[:12]:<12}{transaction[:20]:<20}{program[:40]:<40}"
        f"{CLIENT}1{variables[:64]:<64}{terminal[:20]:<20}"
    )
    at = stamps.to_second(time_ns)
    path = f"{host}/usr/sap/{SID}/{INSTANCE}/log/audit_{stamps.day(time_ns)}"
    story.emit(at, AUDIT[host], FilePayload("sap_audit_log", path, record, ending=""), role)


class Dump(NamedTuple):
    """What is particular to a runtime error."""

    error: str
    category: str
    component: str
    program: str
    include: str
    line: int
    short: str
    analysis: str
    exception: str = ""


TIME_LIMIT = Dump(
    "TIME_OUT",
    "ABAP Programming Error",
    "BC-MID-RFC",
    "SAPMSSY1",
    "LSDORDERU07",
    118,
    "Time limit exceeded.",
    'The program exceeded the maximum permitted runtime of the profile parameter "rdisp/max_wprun_time". The current setting is 600 seconds.',
)
BAD_NUMBER = Dump(
    "CONVT_NO_NUMBER",
    "ABAP Programming Error",
    "SD-SLS",
    "ZSD_ORDER_IMPORT",
    "ZSD_ORDER_IMPORT_F01",
    342,
    'Unable to interpret "12,5-" as a number.',
    "The value could not be converted into a number by the statement MOVE.",
    "CX_SY_CONVERSION_NO_NUMBER",
)


def dump(story: Story, time_ns: int, host: str, kind: Dump, user: str, role: Role | None = None) -> None:
    """Emits one short dump in the text export of ST22, a file of its own."""
    at = stamps.to_second(time_ns)
    exception = f"Except.                {kind.exception}\n" if kind.exception else ""
    boxes: tuple[tuple[str, ...], ...] = (
        ("Short text", kind.short),
        ("What happened?", f'The current ABAP program "{kind.program}" had to be terminated because of an error.'),
        ("Error analysis", kind.analysis),
        ("System environment", "SAP Release..... 754", f'Application server... "{host}"', 'Database type..... "HDB"', f'Database name..... "{SID}"'),
        ("User and Transaction", f"Client.............. {CLIENT}", f'User................ "{user}"', 'Transaction......... "VA01"'),
        (
            "Information on where terminated",
            f'Termination occurred in the ABAP program "{kind.program}".',
            f'In the source code you have the termination point in line {kind.line} of the (Include) program "{kind.include}".',
        ),
    )
    text = (
        f"Category               {kind.category}\nRuntime Errors         {kind.error}\n{exception}ABAP Program           {kind.program}\n"
        f"Application Component  {kind.component}\nDate and Time          {stamps.dump(at)}\n"
        + "\n".join(f"|{title}|\n" + "\n".join(f"|    {line}|" for line in lines) for title, *lines in boxes)
    )
    path = f"{host}/usr/sap/{SID}/{INSTANCE}/st22/{stamps.day(at)}_{stamps.clock(at)}_{host}_{story.number('dump', 1):06d}.txt"
    story.emit(at, DUMPS[host], FilePayload("sap_dump", path, text), role)


def audit_call(story: Story, rng: Random, time_ns: int, caller: str) -> None:
    """Emits the audit record of a successful remote call of the order application."""
    audit(
        story,
        rng,
        time_ns,
        ABAP_HOSTS[int(rng.random() * 2)],
        "AUK",
        user=RFC_USER,
        program="SAPLZSD_ORDER_API",
        variables="IDOC_INBOUND_ASYNCHRONOUS&EDIN",
        terminal=caller,
    )


def streams(story: Story) -> list[Stream]:
    """Ordinary life: traces, people at work, and a rare dump."""
    rng = story.rng("abap")

    def trace_line(time_ns: int) -> None:
        line = TRACE_LINES.draw(rng)
        trace(story, rng, time_ns, pick(rng, ABAP_HOSTS), line.component, line.text(rng), line.role)

    def work(time_ns: int) -> None:
        message, program, kind = _AUDIT_LINES.draw(rng)
        user = pick(rng, DIALOG_USERS)
        transaction = pick(rng, _TRANSACTIONS) if kind == "transaction" else "SESSION_MANAGER"
        variables = {"transaction": transaction, "report": pick(rng, _REPORTS), "logon": "A&0&P", "logoff": "", "failed": "A&1&P"}[kind]
        host = ABAP_HOSTS[0] if rng.random() < 0.5 else ABAP_HOSTS[1]
        terminal = f"PC-{100 + int(rng.random() * 800)}"
        role: Role | None = "noise" if kind == "failed" else None
        audit(story, rng, time_ns, host, message, user=user, transaction=transaction, program=program, variables=variables, terminal=terminal, role=role)

    def dump_once(time_ns: int) -> None:
        kind = TIME_LIMIT if rng.random() < 0.5 else BAD_NUMBER
        dump(story, time_ns, pick(rng, ABAP_HOSTS), kind, pick(rng, DIALOG_USERS), "noise")

    return [
        story.arrivals("abap/trace", 1.5, trace_line),
        story.arrivals("abap/work", 0.9, work),
        story.arrivals("abap/dump", 0.002, dump_once),
    ]
