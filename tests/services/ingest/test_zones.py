"""Time zones of sources."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kit.errors import InvalidArgument
from services.ingest.timestamps import parse_timestamp
from services.ingest.zones import find_zone, known_zone


def moment(text: str, zone: str) -> str:
    """Returns the moment in UTC that a local stamp is read as."""
    return f"{datetime.fromtimestamp(parse_timestamp(text, find_zone(zone)) // 10**9, UTC):%Y-%m-%d %H:%M:%S}"


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2024-07-01 12:00:00", "", "2024-07-01 12:00:00"),
        ("2024-07-01 12:00:00", "Europe/Berlin", "2024-07-01 10:00:00"),
        ("2024-01-01 12:00:00", "Europe/Berlin", "2024-01-01 11:00:00"),
        ("2024-07-01 12:00:00", "Asia/Kolkata", "2024-07-01 06:30:00"),
        ("2024-07-01 12:00:00Z", "Europe/Berlin", "2024-07-01 12:00:00"),
        # 02:30 comes twice on the last Sunday of October: the earlier one is meant.
        ("2024-10-27 02:30:00", "Europe/Berlin", "2024-10-27 00:30:00"),
        ("2024-10-27 03:00:00", "Europe/Berlin", "2024-10-27 02:00:00"),
        # 02:30 does not come at all on the last Sunday of March.
        ("2024-03-31 02:30:00", "Europe/Berlin", "2024-03-31 01:30:00"),
    ],
)
def test_local_stamps_are_read_in_the_zone(text: str, zone: str, expected: str) -> None:
    assert moment(text, zone) == expected


@pytest.mark.parametrize(
    "name", ["Europe/Nowhere", "Europe", "../etc/passwd", "/etc/localtime", "localtime", "right/UTC", "posixrules", "a" * 1000, "Europe/Ber\0lin", "+02:00"]
)
def test_other_names_are_refused_and_stored_ones_read_as_utc(name: str) -> None:
    with pytest.raises(InvalidArgument, match="there is no time zone"):
        find_zone(name)
    assert known_zone(name, "prd") is UTC
