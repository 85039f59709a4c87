"""Syslog around a message that says its own level. Not from real systems."""

from __future__ import annotations

from tests.services.ingest.formats.samples import parse_records


def test_a_cisco_firewall_with_a_device_id() -> None:
    batch = parse_records("syslog", ["<166>Jan 02 2024 10:00:00 fw1 : %ASA-6-302013: Built", "<166>Jan 02 2024 10:00:00: %ASA-6-302013: Built"])
    assert (batch.host, batch.service, batch.body) == (["fw1", ""], ["ASA", "ASA"], ["%ASA-6-302013: Built"] * 2)


def test_the_level_that_a_program_gives_its_message_is_more_than_that_of_the_daemon() -> None:
    head = "<30>Jan  2 10:00:00 host docker[12]: "
    batch = parse_records("syslog", [f'{head}{{"level":"error","msg":"a"}}', f'{head}{{"msg":"b"}}', f"{head}c"])
    assert batch.severity_number == [17, 9, 9]
    assert batch.severity_text == ["error", "", ""]
    assert batch.body == ["a", "b", "c"]
