"""Windows events: layouts of the XML, what is refused in it, levels."""

from __future__ import annotations

import pytest

from services.ingest.formats import FORMATS, detect_format
from services.ingest.formats.windows_xml import MAX_DEPTH, MAX_ELEMENTS, read_event
from tests.services.ingest.formats.samples import parse_records

WINDOWS = FORMATS["windows_event"]
NAMESPACE = "xmlns='http://schemas.microsoft.com/win/2004/08/events/event'"


def event(number: int = 1, level: str = "4", keywords: str = "0x0", data: str = "<Data Name='a'>b</Data>") -> str:
    return (
        f"<Event {NAMESPACE}><System><Provider Name='P'/><EventID>{number}</EventID><Level>{level}</Level><Keywords>{keywords}</Keywords>"
        f"<TimeCreated SystemTime='2024-01-02T10:00:00Z'/><Computer>C</Computer></System><EventData>{data}</EventData></Event>"
    )


def ids(records: list[str]) -> list[object]:
    return [(attributes or {}).get("winlog.event_id") for attributes in parse_records("windows_event", records).attributes]


@pytest.mark.parametrize("break_", ["", "\n", "\r\n", "\n  \n"])
def test_events_are_cut_however_they_are_laid_out(break_: str) -> None:
    text = f'<?xml version="1.0"?>{break_}<Events>{break_}{event(1)}{break_}{event(2).replace("><", ">" + break_ + "<")}{break_}{event(3)}{break_}</Events>'
    lines = text.split("\n")
    assert ids(WINDOWS.split(lines)) == [1, 2, 3]
    assert detect_format(lines)[0].name == "windows_event"


def test_an_event_that_is_not_closed_costs_no_neighbour() -> None:
    records = WINDOWS.split([event(1), event(2)[:200], event(3), event(4)])
    assert [number for number in ids(records) if number] == [1, 4]
    assert "<EventID>3</EventID>" in "".join(records)


@pytest.mark.parametrize(
    ("level", "keywords", "number", "text"),
    [
        ("1", "0x0", 21, "Critical"),
        ("2", "0x0", 17, "Error"),
        ("3", "0x0", 13, "Warning"),
        ("4", "0x0", 9, "Information"),
        ("5", "0x0", 5, "Verbose"),
        ("0", "0x8020000000000000", 9, "Audit Success"),
        ("0", "0x8010000000000000", 13, "Audit Failure"),
        ("0", "nonsense", 9, "LogAlways"),
        ("9", "", 0, ""),
    ],
)
def test_levels_become_severities_with_their_word(level: str, keywords: str, number: int, text: str) -> None:
    batch = parse_records("windows_event", [event(level=level, keywords=keywords)])
    assert (batch.severity_number, batch.severity_text) == ([number], [text])


def test_values_without_names_and_of_one_name_are_kept() -> None:
    batch = parse_records("windows_event", [event(data="<Data>x</Data><Data Name='n'>1</Data><Data Name='n'>2</Data><Data/><Binary>00FF</Binary>")])
    assert (batch.attributes[0] or {})["winlog.event_data"] == {"param1": "x", "n": ["1", "2"], "Binary": "00FF"}


@pytest.mark.parametrize(
    "text",
    [
        f"<!DOCTYPE Event [<!ENTITY a 'b'>]>{event()}",
        f"<!DOCTYPE Event SYSTEM 'file:///etc/passwd'>{event()}",
        event(data="<Data>&unknown;</Data>"),
        event(data="<Data>\x00</Data>"),
        event(data="<x>" * MAX_DEPTH + "</x>" * MAX_DEPTH),
        event(data="<Data/>" * MAX_ELEMENTS),
        event()[:-1],
        event() + event(),
        f"<Other>{event()}</Other>",
        event(data="x" * 1_000_001),
        "",
    ],
)
def test_what_an_event_never_has_is_refused(text: str) -> None:
    assert read_event(text) is None


def test_what_is_refused_stays_text() -> None:
    bomb = event(data="<Data>&lol9;</Data>").replace("<Event ", "<!DOCTYPE lolz [<!ENTITY lol9 'lol'>]><Event ")
    broken = event()[:-20]
    batch = parse_records("windows_event", [broken, bomb, event()])
    assert batch.body[:2] == [broken, bomb]
    assert batch.host == ["", "", "C"]


def test_predefined_entities_are_read() -> None:
    batch = parse_records("windows_event", [event(data="<Data Name='a'>&lt;b&gt; &amp; &#233;</Data>")])
    assert (batch.attributes[0] or {})["winlog.event_data"] == {"a": "<b> & é"}


def test_event_ids_are_numbers_however_they_are_written() -> None:
    assert ids(['{"EventID":"4732","SourceName":"P"}', '{"EventID":4732,"Channel":"Security"}', '{"winlog":{"event_id":"4732"}}', event(4732)]) == [4732] * 4


def test_json_that_holds_xml_is_one_record() -> None:
    line = '{"EventID":7,"SourceName":"P","Message":"m","raw":"' + event().replace('"', '\\"') + '"}'
    assert WINDOWS.split([line]) == [line]
    assert ids([line]) == [7]
