"""The log files of the SAP hosts: written the way SAP writes them, and read back as what was added."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from kit.errors import InvalidArgument
from services.ingest.simulator.events import FilePayload, SimulatedEvent

MAX_OPEN_FILES = 64


@dataclass(slots=True)
class Addition:
    """What was added to one file: raw text, with the head and the stamp line that hold for its first line."""

    format: str
    source: str
    system: str
    host: str
    fields: dict[str, str]
    events: int = 0
    parts: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """The added text as lines without line ends."""
        return "".join(self.parts).split("\n")


class SapFolder:
    """A folder with a subfolder for each SAP host."""

    def __init__(self, root: Path) -> None:
        """Makes the folder; raises InvalidArgument when it cannot be written."""
        self._root = root
        self._open: OrderedDict[str, TextIO] = OrderedDict()
        self._stamps: dict[str, str] = {}
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidArgument(f"the folder {root} cannot be written ({error.strerror}); choose another one") from None

    def write(self, events: Sequence[SimulatedEvent]) -> list[Addition]:
        """Appends the records of file events to their files; returns what was added to each file."""
        additions: dict[str, Addition] = {}
        for event in events:
            payload = event.payload
            if not isinstance(payload, FilePayload):
                continue
            addition = additions.get(payload.path)
            if addition is None:
                addition = additions[payload.path] = self._begin(event, payload)
            text = payload.text + payload.ending
            if payload.stamp and self._stamps.get(payload.path) != payload.stamp:
                self._stamps[payload.path] = payload.stamp
                text = f"\n{payload.stamp}\n{text}"
            addition.events += 1
            addition.parts.append(text)
            self._file(payload).write(text)
        for file in self._open.values():
            file.flush()
        return list(additions.values())

    def close(self) -> None:
        """Closes every file."""
        for file in self._open.values():
            file.close()
        self._open.clear()

    def _begin(self, event: SimulatedEvent, payload: FilePayload) -> Addition:
        fields = {
            "system": event.system,
            "service": event.service,
            "environment": "production",
            "log.file.path": f"/{payload.path.partition('/')[2]}",
        }
        addition = Addition(payload.format, event.source, event.system, event.host, fields)
        # Head and stamp may stand in the file already; what is read on its own needs them again.
        if payload.head:
            addition.parts.append(f"{payload.head}\n")
        if payload.stamp and self._stamps.get(payload.path) == payload.stamp:
            addition.parts.append(f"{payload.stamp}\n")
        return addition

    def _file(self, payload: FilePayload) -> TextIO:
        path = payload.path
        file = self._open.get(path)
        if file is None:
            full = self._root / path
            full.parent.mkdir(parents=True, exist_ok=True)
            file = self._open[path] = full.open("a", encoding="utf-8", newline="")
            if payload.head and file.tell() == 0:
                file.write(f"{payload.head}\n")
            if len(self._open) > MAX_OPEN_FILES:
                self._open.popitem(last=False)[1].close()
        return file
