"""Events that hold several records."""

from __future__ import annotations

import orjson

from services.ingest.receivers.hec_cuts import cut_events
from services.ingest.receivers.hec_events import HecBatch, decode_events
from services.ingest.tokens import Agent
from tests.services.ingest.formats.test_sap import audit_record


def decode(*events: dict[str, object]) -> HecBatch:
    """Returns the batch of a request, cut."""
    decoded, problem = decode_events(b"\n".join(map(orjson.dumps, events)), {}, Agent("1", "agent", ""))
    assert problem is None
    return cut_events(decoded)


def test_each_record_becomes_an_event_with_the_metadata_of_its_envelope() -> None:
    several = audit_record(1) + audit_record(2) + audit_record(3)[:150]
    decoded = decode(
        {"event": "first", "time": 1_700_000_000, "source": "a"},
        {"event": several, "time": 1_700_000_001, "source": "b", "host": "app-1", "sourcetype": "sap_audit_log", "fields": {"system": "sap", "zone": 7}},
        {"event": "2" + "x" * 300, "time": 1_700_000_002, "source": "c"},
    )
    assert decoded.batch.body == ["first", audit_record(1), audit_record(2), audit_record(3)[:150], "2" + "x" * 300]
    assert decoded.batch.source == ["a", "b", "b", "b", "c"]
    assert decoded.batch.host == ["", "app-1", "app-1", "app-1", ""]
    assert decoded.systems == ["", "sap", "sap", "sap", ""]
    assert decoded.formats == ["", *["sap_audit_log"] * 3, ""]
    assert decoded.environments == [""] * 5
    assert [bool(stamp) for stamp in decoded.batch.timestamp] == [True, False, False, False, True]
    assert all(attributes and attributes["zone"] == 7 for attributes in decoded.batch.attributes[1:4])


def test_records_of_another_declared_format_are_left_whole() -> None:
    several = audit_record(1) + audit_record(2)
    assert decode({"event": several, "sourcetype": "syslog"}).batch.body == [several]
    assert decode({"event": audit_record(1)}).batch.body == [audit_record(1)]
    assert len(decode({"event": several}).batch) == 2
