"""Named fields (of JSON, logfmt, key=value) onto columns: one table of the names that loggers give to the same things."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import tzinfo
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from services.ingest import severity
from services.ingest.batch import Batch
from services.ingest.formats.otel_shapes import TELLTALES, flatten_record, plain_value
from services.ingest.timestamps import epoch_nanos, parse_timestamp

_NAMES: Final[dict[str, tuple[str, ...]]] = {
    # In order of preference: the first name that a record has gives the column.
    "message": (
        "message",
        "msg",
        "@m",
        "body",
        "short_message",
        "textpayload",
        "event.original",
        "event",
        "fields.message",
        "renderedmessage",
        "log",
        "text",
        "@mt",
        "content",
        "_raw",
    ),
    "severity": (
        "severity_text",
        "severitytext",
        "log.level",
        "levelname",  # in front of level, which may be Python's number there
        "level",
        "severity",
        "loglevel",
        "log_level",
        "lvl",
        "@l",
        "priority",
        "s",
    ),
    "severity_number": ("severity_number", "severitynumber"),
    "timestamp": (
        "timeunixnano",
        "time_unix_nano",
        "@timestamp",
        "timestamp",
        "_time",
        "time",
        "ts",
        "@t",
        "datetime",
        "date",
        "eventtime",
        "asctime",
        "timemillis",
        "instant",
        "__realtime_timestamp",
        "t",
        "time_iso8601",
        "time_local",
        "requestreceivedtimestamp",
        "start_time",
        "observedtimeunixnano",
        "observed_timestamp",
        "observedtimestamp",
    ),
    "host": ("host.name", "host.hostname", "hostname", "host", "_hostname", "saphost", "computer", "machine", "node", "dvc"),
    "service": (
        "service.name",
        "service",
        "service_name",
        "servicename",
        "app",
        "app_name",
        "appname",
        "application",
        "syslog_identifier",
        "logger_name",
        "logger",
        "log.logger",
        "vendor_product",
    ),
    "trace_id": ("trace_id", "traceid", "trace.id", "dd.trace_id", "otel.trace_id", "traceparent", "@tr", "logging.googleapis.com/trace"),
    "span_id": ("span_id", "spanid", "span.id", "dd.span_id", "otel.span_id", "@sp", "logging.googleapis.com/spanid"),
}

_ROLES: Final[dict[str, tuple[str, int]]] = {name: (column, rank) for column, names in _NAMES.items() for rank, name in enumerate(names)}
_PARENTS: Final = frozenset(name.partition(".")[0] for name in _ROLES if "." in name)

_SEVERITY_ENUM: Final = {
    f"SEVERITY_NUMBER_{word}{step or ''}": start + max(step - 1, 0)
    for word, start in (("TRACE", 1), ("DEBUG", 5), ("INFO", 9), ("WARN", 13), ("ERROR", 17), ("FATAL", 21))
    for step in (0, 2, 3, 4)
}
"""Severity number by its name in the protobuf enumeration of OpenTelemetry."""

_Setter = Callable[[Batch, int, str, Any, tzinfo], bool]
"""Fills a column of a row from a field (its lower-case name and value); returns whether it took the value."""

MAX_REMEMBERED: Final = 8_192
"""Characters of a record whose choice of fields is remembered: the names in longer ones could fill the memory."""
MAX_NAMES: Final = 64
"""Names, and characters of each, that are remembered of a record that came without a text."""

_TRACE = re.compile(r"(?:[0-9a-f]{2}-)?([0-9a-f]{32})(?:-([0-9a-f]{16})-[0-9a-f]{2})?")
_HEXADECIMAL: Final = "0123456789abcdef"
_DURATION = re.compile(r"(?:[\d.]+(?:ns|us|ms|s|m)?)?", re.ASCII)
_LETTER = re.compile(r"[FEWI]|D[1-5]?")
_CLOCK = re.compile(r"\d{1,2}:\d{2}:\d{2}(?:[.,]\d{1,9})?", re.ASCII)
_SPAN = re.compile(r"[0-9a-f]{16}")


def spread_fields(batch: Batch, row: int, fields: dict[str, Any], zone: tzinfo) -> None:
    """Moves the fields that mean a column into row `row`; the rest become attributes. `fields` is used up.

    A field whose column the sender has filled already, or whose value is not understood, stays an attribute.
    The body becomes the message; without a message it stays the original text.
    """
    keys = tuple(fields)
    body = batch.body[row]
    short = len(body) <= MAX_REMEMBERED if body else _are_short(keys)
    flatten, parents, choices = _recall_plan(keys) if short else _make_plan(keys)
    if flatten:
        flatten_record(fields)
        keys = tuple(fields)
        short = short and (body != "" or _are_short(keys))
        _, parents, choices = _recall_plan(keys) if short else _make_plan(keys)
    if parents:
        nested = tuple((parent, tuple(fields[parent])) for parent in parents if type(fields[parent]) is dict)
        if nested:
            short = short and (body != "" or all(_are_short(inner) for _, inner in nested))
            choices = _recall_fields(keys, nested) if short else _choose_fields(keys, nested)
    for setter, name, key, inner in choices:
        if not inner:
            if setter(batch, row, name, fields[key], zone):
                del fields[key]
        elif setter(batch, row, name, fields[key][inner], zone):
            del fields[key][inner]
            if not fields[key]:
                del fields[key]
    present = batch.attributes[row]
    if present:
        fields |= present
    if fields:
        batch.attributes[row] = fields


_Choices = tuple[tuple[_Setter, str, str, str], ...]
"""Which fields fill which columns: setter, lower-case name, key, key in the nested object (or "")."""


def _are_short(keys: tuple[str, ...]) -> bool:
    """Returns whether the names of a record that has no text are few and short enough to be remembered."""
    return len(keys) <= MAX_NAMES and max(map(len, keys), default=0) <= MAX_NAMES


class _Plan(NamedTuple):
    """How a record with a set of keys is spread."""

    flatten: bool
    """Whether it is a record of OpenTelemetry, to be made flat first."""
    parents: tuple[str, ...]
    """Keys whose value may be an object with columns in it."""
    choices: _Choices
    """What fills the columns when no such value is an object."""


def _make_plan(keys: tuple[str, ...]) -> _Plan:
    return _Plan(not TELLTALES.isdisjoint(keys), tuple(key for key in keys if key.lower() in _PARENTS), _choose_fields(keys, ()))


_recall_plan = lru_cache(maxsize=4_096)(_make_plan)


def _choose_fields(keys: tuple[str, ...], nested: tuple[tuple[str, tuple[str, ...]], ...]) -> _Choices:
    """Returns which fields fill which columns.

    The records of a source have few sets of keys, so the choice is remembered.
    """
    inside = dict(nested)
    chosen: dict[str, tuple[int, str, str]] = {}
    times: list[tuple[int, str, str]] = []
    for key in keys:
        lower = key.lower()
        places = [(f"{lower}.{inner.lower()}", inner) for inner in inside[key]] if key in inside else [(lower, "")]
        for name, inner in places:
            role = _ROLES.get(name)
            if role is not None and role[0] == "timestamp":
                times.append((role[1], key, inner))
            elif role is not None and (role[0] not in chosen or role[1] < chosen[role[0]][0]):
                chosen[role[0]] = (role[1], key, inner)
    # Of the times the first one that is understood is taken: `time` may be a duration.
    found = [(_SETTERS[column], *chosen[column]) for column in _SETTERS if column in chosen]
    found += [(_set_timestamp, *place) for place in sorted(times, key=lambda place: place[0])]
    return tuple((setter, (inner or key).lower(), key, inner) for setter, _, key, inner in found)


_recall_fields = lru_cache(maxsize=4_096)(_choose_fields)


def is_column(name: str) -> bool:
    """Returns whether a field of that name may fill a column."""
    return name.lower() in _ROLES


def join_clock(fields: dict[str, Any]) -> None:
    """Makes one `timestamp` of the fields `date` and `time` (day and time of day), in place, unless there is an `eventtime` that names the moment."""
    day, clock = fields.get("date"), fields.get("time")
    if isinstance(day, str) and isinstance(clock, str) and _CLOCK.fullmatch(clock) and not epoch_nanos(fields.get("eventtime")) and "timestamp" not in fields:
        del fields["date"], fields["time"]
        fields["timestamp"] = f"{day} {clock}"


def add_pair(fields: dict[str, Any], key: str, value: Any) -> None:
    """Adds a pair of a text; the values of a key that comes again become a list, so that none is lost."""
    if key not in fields:
        fields[key] = value
    elif isinstance(fields[key], list):
        fields[key].append(value)
    else:
        fields[key] = [fields[key], value]


def typed_value(text: str) -> Any:
    """Returns the number that a bare value of key=value text writes, else the text. Leading zeros make it an id."""
    if text[:1] in "-0123456789" and _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    return text


_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,9})?", re.ASCII)


def _set_message(batch: Batch, row: int, key: str, value: Any, _: tzinfo) -> bool:
    if key == "body":
        value = plain_value(value)
    if isinstance(value, str):
        if not value or value.isspace():
            return False
        batch.body[row] = value.rstrip("\r\n") if value[-1] == "\n" else value
        return True
    if key == "message" and isinstance(value, list) and value and all(type(item) is int and 0 <= item < 256 for item in value):
        # What the journal writes for a text with control characters: its bytes.
        batch.body[row] = bytes(value).decode("utf-8", "replace")
        return True
    if key in ("body", "message") and isinstance(value, (dict, list)):
        batch.body[row] = orjson.dumps(value).decode()
        return True
    return False


def _set_severity_number(batch: Batch, row: int, _: str, value: Any, __: tzinfo) -> bool:
    if isinstance(value, str):
        value = _SEVERITY_ENUM.get(value)
    if batch.severity_number[row] or not isinstance(value, int) or not 1 <= value <= 24:
        return False
    batch.severity_number[row] = value
    return True


def _set_severity(batch: Batch, row: int, key: str, value: Any, _: tzinfo) -> bool:
    if key == "s" and not (isinstance(value, str) and _LETTER.fullmatch(value)):
        return False  # MongoDB's letter, and nothing else
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 2:
        value = int(value)
    if isinstance(value, str) and value and not batch.severity_text[row]:
        batch.severity_text[row] = value
        if not batch.severity_number[row]:
            batch.severity_number[row] = severity.severity_of_word(value)
        return True
    if isinstance(value, int) and not isinstance(value, bool) and not batch.severity_number[row]:
        batch.severity_number[row] = severity.severity_of_number(value)
        if batch.severity_number[row] and not batch.severity_text[row]:
            batch.severity_text[row] = str(value)
        return batch.severity_number[row] > 0
    return False


def _set_timestamp(batch: Batch, row: int, _: str, value: Any, zone: tzinfo) -> bool:
    if batch.timestamp[row]:
        return False
    nanos = parse_timestamp(value, zone) if isinstance(value, str) else _read_instant(value, zone) if isinstance(value, dict) else epoch_nanos(value)
    batch.timestamp[row] = nanos
    return nanos > 0


def _read_instant(value: dict[str, Any], zone: tzinfo) -> int:
    """Reads a time that is an object: of Log4j (`epochSecond`, `nanoOfSecond`), MongoDB (`$date`) or protobuf (`seconds`, `nanos`); or 0."""
    if len(value) == 1:
        date = value.get("$date")
        return parse_timestamp(date, zone) if isinstance(date, str) else epoch_nanos(date)
    for whole, part in (("epochSecond", "nanoOfSecond"), ("seconds", "nanos")):
        nanos = value.get(part)
        if whole in value and type(nanos) is int and 0 <= nanos < 1_000_000_000 and (seconds := epoch_nanos(value[whole])):
            return seconds + nanos
    return 0


def _set_host(batch: Batch, row: int, _: str, value: Any, __: tzinfo) -> bool:
    if batch.host[row] or not isinstance(value, str):
        return False
    batch.host[row] = value
    return True


def _set_service(batch: Batch, row: int, _: str, value: Any, __: tzinfo) -> bool:
    # Heroku's router writes the service time under this name.
    if batch.service[row] or not isinstance(value, str) or _DURATION.fullmatch(value):
        return False
    batch.service[row] = value
    return True


def _set_trace(batch: Batch, row: int, _: str, value: Any, __: tzinfo) -> bool:
    if batch.trace_id[row] or not isinstance(value, str):
        return False
    text = value.lower().removeprefix("0x")
    if text.startswith("projects/"):
        text = text.rpartition("/traces/")[2]
    if len(text) == 32 and not text.strip(_HEXADECIMAL):
        if text == "0" * 32:
            return False
        batch.trace_id[row] = text
        return True
    match = _TRACE.fullmatch(text) or _TRACE.fullmatch(text.replace("-", ""))
    if match is None or match.group(1) == "0" * 32:
        return False
    batch.trace_id[row] = match.group(1)
    if match.group(2) and not batch.span_id[row]:
        batch.span_id[row] = match.group(2)
    return True


def _set_span(batch: Batch, row: int, _: str, value: Any, __: tzinfo) -> bool:
    if batch.span_id[row] or not isinstance(value, str):
        return False
    text = value.lower().removeprefix("0x")
    if _SPAN.fullmatch(text) is None or text == "0" * 16:
        return False
    batch.span_id[row] = text
    return True


_SETTERS: Final[dict[str, _Setter]] = {
    "message": _set_message,
    "severity_number": _set_severity_number,
    "severity": _set_severity,
    "timestamp": _set_timestamp,
    "host": _set_host,
    "service": _set_service,
    "trace_id": _set_trace,
    "span_id": _set_span,
}
