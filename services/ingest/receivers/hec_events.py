"""Envelopes of the HTTP Event Collector: decoding, metadata and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, NamedTuple

import msgspec
import orjson

from services.ingest.batch import Batch
from services.ingest.encodings import decode_text
from services.ingest.formats import FORMATS, detect_format
from services.ingest.receivers.bodies import MAX_RECORDS, MAX_VALUES, BodyTooLarge, check_containers, check_marks
from services.ingest.receivers.hec_times import read_query_time, read_times
from services.ingest.severity import severity_of_number, severity_of_word
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
    "apache:access": "access_log",
    "nginx:plus:access": "access_log",
    "nginx:plus:error": "nginx_error",
    "apache:error": "apache_error",
    "XmlWinEventLog": "windows_event",
}
"""Splunk's own names of source types that ELIS has a format for."""
IDEMPOTENCY_HEADER = "x-elis-idempotency-key"
"""Names a request of ELIS's own senders, so that it is recognised when it is sent again."""
FORMAT_PARAMETER = "format"
"""Parameter of the query in which ELIS's own senders say the format of what they send, which nothing of Splunk has been near."""
_QUOTE = 0x22
_DECLARATIONS = ("system", "environment", "service")
_SEVERITIES = ("severity", "severity_text", "level", "log.level", "loglevel")
"""Names of indexed fields that hold a severity; the first one that is understood sets it."""
_NO_FIELDS = (b"", b"null")


class _Envelope(msgspec.Struct, gc=False):
    event: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    time: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    host: str | None = None
    source: str | None = None
    sourcetype: str | None = None
    index: str | None = None
    fields: msgspec.Raw = msgspec.Raw()


class _StrictEnvelope(_Envelope, gc=False, forbid_unknown_fields=True):
    """An envelope with no member that Splunk does not know."""


class _Anything(msgspec.Struct, gc=False):
    """An envelope that is only counted."""


class _Metadata(NamedTuple):
    """What the members of an envelope beside event, time and host say."""

    source: str
    service: str
    attributes: dict[str, Any] | None
    system: str
    environment: str
    format: str
    severity_number: int
    severity_text: str


_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Envelope)
_STRICT_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_StrictEnvelope)
_COUNTER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Anything)
_decode_texts = msgspec.json.Decoder(list[str]).decode


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


def decode_events(body: bytes, query: Mapping[str, str], agent: Agent, *, strict: bool = False) -> tuple[HecBatch, HecProblem | None]:
    """Decodes concatenated envelopes up to the first bad one. Bytes that are not UTF-8 are replaced, not refused.

    What an envelope says about itself holds for it alone, not for those after it. `strict` refuses envelopes with members
    that Splunk does not know, as splunkd does. Raises BodyTooLarge when there is too much in the body.
    """
    check_containers(body)
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            body = body.decode("utf-8", "replace").encode()
    envelopes, broken = _decode_envelopes(body, _STRICT_DECODER if strict else _DECODER)
    if len(body) > MAX_VALUES:
        check_marks(b",".join([envelope.fields for envelope in envelopes]), b":", MAX_VALUES, "indexed fields")
    try:
        decoded = _read_columns(envelopes, query, agent)
    except _InvalidError:
        problem = _find_problem(envelopes, query, agent)
        return _read_columns(envelopes[: problem.event_number], query, agent), problem
    if broken is not None:
        return decoded, HecProblem(broken.text, broken.code, len(envelopes))
    return decoded, None


def _find_problem(envelopes: Sequence[_Envelope], query: Mapping[str, str], agent: Agent) -> HecProblem:
    """Returns what is wrong with the first envelope that cannot be taken, by halving; there is one."""
    first, length = 0, len(envelopes)
    while True:
        half = (length + 1) // 2
        try:
            _read_columns(envelopes[first : first + half], query, agent)
        except _InvalidError as error:
            if half == 1:
                return HecProblem(error.text, error.code, first)
            length = half
        else:
            first += half
            length -= half


