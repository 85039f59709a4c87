"""Envelopes of the HTTP Event Collector: decoding, metadata and what is wrong with them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from services.ingest.batch import Batch
from services.ingest.formats import FORMATS
from services.ingest.tokens import Agent

SYSTEMS = frozenset({"splunk", "sap", "application", "infrastructure"})
SOURCETYPES = {
    "_json": "json_lines",
    "json": "json_lines",
    "access_combined": "access_log",
    "access_common": "access_log",
    "syslog": "syslog",
    "linux_messages_syslog": "syslog",
    "linux_secure": "syslog",
}
"""Splunk's own names of source types that ELIS has a format for."""
_TIME = re.compile(rb'"?\s*(\d{1,19})(?:\.(\d{0,9})\d*)?\s*"?')
_DECLARATIONS = ("system", "environment", "service")
_NO_FIELDS = (b"", b"null")


class _Envelope(msgspec.Struct, gc=False):
    event: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    time: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    host: str | None = None
    source: str | None = None
    sourcetype: str | None = None
    index: str | None = None
    fields: msgspec.Raw = msgspec.Raw()


class _Metadata(msgspec.Struct, frozen=True, gc=False):
    """What the members of an envelope beside event, time and host say."""

    source: str
    service: str
    attributes: dict[str, Any] | None
    system: str
    environment: str
    format: str


_DECODER = msgspec.json.Decoder(_Envelope)
_decode_text = msgspec.json.Decoder(str).decode
_decode_fields = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class HecProblem:
    """The first envelope that cannot be taken; those before it are kept."""

    text: str
    code: int
    event_number: int


@dataclass(slots=True)
class HecBatch:
    """Records and what their envelopes declare: columns parallel to the batch."""

    batch: Batch = field(default_factory=Batch)
    systems: list[str] = field(default_factory=list)
    environments: list[str] = field(default_factory=list)
    formats: list[str] = field(default_factory=list)


class _InvalidError(Exception):
    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


def decode_events(body: bytes, query: Mapping[str, str], agent: Agent) -> tuple[HecBatch, HecProblem | None]:
    """Decodes concatenated envelopes up to the first bad one. Bytes that are not UTF-8 are replaced, not refused."""
    try:
        body.decode()
    except UnicodeDecodeError:
        body = body.decode("utf-8", "replace").encode()
    decoded = HecBatch()
    envelopes, broken = _decode_envelopes(body)
    default_host = query.get("host", "")
    # The envelopes of a request have few different metadata: each is read once. Attributes are shared, nobody changes them in place.
    known: dict[tuple[str | None, str | None, str | None, bytes], _Metadata] = {}
    for number, envelope in enumerate(envelopes):
        key = (envelope.source, envelope.sourcetype, envelope.index, bytes(envelope.fields))
        try:
            metadata = known.get(key)
            if metadata is None:
                metadata = known[key] = _read_metadata(envelope, query, agent)
            text = _text_of(envelope.event)
            timestamp = 0 if envelope.time is msgspec.UNSET else parse_time(bytes(envelope.time))
        except _InvalidError as error:
            return decoded, HecProblem(error.text, error.code, number)
        decoded.batch.append(
            text,
            source=metadata.source,
            timestamp=timestamp,
            host=envelope.host or default_host,
            service=metadata.service,
            attributes=metadata.attributes,
        )
        decoded.systems.append(metadata.system)
        decoded.environments.append(metadata.environment)
        decoded.formats.append(metadata.format)
    if broken is not None:
        return decoded, HecProblem("Invalid data format", 6, len(envelopes))
    return decoded, None


def declared_format(sourcetype: str) -> str:
    """Returns the format that a source type names, or empty text when it names none of ours."""
    return sourcetype if sourcetype in FORMATS else SOURCETYPES.get(sourcetype, "")


def _decode_envelopes(body: bytes) -> tuple[list[_Envelope], Exception | None]:
    try:
        return _DECODER.decode_lines(body), None
    except (msgspec.DecodeError, RecursionError):
        return _decode_one_by_one(body)


