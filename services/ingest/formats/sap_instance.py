"""Which SAP system and instance a record is from, by the path of the file that it was read from.

Instance directories are `/usr/sap/<SID>/<instance>` where the instance ends in its number (`D00`, `DVEBMGS00`, `HDB00`);
on Windows `X:\\usr\\sap\\…`. Senders name the path in `source` (Splunk) or `log.file.path` (Beats, OpenTelemetry).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from services.ingest.batch import Batch

_DIRECTORY = re.compile(r"[/\\]usr[/\\]sap[/\\](?P<sid>[A-Z][A-Z0-9]{2})[/\\][A-Z]{1,12}(?P<number>\d{2})(?:[/\\]|$)", re.ASCII)
_PATHS = ("log.file.path", "splunk.source")


def path_of(batch: Batch, row: int) -> str:
    """Returns the path of the file that a record was read from, or the name of its source, which may be one."""
    attributes = batch.attributes[row]
    if attributes:
        for name in _PATHS:
            path = attributes.get(name)
            if isinstance(path, str):
                return path
    return batch.source[row]


def paths_of(batch: Batch, rows: Sequence[int]) -> list[str]:
    """Returns the path of each row (see path_of); neighbours that share their attributes are looked at once."""
    paths: list[str] = []
    attributes: object = paths  # of no row
    source = path = ""
    for row in rows:
        if batch.attributes[row] is not attributes or batch.source[row] != source:
            attributes, source, path = batch.attributes[row], batch.source[row], path_of(batch, row)
        paths.append(path)
    return paths


@lru_cache(maxsize=4_096)
def read_directory(path: str) -> tuple[str, str] | None:
    """Returns SID and instance number that a path names, or None."""
    match = _DIRECTORY.search(path[:1_000])
    return (match["sid"], match["number"]) if match else None


def add_instance(batch: Batch, row: int, found: dict[str, Any], path: str) -> None:
    """Adds `sap.sid` and, when the host is known, `sap.instance` from the path."""
    place = read_directory(path)
    if place is None:
        return
    sid, number = place
    found.setdefault("sap.sid", sid)
    if batch.host[row]:
        found.setdefault("sap.instance", f"{batch.host[row]}_{sid}_{number}")