def decode_raw(body: bytes, query: Mapping[str, str], agent: Agent, format_of: Callable[[str, str], str] = lambda _, declared: declared) -> HecBatch:
    """Cuts text into records, by its declared format or the one that it looks like; the query says what it is.

    `format_of` returns the format that holds for a source, from its name and the declared format (or "").
    """
    lines = [line.removesuffix("\r") for line in decode_text(body).split("\n")]
    metadata = _read_metadata(query, agent)
    name = format_of(metadata.source, metadata.format)
    log_format = FORMATS[name] if name else detect_format(lines[:50])[0]
    batch, timestamp = Batch(), read_query_time(query) or 0
    for record in log_format.split(lines):
        if not record or record.isspace():
            continue
        batch.append(record, source=metadata.source, timestamp=timestamp, host=query.get("host", ""), attributes=metadata.attributes)
    system = query.get("system", "")
    return HecBatch(batch, [system if system in SYSTEMS else ""] * len(batch), [""] * len(batch), [metadata.format] * len(batch))


def _read_columns(envelopes: Sequence[_Envelope], query: Mapping[str, str], agent: Agent) -> HecBatch:
    """Returns the records of envelopes, a column at a time; raises _InvalidError when any of them cannot be taken."""
    if not envelopes:
        return HecBatch()
    # The envelopes of a request have few different metadata: each is read once. Attributes are shared, nobody changes them in place.
    read = cache(partial(_read_metadata, query, agent))
    events, times, hosts, *names, fields = zip(*map(msgspec.structs.astuple, envelopes), strict=True)
    metadata = map(read, *names, _copy_raws(fields))
    source, service, attributes, system, environment, declared, severity_number, severity_text = map(list, zip(*metadata, strict=True))
    try:
        stamps = read_times(times)
    except ValueError:
        raise _InvalidError("Invalid data format", 6) from None
    default_host, default_time = query.get("host", ""), read_query_time(query) or 0
    batch = Batch(
        source=source,
        body=_read_texts(events),
        timestamp=[stamp or default_time for stamp in stamps] if default_time else stamps,
        severity_number=severity_number,
        severity_text=severity_text,
        host=[host or default_host for host in hosts],
        service=service,
        attributes=attributes,
        trace_id=[""] * len(source),
        span_id=[""] * len(source),
    )
    return HecBatch(batch, system, environment, declared)


def _read_texts(events: Sequence[msgspec.Raw | msgspec.UnsetType]) -> list[str]:
    """Returns the texts of events, all strings decoded at once; an event of another kind is its JSON."""
    if msgspec.UNSET in events:
        raise _InvalidError("Event field is required", 12)
    raws: list[bytes] = []
    try:
        texts = _decode_texts(b"[%s]" % b",".join(events))  # type: ignore[arg-type]
    except msgspec.ValidationError:
        raws = _copy_raws(events)  # type: ignore[arg-type]
        texts = _decode_texts(b"[%s]" % b",".join([raw for raw in raws if raw[0] == _QUOTE]))
    if "" in texts or any(map(str.isspace, texts)):
        raise _InvalidError("Event field cannot be blank", 13)
    if b"null" in raws:
        raise _InvalidError("Event field is required", 12)
    decoded = iter(texts)
    return [next(decoded) if raw[0] == _QUOTE else raw.decode() for raw in raws] or texts


def _copy_raws(raws: Sequence[msgspec.Raw]) -> list[bytes]:
    """Returns the bytes of each; copied together where none has a line end in it."""
    copies = b"\n".join(raws).split(b"\n")
    return copies if len(copies) == len(raws) else list(map(bytes, raws))


def declared_format(sourcetype: str) -> str:
    """Returns the format that a source type names, or empty text when it names none of ours."""
    return sourcetype if sourcetype in FORMATS else SOURCETYPES.get(sourcetype, "")


