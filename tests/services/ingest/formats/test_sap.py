"""What is special about the formats of SAP systems: fixed records, stamps that hold, zones, paths, bad input."""

from __future__ import annotations

from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest.batch import Batch
from services.ingest.formats import FORMATS, detect_format
from services.ingest.formats.hana_audit import HanaAudit
from services.ingest.formats.sap_audit_log import RECORD, cut_records
from services.ingest.formats.sap_cpi_log import read_time
from services.ingest.formats.sap_dump import read_date
from services.ingest.receivers.hec_events import decode_raw
from services.ingest.tokens import Agent
from tests.services.ingest.formats.samples import read_lines, spell_timestamp

BERLIN = ZoneInfo("Europe/Berlin")
SAP = [name for name in FORMATS if name.startswith(("sap_", "hana_"))]


def audit_record(number: int, message: str = "AU1", variables: str = "A&0&P") -> str:
    """Returns a record of 200 characters, built on the published layout (not from a real system)."""
    user, tcode, program = f"USER{number}", "SE16", "SAPMSYST"
    return f"2{message}20211116{number % 24:02d}5901000779800001D1PC-1    {user:<12}{tcode:<20}{program:<40}0011{variables:<64}{'pc-1.example.com':<20}"


def parse(name: str, records: list[str], *, source: str = "prd", zone: Any = BERLIN, **columns: Any) -> Batch:
    """Returns a batch of the records, parsed."""
    batch = Batch()
    for record in records:
        batch.append(record, source=source, **columns)
    FORMATS[name].parse(batch, range(len(batch)), zone)
    return batch


# --- security audit log ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("cut", [0, 60, 199])
def test_audit_records_of_a_raw_body_become_events_in_any_encoding(encoding: str, cut: int) -> None:
    body = "".join(audit_record(number) for number in range(5))
    body = body[: len(body) - cut]
    decoded = decode_raw(body.encode(encoding), {"source": "audit"}, Agent("1", "agent", ""))
    assert len(decoded.batch) == 5
    assert "".join(decoded.batch.body).strip() == body.strip()
    found = detect_format(decoded.batch.body)[0]
    found.parse(decoded.batch, range(5), UTC)
    users = [attributes and attributes.get("sap.user") for attributes in decoded.batch.attributes]
    assert users == [f"USER{number}" for number in range(4 if cut == 199 else 5)] + [None] * (cut == 199)
    assert [bool(stamp) for stamp in decoded.batch.timestamp] == [True] * 4 + [cut != 199]


def test_a_file_that_is_read_from_its_middle_finds_the_next_record() -> None:
    body = audit_record(1)[70:] + audit_record(2) + audit_record(3)
    assert cut_records(body) == [audit_record(1)[70:], audit_record(2), audit_record(3)]


def test_a_text_that_begins_inside_of_a_record_is_an_audit_log() -> None:
    found, confidence = detect_format([audit_record(1)[70:] + audit_record(2) + audit_record(3)])
    assert (found.name, confidence) == ("sap_audit_log", 1.0)


def test_a_body_with_several_records_keeps_them_all() -> None:
    batch = parse("sap_audit_log", [audit_record(1) + audit_record(2, "AU2", "A&1&P") + audit_record(3)[:100]])
    assert batch.body[0].split("\n") == [
        "AU1 Logon successful (type=A, method=P)",
        "AU2 Logon failed (reason=1, type=A, method=P)",
        "AU1 Logon successful (type=, method=)",
    ]
    assert batch.severity_number == [13]
    assert batch.attributes[0] is not None
    assert batch.attributes[0]["sap.audit.records"] == 3


@pytest.mark.parametrize("wide", [lambda text: "".join(f"{character}\0" for character in text), lambda text: "".join(f"\0{character}" for character in text)])
def test_utf_16_that_a_sender_took_for_bytes_is_read(wide: Any) -> None:
    record = wide(audit_record(7))
    assert FORMATS["sap_audit_log"].detect([record]) == 1
    assert FORMATS["sap_audit_log"].split([record]) == [audit_record(7)]
    assert parse("sap_audit_log", [record]).attributes[0] == parse("sap_audit_log", [audit_record(7)]).attributes[0]


@given(st.integers(0, 6), st.integers(0, RECORD - 1), st.integers(0, RECORD))
def test_cutting_audit_records_loses_nothing(count: int, cut_front: int, cut_back: int) -> None:
    body = "".join(audit_record(number) for number in range(count))
    body = body[cut_front : len(body) - cut_back]
    assert "".join("".join(FORMATS["sap_audit_log"].split([body])).split()) == "".join(body.split())


# --- developer traces --------------------------------------------------------------------------------------------------