def _decode_one_by_one(body: bytes) -> tuple[list[_Envelope], Exception | None]:
    """Decodes envelopes that share a line, or finds the first that is broken."""
    envelopes: list[_Envelope] = []
    scanner = json.JSONDecoder()
    text = body.decode()
    position, end = 0, len(text)
    while True:
        while position < end and text[position] in " \t\r\n":
            position += 1
        if position == end:
            return envelopes, None
        try:
            value, stop = scanner.raw_decode(text, position)
            envelopes.append(_decode_envelope(text[position:stop], value))
        except (ValueError, RecursionError) as error:
            return envelopes, error
        position = stop


def _decode_envelope(text: str, value: Any) -> _Envelope:
    try:
        return _DECODER.decode(text)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        # Half a surrogate pair, escaped: no Unicode text holds it, so it becomes the replacement character.
        repaired = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return _DECODER.decode(repaired)


def _read_metadata(envelope: _Envelope, query: Mapping[str, str], agent: Agent) -> _Metadata:
    sourcetype = envelope.sourcetype or query.get("sourcetype", "")
    given_source = envelope.source or query.get("source", "")
    index = envelope.index or query.get("index", "")
    attributes: dict[str, Any] = {}
    declared = dict.fromkeys(_DECLARATIONS, "")
    for name, value in _fields_of(bytes(envelope.fields)).items():
        if isinstance(value, dict):
            raise _InvalidError("Error in handling indexed fields", 15)
        if name in declared and isinstance(value, str):
            declared[name] = value
        else:
            attributes[name] = value
    if declared["system"] not in SYSTEMS:
        declared["system"] = ""
    if sourcetype:
        attributes["splunk.sourcetype"] = sourcetype
    if index:
        attributes["splunk.index"] = index
    if agent.source and given_source:
        attributes["splunk.source"] = given_source
    return _Metadata(
        source=agent.source or given_source or sourcetype or agent.name,
        service=declared["service"],
        attributes=attributes or None,
        system=declared["system"],
        environment=declared["environment"],
        format=declared_format(sourcetype),
    )


def _fields_of(raw: bytes) -> dict[str, Any]:
    if raw in _NO_FIELDS:
        return {}
    try:
        return _decode_fields(raw)
    except (msgspec.DecodeError, RecursionError):
        raise _InvalidError("Invalid data format", 6) from None


def _text_of(event: msgspec.Raw | msgspec.UnsetType) -> str:
    raw = b"null" if event is msgspec.UNSET else bytes(event)
    if raw[:1] == b'"':
        text = _decode_text(raw)
    elif raw == b"null":
        raise _InvalidError("Event field is required", 12)
    else:
        text = raw.decode()
    if not text or text.isspace():
        raise _InvalidError("Event field cannot be blank", 13)
    return text


def parse_time(raw: bytes) -> int:
    """Returns nanoseconds since 1970 of an epoch time (integer, decimal or either as a string); raises on others.

    Seconds by Splunk's definition; a magnitude that cannot be seconds is taken as milli-, micro- or nanoseconds,
    as other collectors do.
    """
    head, _, tail = raw.strip(b'"').partition(b".")
    if len(head) == 10 and head.isdigit() and len(tail) < 10 and (tail.isdigit() or not tail):
        # As nearly every sender writes it.
        return int(head + tail.ljust(9, b"0"))
    match = _TIME.fullmatch(raw)
    if match is None:
        try:
            number = float(raw.strip(b'" '))
        except ValueError:
            raise _InvalidError("Invalid data format", 6) from None
        if not 0 <= number < 1e11:
            raise _InvalidError("Invalid data format", 6)
        return int(number * 1_000_000) * 1_000
    whole, fraction = int(match[1]), (match[2] or b"").ljust(9, b"0")
    if whole < 100_000_000_000:
        return whole * 1_000_000_000 + int(fraction)
    if whole < 100_000_000_000_000:
        return whole * 1_000_000 + int(fraction[:6])
    if whole < 100_000_000_000_000_000:
        return whole * 1_000 + int(fraction[:3])
    return min(whole, 2**63 - 1)