def _decode_envelopes(body: bytes, decoder: msgspec.json.Decoder[Any]) -> tuple[list[_Envelope], _InvalidError | None]:
    try:
        if len(body) > MAX_RECORDS and body.count(b"{") > MAX_RECORDS:  # decoded, empty ones take a hundred times more
            _check_count(len(_COUNTER.decode_lines(body)))
        return decoder.decode_lines(body), None
    except (msgspec.DecodeError, RecursionError):
        return _decode_one_by_one(body, decoder)


def _decode_one_by_one(body: bytes, decoder: msgspec.json.Decoder[Any]) -> tuple[list[_Envelope], _InvalidError | None]:
    """Decodes envelopes that share a line, or finds the first that is broken."""
    envelopes: list[_Envelope] = []
    scanner = json.JSONDecoder()
    text = body.decode()
    position, end = 0, len(text)
    while True:
        _check_count(len(envelopes))
        while position < end and text[position] in " \t\r\n":
            position += 1
        if position == end:
            return envelopes, None
        try:
            value, stop = scanner.raw_decode(text, position)
            envelopes.append(_decode_envelope(text[position:stop], value, decoder))
        except _InvalidError as error:
            return envelopes, error
        except (ValueError, RecursionError):
            return envelopes, _InvalidError("Invalid data format", 6)
        position = stop


def _check_count(envelopes: int) -> None:
    if envelopes > MAX_RECORDS:
        raise BodyTooLarge(f"the request has more than {MAX_RECORDS} events")


def _decode_envelope(text: str, value: Any, decoder: msgspec.json.Decoder[Any]) -> _Envelope:
    try:
        envelope: _Envelope = decoder.decode(text)
    except msgspec.ValidationError:
        if isinstance(value, dict) and not value.keys() <= set(_Envelope.__struct_fields__) and decoder is _STRICT_DECODER:
            raise _InvalidError("No data", 5) from None  # as splunkd does (open-telemetry/opentelemetry-collector-contrib#36096)
        raise
    except msgspec.DecodeError:
        # Half a surrogate pair, escaped: no Unicode text holds it, so it becomes the replacement character.
        repaired = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        envelope = decoder.decode(repaired)
    return envelope


def _read_metadata(
    query: Mapping[str, str], agent: Agent, source: str | None = None, sourcetype: str | None = None, index: str | None = None, fields: bytes = b""
) -> _Metadata:
    """Returns what the members of an envelope say, each of them in the query where the envelope has none."""
    sourcetype = sourcetype or query.get("sourcetype", "")
    given_source = source or query.get("source", "")
    index = index or query.get("index", "")
    attributes: dict[str, Any] = {}
    declared = dict.fromkeys(_DECLARATIONS, "")
    for name, value in _fields_of(fields).items():
        if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict | list) for item in value)):
            raise _InvalidError("Error in handling indexed fields", 15)
        if name in declared and isinstance(value, str):
            declared[name] = value
        else:
            attributes[name] = value
    if declared["system"] not in SYSTEMS:
        declared["system"] = ""
    severity_number, severity_text = _take_severity(attributes)
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
        format=declared_format(sourcetype or query.get(FORMAT_PARAMETER, "")),
        severity_number=severity_number,
        severity_text=severity_text,
    )


def _take_severity(attributes: dict[str, Any]) -> tuple[int, str]:
    """Returns number and text of the severity that indexed fields declare, taking it out of them; one that means nothing stays."""
    for name in _SEVERITIES:
        value = attributes.get(name)
        number = 0
        if isinstance(value, str):
            number = severity_of_number(int(value)) if value.isdecimal() and len(value) < 3 else severity_of_word(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            number = severity_of_number(value)
        if number:
            return number, str(attributes.pop(name))
    return 0, ""


def _fields_of(raw: bytes) -> dict[str, Any]:
    if raw in _NO_FIELDS:
        return {}
    try:
        fields = orjson.loads(raw)  # numbers beyond 64 bits become floats
    except orjson.JSONDecodeError:
        fields = None
    if type(fields) is not dict:
        raise _InvalidError("Error in handling indexed fields", 15)
    return fields
