"""Log formats: a literal registry, and detection over it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from typing import Final

from services.ingest.batch import Batch
from services.ingest.formats.access_log import AccessLog
from services.ingest.formats.apache_error import ApacheError
from services.ingest.formats.base import Format, parse_rows
from services.ingest.formats.containers import InnerFormats
from services.ingest.formats.cri import Cri
from services.ingest.formats.csv_table import CsvTable
from services.ingest.formats.docker_json import DockerJson
from services.ingest.formats.hana_audit import HanaAudit
from services.ingest.formats.hana_trace import HanaTrace
from services.ingest.formats.json_lines import JsonLines
from services.ingest.formats.key_value import KeyValue
from services.ingest.formats.logfmt import Logfmt
from services.ingest.formats.nginx_error import NginxError
from services.ingest.formats.plain import Plain
from services.ingest.formats.sap_audit_log import SapAuditLog
from services.ingest.formats.sap_cpi_log import SapCpiLog
from services.ingest.formats.sap_dev_trace import SapDevTrace
from services.ingest.formats.sap_dump import SapDump
from services.ingest.formats.sap_gateway_log import SapGatewayLog
from services.ingest.formats.sap_idoc import SapIdoc
from services.ingest.formats.sap_java_log import SapJavaLog
from services.ingest.formats.sap_system_log import SapSystemLog
from services.ingest.formats.syslog import Syslog
from services.ingest.formats.windows_event import WindowsEvent

__all__ = ["FORMATS", "SAMPLE_LINES", "Format", "detect_format", "parse_batch", "rank_formats"]

_PLAIN: Final = Plain()
_INNER: Final = InnerFormats((NginxError(), ApacheError(), JsonLines(), AccessLog(), Syslog(), KeyValue(), Logfmt()), _PLAIN)
"""What programs in containers write."""

FORMATS: Final[dict[str, Format]] = {
    format_.name: format_
    for format_ in (
        SapIdoc(),
        SapCpiLog(),
        SapSystemLog(),
        SapGatewayLog(),
        SapJavaLog(),
        HanaAudit(),
        SapAuditLog(),
        HanaTrace(),
        SapDump(),
        SapDevTrace(),
        Cri(_INNER),
        DockerJson(_INNER),
        WindowsEvent(),
        NginxError(),
        ApacheError(),
        JsonLines(),
        AccessLog(),
        Syslog(),
        CsvTable(),
        KeyValue(),
        Logfmt(),
        _PLAIN,
    )
}
"""Every format by name, most specific first; of equal confidence the earlier wins."""

SAMPLE_LINES: Final = 200
"""Lines that detection looks at."""


LONGEST_LINE: Final = 16_384
"""Characters of a line that detection looks at."""


def detect_format(lines: Sequence[str]) -> tuple[Format, float]:
    """Returns the format that is surest of the first lines, and how sure it is (0 to 1); `plain` when none is.

    Takes raw lines, or records that hold several lines each.
    """
    return rank_formats(lines)[0]


def rank_formats(lines: Sequence[str]) -> list[tuple[Format, float]]:
    """Returns every format that is sure of the first lines to a part, surest first, and how sure it is."""
    sample: list[str] = []
    for record in lines[:SAMPLE_LINES]:
        sample.extend(line[:LONGEST_LINE] for line in record.split("\n", SAMPLE_LINES)[:SAMPLE_LINES])
        if len(sample) >= SAMPLE_LINES:
            break
    ranked = [(candidate, candidate.detect(sample)) for candidate in FORMATS.values()]
    return sorted((one for one in ranked if one[1] > 0), key=lambda one: -one[1])


def parse_batch(name: str, batch: Batch, rows: Sequence[int], zone: tzinfo) -> int:
    """Parses rows by the format of that name, and as plain text what it does not understand; returns how many rows the format understood.

    Plain text whose sender said time and severity itself counts as understood: nothing has to be found in it.
    """
    if name != _PLAIN.name:
        return parse_rows(FORMATS[name], _PLAIN, batch, rows, zone)
    times, severities = batch.timestamp, batch.severity_number
    untold = [row for row in rows if not (times[row] and severities[row])]
    told = [row for row in rows if times[row] and severities[row]] if len(untold) < len(rows) else []
    _PLAIN.parse(batch, told, zone)
    return len(told) + _PLAIN.parse(batch, untold, zone)