def test_a_stamp_that_comes_as_a_record_holds_for_those_below_it_of_the_same_host() -> None:
    batch = Batch()
    lines = (
        ("a", "Sun Aug 18 17:17:45 2019"),
        ("b", "Mon Aug 19 09:00:00 2019"),
        ("a", "*** ERROR => one [x.c 1]"),
        ("b", "M  two"),
        ("a", "three"),
        ("c", "before any stamp"),
    )
    for host, line in lines:
        batch.append(line, source="/usr/sap/PRD/D01/work/dev_w7", host=host)
    FORMATS["sap_dev_trace"].parse(batch, range(len(batch)), BERLIN)
    first, second = "2019-08-18T15:17:45.000000000Z", "2019-08-19T07:00:00.000000000Z"
    assert [spell_timestamp(stamp) for stamp in batch.timestamp] == [first, second, first, second, first, ""]
    assert batch.body[2:] == ["one", "two", "three", "before any stamp"]
    assert set(batch.service) == {"work_process"}
    assert batch.attributes[2] == {
        "sap.trace.file": "dev_w7",
        "sap.wp.no": 7,
        "code.file": "x.c",
        "code.line": 1,
        "sap.sid": "PRD",
        "sap.instance": "a_PRD_01",
    }


@pytest.mark.parametrize(
    ("file", "service"),
    [
        ("dev_w12", "work_process"),
        ("dev_disp", "dispatcher"),
        ("dev_rd", "gateway"),
        ("dev_icm", "icm"),
        ("dev_ms", "message_server"),
        ("dev_wdisp", "web_dispatcher"),
        ("dev_disp.old", "dispatcher"),
    ],
)
def test_the_path_names_the_process_and_the_instance(file: str, service: str) -> None:
    batch = parse("sap_dev_trace", ["*** WARNING => slow"], source=f"C:\\usr\\sap\\QAS\\DVEBMGS00\\work\\{file}", host="app-1")
    assert batch.service == [service]
    assert batch.attributes[0] is not None
    assert batch.attributes[0]["sap.instance"] == "app-1_QAS_00"


def test_a_path_among_the_attributes_counts_too() -> None:
    batch = parse("sap_audit_log", [audit_record(1)], attributes={"log.file.path": "/usr/sap/PRD/D00/log/audit_20211116"})
    assert batch.attributes[0] is not None
    assert batch.attributes[0]["sap.sid"] == "PRD"
    assert "sap.instance" not in batch.attributes[0]


# --- dates and zones ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "03.05.2014 21:04:14",
        "05/03/2014 21:04:14",
        "05/03/2014 09:04:14 PM",
        "05/03/2014, 9:04:14 pm",
        "05-03-2014 21:04:14",
        "2014.05.03 21:04:14",
        "2014/05/03 21:04:14",
        "2014-05-03 21:04:14",
    ],
)
def test_dumps_have_the_date_in_the_layout_of_their_user(text: str) -> None:
    assert spell_timestamp(read_date(text, BERLIN)) == "2014-05-03T19:04:14.000000000Z"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("25/03/2014 09:04:14", "2014-03-25"),
        ("03.25.2014 09:04:14", "2014-03-25"),
        ("12:04:14 AM", ""),
        ("99.99.2014 09:04:14", ""),
        ("03.05.14 09:04:14", ""),
        ("", ""),
    ],
)
def test_dates_that_only_make_sense_the_other_way_and_none_at_all(text: str, expected: str) -> None:
    assert spell_timestamp(read_date(text, UTC))[:10] == expected


def test_a_java_record_over_lines_and_one_of_an_older_log_below_it() -> None:
    # The first record and the one below it are examples of SAP help.
    lines = [
        "#2.0#2008 04 15 16:43:09:687#+0300#Info#/System/Changes/configtool#",
        "###C0000A37462200010000000301BE2893###configtool########Thread[Thread-5,5,main]#Plain##",
        "Value of property ArchiveOldLogFiles was changed from OFF to ON#",
        "#1.3#10.48.27.165:4A5AB2:E99D42D4F4:-8000#Mon Dec 01 22:00:00 PDT 2003#com.sap.FooClass#main##0#0#Fatal##Plain###A sample#",
    ]
    records = FORMATS["sap_java_log"].split(lines)
    assert records == ["\n".join(lines[:3]), lines[3]]
    batch = parse("sap_java_log", records)
    assert batch.body == ["Value of property ArchiveOldLogFiles was changed from OFF to ON", lines[3]]
    assert batch.timestamp == [1_208_266_989_687_000_000, 0]
    assert (batch.severity_number[0], batch.attributes[0] and batch.attributes[0]["sap.java.guid"]) == (9, "C0000A37462200010000000301BE2893")


