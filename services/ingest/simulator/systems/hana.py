"""The HANA database below SAP: the trace of its index server. Layout: reference "SAP log formats", section 5."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from services.ingest.simulator import stamps
from services.ingest.simulator.events import FilePayload, Origin, Role
from services.ingest.simulator.landscape import DIALOG_USERS, HANA_SID
from services.ingest.simulator.story import Story
from services.ingest.simulator.streams import Mix, Stream, pick

HANA = Origin("hpr-hana-trace", "sap", "hana", "hanadb1")
_PATH = f"hanadb1/usr/sap/{HANA_SID}/HDB00/hanadb1/trace/indexserver_hanadb1.30003.000.trc"
_TABLES = ("VBAK", "VBAP", "VBEP", "EDIDS", "EDIDC", "MARD", "BSEG", "ACDOCA", "CDHDR", "NAST")


class TraceLine(NamedTuple):
    """A line that the index server writes now and then; `place` is the source file and line."""

    level: str
    component: str
    place: str
    text: Callable[[Random], str]
    role: Role | None = None


LINES: Mix[TraceLine] = Mix(
    (
        22,
        TraceLine(
            "i",
            "Mergedog",
            "Mergedog.cpp(00812)",
            lambda r: f"delta merge of table SAPHANADB:{pick(r, _TABLES)} done, rows= {int(r.random() * 90_000)}, time= {int(r.random() * 4000)} ms",
        ),
    ),
    (
        18,
        TraceLine(
            "i",
            "TraceContext",
            "TraceContext.cpp(00878)",
            lambda r: f"UserName=SAPHANADB, ApplicationUserName={pick(r, DIALOG_USERS)}, ApplicationName=ABAP:PRD",
        ),
    ),
    (
        14,
        TraceLine(
            "i", "Backup", "LogBackup.cpp(01904)", lambda r: f"log backup of segment {int(r.random() * 9000)} finished, size= {int(r.random() * 1000)} MB"
        ),
    ),
    (12, TraceLine("i", "ResMan", "ResourceManager.cpp(00431)", lambda r: f"column {pick(r, _TABLES)}.MATNR unloaded, freed= {int(r.random() * 200)} MB")),
    (
        10,
        TraceLine(
            "i", "Session", "TcpListener.cpp(00190)", lambda r: f"new connection from 10.30.1.2{1 + int(r.random() * 2)}:{30_000 + int(r.random() * 30_000)}"
        ),
    ),
    (8, TraceLine("i", "StatsServ", "Worker.cpp(00277)", lambda r: f"statistics collector Collector_Host_Volume_IO finished in {int(r.random() * 900)} ms")),
    (
        3,
        TraceLine(
            "w",
            "SQLScript",
            "ExpensiveStatement.cpp(00156)",
            lambda r: f"statement on SAPHANADB:{pick(r, _TABLES)} ran {1 + r.random() * 9:.2f} s, memory= {int(r.random() * 900)} MB",
            "noise",
        ),
    ),
    (
        1.5,
        TraceLine(
            "w",
            "Memory",
            "mmPoolAllocator.cpp(01123)",
            lambda r: f"allocation of {int(r.random() * 800)} MB needed a shrink of the resource container",
            "noise",
        ),
    ),
    (
        0.4,
        TraceLine(
            "e", "Authentication", "MethodBasic.cpp(00211)", lambda r: f"authentication failed for user MONITOR_{int(r.random() * 9)} from 10.20.6.51", "noise"
        ),
    ),
)


def trace(story: Story, rng: Random, time_ns: int, level: str, component: str, place: str, text: str, role: Role | None = None, connection: int = -1) -> None:
    """Emits one record of the index server's trace; further lines of `text` are its continuation."""
    thread = 24_000 + int(rng.random() * 900)
    transaction = 100 + int(rng.random() * 900)
    record = (
        f"[{thread}]{{{connection}}}[{transaction}/{215_000_000 + int(rng.random() * 900_000)}] {stamps.hana(time_ns)} {level} {component:<16} {place} : {text}"
    )
    # The trace cannot tell less than a microsecond.
    story.emit(time_ns - time_ns % 1000, HANA, FilePayload("hana_trace", _PATH, record), role)


def streams(story: Story) -> list[Stream]:
    """Ordinary life: merges, backups, connections, and a savepoint every five minutes."""
    rng = story.rng("hana")

    def trace_line(time_ns: int) -> None:
        line = LINES.draw(rng)
        trace(story, rng, time_ns, line.level, line.component, line.place, line.text(rng), line.role)

    def savepoint(time_ns: int) -> None:
        version = story.number("savepoint", 88_410)
        trace(story, rng, time_ns, "i", "PersistenceMan", "PersistenceManagerSPI.cpp(02410)", f"savepoint started, current savepoint version: {version}")
        text = f"savepoint finished, savepoint version: {version}, duration= {900 + int(rng.random() * 1500)} ms, critical phase= {int(rng.random() * 60)} ms"
        trace(story, rng, time_ns + 2 * stamps.SECOND, "i", "PersistenceMan", "PersistenceManagerSPI.cpp(02587)", text)

    return [story.arrivals("hana/trace", 0.9, trace_line), story.beat("hana/savepoint", 300.0, savepoint)]
