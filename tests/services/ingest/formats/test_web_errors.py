"""Error logs of web servers. Not from real systems."""

from __future__ import annotations

import pytest

from services.ingest.formats import FORMATS
from tests.services.ingest.formats.samples import parse_records

HEAD = "2024/01/02 10:00:03 [error] 7#7: *1 "


def test_the_text_of_a_fastcgi_program_goes_on_over_lines() -> None:
    lines = [
        f'{HEAD}FastCGI sent in stderr: "PHP message: a',
        'PHP message: b" while reading response header, client: 1.1.1.1, server: _',
        f"{HEAD}next",
        "foreign",
    ]
    records = FORMATS["nginx_error"].split(lines)
    assert records == ["\n".join(lines[:2]), *lines[2:]]
    batch = parse_records("nginx_error", records)
    assert batch.body[0] == 'FastCGI sent in stderr: "PHP message: a\nPHP message: b" while reading response header'
    assert batch.attributes[0] is not None
    assert batch.attributes[0]["client.address"] == "1.1.1.1"


@pytest.mark.parametrize(
    ("client", "address", "port"),
    [("10.0.0.1:5", "10.0.0.1", 5), ("::1:5", "::1", 5), ("2001:db8::1:49152", "2001:db8::1", 49152)],
)
def test_apache_writes_a_port_behind_the_address(client: str, address: str, port: int) -> None:
    batch = parse_records("apache_error", [f"[Tue Jan 02 10:00:00.123456 2024] [core:error] [pid 1] [client {client}] x"])
    assert batch.attributes[0] is not None
    assert (batch.attributes[0]["client.address"], batch.attributes[0]["client.port"]) == (address, port)
