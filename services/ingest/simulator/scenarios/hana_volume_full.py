"""A HANA log volume fills up: no commit gets through, and everything that writes through SAP breaks after it."""

from __future__ import annotations

from functools import partial

from services.ingest.simulator.events import Root
from services.ingest.simulator.landscape import ABAP_HOSTS, ADDRESSES, HANA_SID, LOAD_BALANCERS, RFC_USER, WEB_SERVERS
from services.ingest.simulator.scenarios.base import Plot, Scenario
from services.ingest.simulator.story import Failure, Story
from services.ingest.simulator.streams import Mix, Ramp, Schedule, Stream, pick
from services.ingest.simulator.systems import abap, hana, linux, web

_VOLUME = f"/hana/log/{HANA_SID}/mnt00001/hdb00003"
_VOLUME_GB = 512.0
# Seconds after the onset, percent in use.
_USAGE = ((0, 91.2), (14, 94.0), (27, 96.3), (38, 97.9), (47, 98.8), (55, 99.5), (60, 100.0))

_SQL_ERROR = abap.Dump(
    "DBIF_RSQL_SQL_ERROR",
    "External Error",
    "BC-DB-DBI",
    "SAPLZSD_ORDER_POST",
    "LZSD_ORDER_POSTU04",
    207,
    "SQL error 129 when accessing table VBAK.",
    "Database error text: transaction rolled back by an internal error: cannot write redo log, No space left on device.",
    "CX_SY_OPEN_SQL_DB",
)
_REPOSITORY_ERROR = abap.Dump(
    "DBIF_REPO_SQL_ERROR",
    "External Error",
    "BC-DB-DBI",
    "SAPLSMTR_NAVIGATION",
    "LSMTR_NAVIGATIONU15",
    51,
    "SQL error -10108 occurred when accessing program SAPLZSD_ORDER_POST part LOAD.",
    "Database error text: Session has been reconnected.",
)
_DATABASE_LINES: Mix[tuple[str, str]] = Mix(
    (5, ("C", "***LOG BY2=> sql error 129 performing INS on table VBAK [dbds         571]")),
    (4, ("C", "***LOG BY0=> transaction rolled back by an internal error: cannot write redo log, No space left on device [dbds         571]")),
    (3, ("B", "***LOG BYL=> lost database connection to hanadb1:30015, connection {number} [dbsh         1216]")),
    (3, ("C", "*** ERROR => execute() of C_{number:04d}, rc=1, rcSQL=129 [dbhdbsql.cpp   2911]")),
    (2, ("B", "***LOG BYM=> severe database error 129, work process in reconnect state [dbsh         1244]")),
    (2, ("M", "*** WARNING => ThHdlReconnect: database of T{number} gone, reconnect attempt 1 [thxxhead.c   4417]")),
)
_NO_ANSWER = Failure("no answer from SAP PRD within 8000 ms (function ORDERS_CREATE)", "java.net.SocketTimeoutException", 8.0, 2, 504)
_SYSTEM_FAILURE = Failure("SAP PRD ended the call: SYSTEM_FAILURE, SQL error 129 when accessing table VBAK", "com.sap.conn.jco.AbapException", 2.5, 2, 503)
_CIRCUIT_OPEN = Failure("circuit breaker sap-prd is open, call rejected", wait=0.004, status=503)
_NOT_POSTED = Failure("SQL error 129 while saving document for order &", wait=2.0, code=("ZSD", "129"))


def _plot(story: Story) -> Plot:
    rng = story.rng("hana-volume-full/troubles")
    call_fails = Ramp(story.after_onset(105), 150 * story.tempo, 0.9)
    circuit_open = Ramp(story.after_onset(260), 60 * story.tempo, 0.5)
    posting_fails = Ramp(story.after_onset(92), 120 * story.tempo, 0.85)

    def call(time_ns: int, _: str) -> Failure | None:
        second = story.second(time_ns)
        if rng.random() >= call_fails(second):
            return None
        if rng.random() < circuit_open(second):
            return _CIRCUIT_OPEN
        return _NO_ANSWER if rng.random() < 0.6 else _SYSTEM_FAILURE

    def post(time_ns: int, _: str) -> Failure | None:
        return _NOT_POSTED if rng.random() < posting_fails(story.second(time_ns)) else None

    return Plot([*_database(story), *_sap(story), *_web(story), _chatter(story)], {"sap": call, "idoc": post})


