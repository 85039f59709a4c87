"""IDoc status records (table EDIDS) as an extractor writes them: JSON lines. Layout: reference "SAP log formats", section 8."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

import orjson

from services.ingest.simulator import stamps
from services.ingest.simulator.events import FilePayload, Origin, Role
from services.ingest.simulator.landscape import CLIENT, RFC_USER, SID
from services.ingest.simulator.story import Failure, Story
from services.ingest.simulator.streams import Mix, Stream

IDOCS = Origin("prd-idoc-status", "sap", "idoc", "sapapp1")
_PATH = f"sapapp1/usr/sap/{SID}/interfaces/edids.jsonl"


class Message(NamedTuple):
    """A status with its message: text with & placeholders, type, class and number."""

    status: str
    text: str
    kind: str
    group: str
    number: str


ADDED = Message("50", "IDoc added", "S", "E0", "050")
READY = Message("64", "IDoc ready to be transferred to application", "S", "E0", "064")
POSTED = Message("53", "Document & & saved", "S", "V1", "311")
SENT = Message("03", "Data passed to port OK", "S", "E0", "003")
DISPATCHED = Message("12", "Dispatch OK", "S", "E0", "012")
CREATED = Message("30", "IDoc ready for dispatch (ALE service)", "S", "E0", "030")
MATERIAL_BLOCKED = Message("51", "Material & is not defined for sales org.&, distr.chan.&", "E", "VG", "203")


def new_number(story: Story) -> str:
    """Returns the number of a new IDoc, 16 digits."""
    return f"{story.number('idoc', 71_350_001):016d}"


def record(story: Story, time_ns: int, number: str, counter: int, message: Message, values: tuple[str, ...], tid: str, role: Role | None = None) -> None:
    """Emits one status record of an IDoc."""
    at = stamps.to_second(time_ns)
    stapa = (*values, "", "", "", "")
    line = orjson.dumps(
        {
            "MANDT": CLIENT,
            "DOCNUM": number,
            "LOGDAT": stamps.day(at),
            "LOGTIM": stamps.clock(at),
            "COUNTR": counter,
            "STATUS": message.status,
            "UNAME": RFC_USER,
            "REPID": "SAPLEDIN" if message.status >= "50" else "SAPLEDI1",
            "STACOD": f"SAP{message.group}{message.number}",
            "STATXT": message.text,
            "STAPA1": stapa[0],
            "STAPA2": stapa[1],
            "STAPA3": stapa[2],
            "STAPA4": stapa[3],
            "STATYP": message.kind,
            "STAMID": message.group,
            "STAMNO": message.number,
            "SEGNUM": "000000",
            "SEGFLD": "",
            "TID": tid,
            "APPL_LOG": "",
        }
    ).decode()
    story.emit(at, IDOCS, FilePayload("sap_idoc", _PATH, line), role)


def receive(story: Story, rng: Random, time_ns: int, number: str, order: str, tid: str) -> None:
    """Emits the life of an inbound IDoc: added, ready, and posted as a sales document unless posting is in trouble."""
    record(story, time_ns, number, 1, ADDED, (), tid)
    record(story, time_ns + stamps.SECOND, number, 2, READY, (), tid)
    posting = time_ns + int((1.5 + rng.random() * 2) * stamps.SECOND)
    failure = story.failure("idoc", posting, IDOCS.host)
    if failure is not None:
        post_badly(story, posting, number, order, tid, failure)
    elif rng.random() < 0.006:
        record(story, posting, number, 3, MATERIAL_BLOCKED, ("VLV-1017", "1000", "10"), tid, "noise")
    else:
        record(story, posting, number, 3, POSTED, ("Standard Order", order), tid)


def post_badly(story: Story, time_ns: int, number: str, order: str, tid: str, failure: Failure) -> None:
    """Emits status 51 with the message of a failure."""
    group, code = failure.code
    record(story, time_ns + int(failure.wait * stamps.SECOND), number, 3, Message("51", failure.text, "E", group, code), (order,), tid, failure.role)


def streams(story: Story) -> list[Stream]:
    """Ordinary life: IDocs of other partners, most of them outbound."""
    rng = story.rng("idocs")
    directions: Mix[bool] = Mix((7, True), (3, False))

    def exchange(time_ns: int) -> None:
        number, tid = new_number(story), f"{rng.getrandbits(96):024X}"
        if directions.draw(rng):
            record(story, time_ns, number, 1, CREATED, (), tid)
            record(story, time_ns + stamps.SECOND, number, 2, SENT, (), tid)
            record(story, time_ns + 2 * stamps.SECOND, number, 3, DISPATCHED, (), tid)
        else:
            receive(story, rng, time_ns, number, f"EDI-{story.number('edi', 220_100)}", tid)

    return [story.arrivals("idocs/exchange", 0.12, exchange)]
