"""What the simulator yields: events with their payload for one channel, and the truth about each of them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import msgspec

Channel = Literal["hec", "otlp", "file"]
Role = Literal["root", "symptom", "noise"]


class Root(msgspec.Struct, frozen=True):
    """The part of the landscape that a scenario breaks first."""

    system: str
    service: str


class HecPayload(msgspec.Struct, frozen=True, gc=False):
    """One event as a Splunk forwarder hands it on: a line of text, or an object."""

    channel: ClassVar[Channel] = "hec"

    sourcetype: str
    event: str | dict[str, Any]
    fields: dict[str, str]


class OtlpPayload(msgspec.Struct, frozen=True, gc=False):
    """One log record of an instrumented service. Ids are hexadecimal, empty when there is no trace."""

    channel: ClassVar[Channel] = "otlp"

    severity_number: int
    severity_text: str
    body: str
    attributes: dict[str, Any]
    trace_id: str = ""
    span_id: str = ""


class FilePayload(msgspec.Struct, frozen=True, gc=False):
    """One record of a log file of SAP.

    `path` is relative to the folder that holds the hosts. `ending` closes the record in the file: the security
    audit log has records of fixed length and no line ends. `head` is the first line of the file. `stamp` is the
    stamp line that must stand above the record; it is written only when it differs from the last one in that file.
    """

    channel: ClassVar[Channel] = "file"

    format: str
    path: str
    text: str
    head: str = ""
    stamp: str = ""
    ending: str = "\n"


Payload = HecPayload | OtlpPayload | FilePayload


class Label(msgspec.Struct, frozen=True, gc=False):
    """The truth about one event.

    `event` numbers the events of a story from 1. `role` is `root` or `symptom` when `fault` is set, `noise` for a
    warning or an error that has nothing to do with a fault, and None for ordinary life.
    """

    event: int
    fault: str | None
    role: Role | None
    system: str
    service: str


class SimulatedEvent(msgspec.Struct, frozen=True, gc=False):
    """One event: when (nanoseconds since 1970), who, what, and the truth about it."""

    time_ns: int
    channel: Channel
    source: str
    system: str
    service: str
    host: str
    payload: Payload
    label: Label


class Origin(NamedTuple):
    """Who speaks: the sender's name, its kind (`splunk`, `sap`, `application`), service and host."""

    source: str
    system: str
    service: str
    host: str