def _database(story: Story) -> list[Stream]:
    rng = story.rng("hana-volume-full/database")

    def warn(percent: float, time_ns: int) -> None:
        free = _VOLUME_GB * (100 - percent) / 100
        text = f"volume {_VOLUME} is {percent:.1f}% full, free= {free:.1f} GB of {_VOLUME_GB:.0f} GB"
        hana.trace(story, rng, time_ns, "w", "EventHandler", "DiskFullEvent.cpp(00148)", text, "root")

    def fill_up(time_ns: int) -> None:
        text = (
            f"[DISKFULL] (1st request) [W] , buffer= 0x00007f{rng.getrandbits(32):08x}, size= 1048576, "
            f'offset= {int(rng.random() * 1e9)}, file= "{_VOLUME}/logsegment_000_{int(rng.random() * 90):08d}.dat"'
        )
        hana.trace(story, rng, time_ns, "e", "FileIO", "LocalFileCallback.cpp(00541)", text, "root")

    def lose_log_write(time_ns: int) -> None:
        text = (
            f"write to log partition 0 failed, position= 0x{rng.getrandbits(40):010x}, rc= 28: No space left on device\n"
            f"exception  1: no.2110001  (Basis/IO/FileAccess/impl/LocalFileImpl.cpp:1212) TID: {24_000 + int(rng.random() * 900)}\n"
            "    Error during asynchronous file transfer, rc=28: No space left on device"
        )
        hana.trace(story, rng, time_ns, "e", "Logger", "LogPartition.cpp(02204)", text, "root")

    def miss_savepoint(time_ns: int) -> None:
        text = f"savepoint cannot be finished, waiting for log space since {5 + int(rng.random() * 55)} s, log area is full"
        hana.trace(story, rng, time_ns, "e", "PersistenceMan", "PersistenceManagerSPI.cpp(02731)", text, "root")

    return [
        Schedule(*((story.after_onset(after), partial(warn, percent)) for after, percent in _USAGE)),
        story.arrivals("hana-volume-full/fill", 0.25, fill_up, Ramp(story.after_onset(58), 60 * story.tempo)),
        story.arrivals("hana-volume-full/log", 0.3, lose_log_write, Ramp(story.after_onset(62), 90 * story.tempo)),
        story.arrivals("hana-volume-full/savepoint", 0.08, miss_savepoint, Ramp(story.after_onset(70), 30 * story.tempo)),
    ]


def _sap(story: Story) -> list[Stream]:
    rng = story.rng("hana-volume-full/sap")

    def trace_error(time_ns: int) -> None:
        component, text = _DATABASE_LINES.draw(rng)
        abap.trace(story, rng, time_ns, pick(rng, ABAP_HOSTS), component, text.format(number=int(rng.random() * 900)), "symptom")

    def dump(time_ns: int) -> None:
        kind = _SQL_ERROR if rng.random() < 0.8 else _REPOSITORY_ERROR
        abap.dump(story, time_ns, pick(rng, ABAP_HOSTS), kind, RFC_USER, "symptom")

    return [
        story.arrivals("hana-volume-full/trace", 1.8, trace_error, Ramp(story.after_onset(76), 120 * story.tempo)),
        story.arrivals("hana-volume-full/dump", 0.15, dump, Ramp(story.after_onset(88), 150 * story.tempo)),
    ]


def _web(story: Story) -> list[Stream]:
    rng = story.rng("hana-volume-full/web")

    def time_out(time_ns: int) -> None:
        text = (
            f"*{int(rng.random() * 900_000)} upstream timed out (110: Connection timed out) while reading response header from upstream, "
            f'client: {web.customer_address(rng)}, server: shop.example.com, request: "POST /api/orders HTTP/1.1", '
            f'upstream: "http://{ADDRESSES["app-1"]}:8080/api/orders"'
        )
        web.report_upstream(story, time_ns, pick(rng, WEB_SERVERS), "error", text, "symptom")

    def lose_server(time_ns: int) -> None:
        text = f"Server shop-web/{pick(rng, WEB_SERVERS)} is DOWN, reason: Layer7 timeout, check duration: {2001 + int(rng.random() * 9)}ms"
        web.report_balancer(story, time_ns, pick(rng, LOAD_BALANCERS), "error", text, "symptom")

    return [
        story.arrivals("hana-volume-full/upstream", 0.3, time_out, Ramp(story.after_onset(150), 120 * story.tempo)),
        story.arrivals("hana-volume-full/down", 0.03, lose_server, Ramp(story.after_onset(240), 60 * story.tempo)),
    ]


def _chatter(story: Story) -> Stream:
    """The loudest voice of the story, and an innocent one: a monitoring agent that dislikes an interface."""
    rng = story.rng("hana-volume-full/chatter")

    def complain(time_ns: int) -> None:
        linux.log(story, rng, time_ns, "mon-1", "snmpd", "error on subcontainer 'ia_addr' insert (-1)", "noise")

    return story.arrivals("hana-volume-full/chatter", 3.5, complain, Ramp(story.after_onset(130), 20 * story.tempo))


SCENARIO = Scenario(
    "hana-volume-full",
    "the log volume of HANA fills up; SAP, the order application and the web tier break after it",
    Root("sap", "hana"),
    _plot,
)
