"""Log formats: a literal registry, and detection over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.ingest.formats.access_log import AccessLog
from services.ingest.formats.base import Format
from services.ingest.formats.hana_trace import HanaTrace
from services.ingest.formats.json_lines import JsonLines
from services.ingest.formats.key_value import KeyValue
from services.ingest.formats.logfmt import Logfmt
from services.ingest.formats.plain import Plain
from services.ingest.formats.sap_audit_log import SapAuditLog
from services.ingest.formats.sap_dev_trace import SapDevTrace
from services.ingest.formats.sap_dump import SapDump
from services.ingest.formats.sap_idoc import SapIdoc
from services.ingest.formats.syslog import Syslog

__all__ = ["FORMATS", "SAMPLE_LINES", "Format", "detect_format"]

_PLAIN: Final = Plain()

FORMATS: Final[dict[str, Format]] = {
    format_.name: format_
    for format_ in (
        SapIdoc(),
        SapAuditLog(),
        HanaTrace(),
        SapDump(),
        SapDevTrace(),
        JsonLines(),
        AccessLog(),
        Syslog(),
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
    sample: list[str] = []
    for record in lines[:SAMPLE_LINES]:
        sample.extend(line[:LONGEST_LINE] for line in record.split("\n", SAMPLE_LINES)[:SAMPLE_LINES])
        if len(sample) >= SAMPLE_LINES:
            break
    best: Format = _PLAIN
    confidence = _PLAIN.detect(sample)
    for candidate in FORMATS.values():
        sure = candidate.detect(sample)
        if sure > confidence:
            best, confidence = candidate, sure
    return best, confidence
