"""The XML of a Windows event, read without entities, document types or anything outside of the text.

Schema: http://schemas.microsoft.com/win/2004/08/events/event (System, EventData or UserData, RenderingInfo).
"""

from __future__ import annotations

from typing import Any, Final
from xml.parsers import expat

MAX_DEPTH: Final = 32
MAX_ELEMENTS: Final = 4_096
MAX_CHARACTERS: Final = 1_000_000

_SYSTEM_ATTRIBUTES: Final = {
    "Provider": (("Name", "provider_name"), ("Guid", "provider_guid"), ("EventSourceName", "provider_source")),
    "EventID": (("Qualifiers", "qualifiers"),),
    "TimeCreated": (("SystemTime", "time"),),
    "Execution": (("ProcessID", "process_id"), ("ThreadID", "thread_id")),
    "Correlation": (("ActivityID", "activity_id"), ("RelatedActivityID", "related_activity_id")),
    "Security": (("UserID", "user_id"),),
}
_SYSTEM_TEXTS: Final = {
    "EventID": "event_id",
    "Version": "version",
    "Level": "level",
    "Task": "task",
    "Opcode": "opcode",
    "Keywords": "keywords",
    "EventRecordID": "record_id",
    "Channel": "channel",
    "Computer": "computer",
}


class _RefusedError(Exception):
    """The text has what an event never has: a document type, an entity, or too many elements."""


class _Reader:
    """Collects what the elements of an event hold."""

    def __init__(self) -> None:
        self.system: dict[str, str] = {}
        self.data: dict[str, Any] = {}
        self.rendering: dict[str, str] = {}
        self._path: list[str] = []
        self._text: list[str] = []
        self._name = ""
        self._elements = 0
        self._parent = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        self._elements += 1
        if len(self._path) >= MAX_DEPTH or self._elements > MAX_ELEMENTS:
            raise _RefusedError
        name = name.rpartition(":")[2]
        self._path.append(name)
        self._text = []
        self._parent = False
        if len(self._path) == 1 and name != "Event":
            raise _RefusedError
        if len(self._path) == 3 and self._path[1] == "System":
            for attribute, key in _SYSTEM_ATTRIBUTES.get(name, ()):
                if attributes.get(attribute):
                    self.system[key] = attributes[attribute]
        self._name = attributes.get("Name", "") if name in ("Data", "ComplexData") else name

    def text(self, text: str) -> None:
        """Text of an element, perhaps a part of it."""
        self._text.append(text)

    def end(self, _: str) -> None:
        """An element ends."""
        text = "".join(self._text).strip()
        self._text = []
        path, holds_elements = self._path, self._parent
        name = path.pop()
        self._parent = True
        if holds_elements or len(path) < 2 or not text:
            return
        section = path[1]
        if section == "System":
            if name in _SYSTEM_TEXTS:
                self.system[_SYSTEM_TEXTS[name]] = text
        elif section == "RenderingInfo":
            self.rendering[name] = f"{self.rendering[name]}, {text}" if name in self.rendering else text
        else:
            self._keep(self._name or f"param{len(self.data) + 1}", text)

    def _keep(self, name: str, text: str) -> None:
        """Keeps a value; values of one name become a list."""
        if name not in self.data:
            self.data[name] = text
        elif isinstance(self.data[name], list):
            self.data[name].append(text)
        else:
            self.data[name] = [self.data[name], text]


def read_event(text: str) -> tuple[dict[str, str], dict[str, Any], dict[str, str]] | None:
    """Returns the parts of an event: System by the names of winlogbeat (`event_id`, `channel`, …), the event's data, the rendered texts.

    Returns None for what is no whole, well-formed event, or one with a document type.
    """
    if len(text) > MAX_CHARACTERS:
        return None
    parser = expat.ParserCreate("utf-8")
    reader = _Reader()
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    try:
        parser.Parse(text.encode("utf-8", "replace"), True)
    except (expat.ExpatError, _RefusedError):
        return None
    return (reader.system, reader.data, reader.rendering) if reader.system else None


def _refuse(*_: object) -> None:
    raise _RefusedError