def test_java_logs_carry_their_own_zone() -> None:
    records = [f"#2.0#2024 07 01 12:00:00:5#{zone}#INFO#/a#" for zone in ("+6:30", "+0200", "-03:00", "Z", "")]
    batch = parse("sap_java_log", records)
    assert [spell_timestamp(stamp)[11:21] for stamp in batch.timestamp] == ["05:30:00.5", "10:00:00.5", "15:00:00.5", "12:00:00.5", "10:00:00.5"]


@pytest.mark.parametrize("value", ["/Date(1704164645000)/", "/Date(1704164645000+0060)/", "2024-01-02T03:04:05Z", 1704164645000])
def test_odata_times(value: Any) -> None:
    assert spell_timestamp(read_time(value, BERLIN)) == "2024-01-02T03:04:05.000000000Z"


@pytest.mark.parametrize("value", [None, "", "/Date(-62135596800000)/", "/Date(9999999999999999)/", [], {}, True])
def test_what_is_no_odata_time(value: Any) -> None:
    assert read_time(value, BERLIN) == 0


@pytest.mark.parametrize(("name", "entity"), [("sap_cpi_log", {"MessageGuid": "a", "Status": "FAILED"}), ("sap_idoc", {"DOCNUM": "1", "STATUS": "51"})])
@pytest.mark.parametrize("page", [lambda entities: {"d": {"results": entities}}, lambda entities: {"d": entities}, lambda entities: {"value": entities}])
def test_the_entities_of_an_odata_page_are_records(name: str, entity: dict[str, str], page: Any) -> None:
    line = orjson.dumps(page([entity, {**entity, "LogLevel": "x"}])).decode()
    others = ["{", '{"results":1}', '{"value":[{}],"more":1}']
    records = FORMATS[name].split([line, *others])
    assert [orjson.loads(record) for record in records[:2]] == [entity, {**entity, "LogLevel": "x"}]
    assert records[2:] == others
    assert detect_format([line])[0].name == name
    assert parse(name, FORMATS[name].split([line])).severity_number == [17, 17]


# --- security ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    ['CREATE USER A PASSWORD "S3cret;x"', "alter user a password S3cret", "CONNECT A IDENTIFIED BY 'S3cret''more'", 'CREATE CREDENTIAL USING "S3cret'],
)
def test_secrets_in_audited_statements_are_blanked(statement: str) -> None:
    record = f"2026-01-02T09:18:36Z;indexserver;h;HXE;90;39003;HXE;;;;;P;INFO;X;ADMIN;;;;;;;SUCCESSFUL;;;;;;;{statement};400123;me"
    batch = Batch()
    batch.append(record, source="s")
    HanaAudit().parse(batch, [0], UTC)
    assert batch.attributes[0] is not None
    assert "S3cret" not in f"{batch.body[0]} {batch.attributes[0]}"
    assert batch.attributes[0]["sap.hana.audit.session"] == "400123"


def test_a_refusal_of_the_gateway_is_a_warning() -> None:
    head = "Wed Aug 01 2007 10:39:05:740"
    batch = parse("sap_gateway_log", [f"S {head} secinfo denied: USER=A", f"S {head} secinfo accepted: USER=A", f"s {head} reginfo: TP=X", f"T {head} x"])
    assert batch.severity_number == [13, 9, 13, 9]


# --- bad input ---------------------------------------------------------------------------------------------------------

