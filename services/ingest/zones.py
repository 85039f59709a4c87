"""Time zones of sources, by their IANA names.

Stamps without a zone are read in the zone of their source. In the hour that is repeated when summer time ends the
earlier of the two moments is taken (fold 0, as Python does): a log does not say which it means. A stamp in the hour
that is left out when summer time begins is read with the offset from before the change.
"""

from __future__ import annotations

import re
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

import structlog

from kit.errors import InvalidArgument

log = structlog.get_logger()

# `right/…` counts leap seconds, `localtime` and `posix…` depend on the machine: two replicas must read a stamp alike.
_NAME = re.compile(r"(?!right/|posix|localtime)[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,3}")
_MAX_NAME = 64


def find_zone(name: str) -> tzinfo:
    """Returns the zone of an IANA name, UTC for the empty text; raises InvalidArgument when there is none."""
    if not name:
        return UTC
    if len(name) <= _MAX_NAME and _NAME.fullmatch(name):
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            pass
    raise InvalidArgument(f"there is no time zone {name[:_MAX_NAME]!r}; use an IANA name such as Europe/Berlin")


def known_zone(name: str, source: str) -> tzinfo:
    """Returns the zone that was stored for a source; UTC, with a warning, where this machine does not know the name."""
    try:
        return find_zone(name)
    except InvalidArgument as error:
        log.warning("time zone not known here; its stamps are read as UTC", source=source, reason=error.message)
        return UTC