CORPUS = [
    "\0",
    "\0" * 500,
    "2AU1" + "\0" * 200,
    audit_record(1)[:33],
    audit_record(1)[:20],
    audit_record(1).replace("20211116", "99991231"),
    audit_record(1).replace("20211116", "00000000"),
    audit_record(1) + "\ud800" * 300,
    "2AU120211116085901-00779-0001D1",
    "Sun Aug 18 17:17:45 9999",
    "Sun Feb 30 17:17:45 2019",
    "[Thr -1] Sun Aug 18 17:17:45 2019",
    '[Thr 1] *** ERROR => x [a.c -1]\ntrc file: "',
    'trc file: "dev_w99999999999999", trc level: 1',
    "***LOG Q0I=> [nixxi.cpp ٣]",
    "S Wed Aug 01 9999 10:36:52:181 denied: A=,B=,=",
    "S Wed Feb 31 2007 10:36:52:181 x",
    "#2.0#9999 12 31 23:59:59:999#+99:99#INFO#",
    "#2.0#0000 00 00 00:00:00:0#-0:00##a",
    "#2.0#2024 07 01 12:00:00:5#+6:30#INFO#" + "#" * 5_000,
    "9999-12-31T23:59:59Z;indexserver;h;HXE;90;",
    "2026-01-02T09:18:36Z;indexserver;;HXE;90;-1;;;;-1;٣;" + ";" * 5_000,
    "08/15/9999 14:00:00 saphost=a;class=K;sysnr=-1;wpno=-5",
    "08/15/2011 14:00:00 saphost=;sysname=;msgid=",
    "02/30/2011 14:00:00 sysname=A;class=;area=Q0;subid=I;=;;=x",
    '{"MessageGuid":"a","Status":{"a":1},"LogStart":"/Date(-9999999999999999)/","LogEnd":-1e400}',
    '{"MessageGuid":[1],"Status":"","IntegrationFlowName":7,"LogStart":1e30}',
    '{"DOCNUM":{},"STATUS":-1,"LOGDAT":"99999999","LOGTIM":"-1"}',
    '{"DOCNUM":"1","STATUS":"51","STATXT":"&&&&5&9","STAPA1":[1]}',
    "Category\nRuntime Errors -\nDate and Time 31.12.9999 23:59:59\n|Short text|",
    "Runtime Errors X\nDate and Time 99/99/99999 99:99:99 PM",
    "[1]{-1}[-9/-9] 9999-12-31 23:59:59.999999 e A B(-1) : x",
    f"[{'9' * 5_000}]{{-1}}[1] 2024-01-02 03:04:05.000001 e A B(1) : x",
    f"[1]{{-1}}[{'9' * 19}] 2024-01-02 03:04:05.000001 e A B({'9' * 5_000}) : x",
    f"*** ERROR => x [a.c {'9' * 5_000}]",
    f"Runtime Errors X\n|Information on where terminated|\n| line {'9' * 5_000} of program A |",
    f"08/15/2011 14:00:00 saphost=a;class=K;wpno={'9' * 5_000};sysnr={'9' * 5_000}",
]
GOOD = {name: next(record for record in FORMATS[name].split(read_lines(name)) if record) for name in SAP}
_PIECES = st.one_of(
    st.sampled_from(CORPUS), st.sampled_from(CORPUS).flatmap(lambda text: st.integers(0, len(text)).map(lambda at: text[:at])), st.text(max_size=40)
)


@pytest.mark.parametrize("name", SAP)
@settings(max_examples=40, deadline=None)
@given(bad=st.lists(st.lists(_PIECES, min_size=1, max_size=3).map("".join).filter(str.strip), min_size=1, max_size=5))
def test_no_text_harms_its_neighbours(name: str, bad: list[str]) -> None:
    alone = parse(name, [GOOD[name]])
    batch = parse(name, [GOOD[name], *bad, GOOD[name]])
    assert len(batch) == len(bad) + 2
    for row in (0, len(batch) - 1):
        assert [column[row] for column in batch.columns()] == [column[0] for column in alone.columns()]
    msgspec.json.encode([attributes for row, attributes in enumerate(batch.attributes) if "\\u" not in ascii(batch.attributes[row])])
    for stamp, number, body in zip(batch.timestamp, batch.severity_number, batch.body, strict=True):
        assert 0 <= stamp < 2**63
        assert 0 <= number <= 24
        assert body


@pytest.mark.parametrize("name", SAP)
def test_the_corpus_is_survived_line_by_line_and_in_one_piece(name: str) -> None:
    format_ = FORMATS[name]
    assert 0 <= format_.detect(CORPUS) <= 1
    records = format_.split(CORPUS)
    assert len("".join(records)) > 10_000
    batch = parse(name, [*records, "\n".join(CORPUS), "".join(CORPUS)], zone=UTC)
    msgspec.json.encode([attributes for attributes in batch.attributes if "\\ud" not in ascii(attributes)])


def test_a_hana_trace_is_named_by_its_path() -> None:
    record = "[24294]{-1}[164/-1] 2016-10-10 12:20:39.296454 i TraceContext TraceContext.cpp(00878) : UserName="
    batch = parse("hana_trace", [record], source="/usr/sap/HDB/HDB00/hana-1/trace/indexserver_hana-1.example.com.30003.000.trc")
    assert batch.host == ["hana-1.example.com"]
    attributes = batch.attributes[0]
    assert attributes is not None
    assert (attributes["sap.hana.service"], attributes["sap.hana.port"]) == ("indexserver", 30003)
    assert (attributes["sap.sid"], attributes["sap.instance"]) == ("HDB", "hana-1.example.com_HDB_00")
    assert attributes["sap.hana.transaction"] == 164
    assert "sap.hana.update_transaction" not in attributes


def test_the_stamps_of_two_traces_that_come_mixed_hold_for_their_own_lines() -> None:
    batch = Batch()
    lines = [("w0", "M Wed May 07 09:14:22 2026"), ("w1", "M Wed May 07 10:00:00 2026"), ("w0", "M  *** ERROR => a"), ("w1", "M  *** ERROR => b")]
    for name, line in lines:
        batch.append(line, source="prd", host="h", attributes={"log.file.path": f"/usr/sap/PRD/D00/work/dev_{name}"})
    FORMATS["sap_dev_trace"].parse(batch, range(4), UTC)
    assert [stamp // 10**9 for stamp in batch.timestamp[2:]] == [1_778_145_262, 1_778_148_000]
