"""Bodies of Elasticsearch's `_bulk`: actions and documents, from lines to a batch.

Source: reference wire-formats §3. A line that is no document is answered with an error of its own and kept as a rejected
event; its neighbours are taken. A document is a log record in the Elastic Common Schema (ECS) or in any loggers' names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from hashlib import blake2b
from itertools import islice
from typing import Any, Final

import msgspec
import orjson

from kit.errors import InvalidArgument
from services.ingest.batch import Batch
from services.ingest.formats.fields import spread_fields
from services.ingest.generations import Generations
from services.ingest.receivers.bodies import MAX_RECORDS, BodyTooLarge, check_containers
from services.ingest.receivers.broken_json import mend_json
from services.ingest.receivers.elastic_fields import MAX_INDEX, EcsRow, StampReader, name_origin, read_row
from services.ingest.receivers.elastic_frames import MAX_FRAME, Frame, cut_documents, read_frame
from services.ingest.rejections import Rejection, RejectReason
from services.ingest.tokens import Agent

MAX_DEPTH: Final = 64
"""Nesting that a document may have: later stages encode it again, and encoders bound their depth."""
MAX_NAMED_FIELDS: Final = 256
"""Members of a document whose names are looked up in the table of loggers' names; a larger one is read as ECS only."""
MAX_ACTIONS: Final = MAX_RECORDS
"""Actions in one request."""
MAX_REJECTED: Final = 20_000
"""Documents of one request that are kept as rejected: each is sealed and stored by itself."""
INDEX_ATTRIBUTE: Final = "elasticsearch.index"
_ACTION_HEADS: Final = (b'{"index"', b'{"create"', b'{"update"', b'{"delete"')
_BOM: Final = b"\xef\xbb\xbf"
_NO_SOURCE: Final = b"{}"
_known_rows: Final[Generations[tuple[tuple[str, str], str, Frame], EcsRow]] = Generations(1_024)
"""What documents say, by name and source of their token, their index and their frame."""
TOGETHER: Final = 1_000
"""Documents that are read together: what they are made of then stays in the cache of a processor."""
MAX_MISSED: Final = 256
"""New frames of a request that are read: when there are more, its documents have little in common, and each is read by itself."""


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why an action failed for good, in Elasticsearch's terms."""

    type: str
    reason: str


_MALFORMED: Final = ItemError("illegal_argument_exception", "malformed action/metadata line, expected an object with one of index, create, update and delete")
_DELETION: Final = ItemError("illegal_argument_exception", "events are not deleted by their senders; retention does it")
_NO_DOCUMENT: Final = ItemError("illegal_argument_exception", "the action has no document")


class Action(msgspec.Struct, frozen=True, gc=False):
    """What a line asks for: its name (`index`, `create`, `update`, `delete`), the index and the document's id (or "")."""

    name: str
    index: str
    id: str


@dataclass(slots=True)
class BulkRequest:
    """A decoded body. `batch`, `environments` and `keys` are parallel; so are `actions` and `rows`."""

    batch: Batch = field(default_factory=Batch)
    environments: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    """What recognises a record in whatever request it comes; empty where the sender gave no id."""
    actions: list[Action] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    """The row of the batch that an action became; -1: it is among the rejections or has an error."""
    errors: dict[int, ItemError] = field(default_factory=dict)
    """Errors by the number of their action."""
    rejections: list[Rejection] = field(default_factory=list)

    @property
    def record_keys(self) -> list[str] | None:
        """The keys, or None when no record has one."""
        return self.keys if any(self.keys) else None


class _Target(msgspec.Struct, gc=False):
    index: str | None = msgspec.field(name="_index", default=None)
    id: str | int | None = msgspec.field(name="_id", default=None)


class _ActionLine(msgspec.Struct, gc=False):
    """An action. Further members are ignored, as Elasticsearch 8 does: winston-elasticsearch sends `attempts`."""

    index: _Target | msgspec.UnsetType = msgspec.UNSET
    create: _Target | msgspec.UnsetType = msgspec.UNSET
    update: _Target | msgspec.UnsetType = msgspec.UNSET
    delete: _Target | msgspec.UnsetType = msgspec.UNSET


class _BareTarget(_Target, gc=False, forbid_unknown_fields=True):
    """What Elasticsearch lets an action say, and nothing else."""

    type: Any = msgspec.field(name="_type", default=None)
    routing: Any = None
    version: Any = None
    version_type: Any = None
    pipeline: Any = None
    op_type: Any = None
    retry_on_conflict: Any = None
    require_alias: Any = None
    require_data_stream: Any = None
    dynamic_templates: Any = None
    if_seq_no: Any = None
    if_primary_term: Any = None
    list_executed_pipelines: Any = None


class _BareActionLine(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An action and nothing else, which is hardly ever a document."""

    index: _BareTarget | msgspec.UnsetType = msgspec.UNSET
    create: _BareTarget | msgspec.UnsetType = msgspec.UNSET
    update: _BareTarget | msgspec.UnsetType = msgspec.UNSET
    delete: _BareTarget | msgspec.UnsetType = msgspec.UNSET


_Decode = Callable[[bytes], _ActionLine | _BareActionLine]
_decode_action: Final[_Decode] = msgspec.json.Decoder(_ActionLine).decode
_decode_bare_action: Final[_Decode] = msgspec.json.Decoder(_BareActionLine).decode
_NAMES: Final = _ActionLine.__struct_fields__


def decode_bulk(body: bytes, agent: Agent, index: str, max_record_bytes: int) -> BulkRequest:
    """Decodes a body; `index` is the one of the path, for actions that name none.

    Raises InvalidArgument when the body is empty or has no action line at all, BodyTooLarge when there is too much in it.
    """
    if len(body) > 2 * MAX_ACTIONS and body.count(b"\n") > 2 * MAX_ACTIONS:
        raise BodyTooLarge(f"the request has more than {MAX_ACTIONS} actions")
    check_containers(body)
    index = index[:MAX_INDEX]
    decoder = _Decoder(agent, max_record_bytes)
    items = _pair_lines(body.removeprefix(_BOM).split(b"\n"), index)
    while some := list(islice(items, TOGETHER)):
        decoder.read(some)
        if len(decoder.request.actions) > MAX_ACTIONS:
            raise BodyTooLarge(f"the request has more than {MAX_ACTIONS} actions")
        if len(decoder.request.rejections) > MAX_REJECTED:
            raise BodyTooLarge(f"the request has more than {MAX_REJECTED} documents that are none")
    decoder.fill_batch()
    if not decoder.understood:
        raise InvalidArgument(_MALFORMED.reason if decoder.request.actions else "request body is required")
    return decoder.request


def _pair_lines(lines: Sequence[bytes], index: str) -> Iterator[tuple[Action, bytes, ItemError | None]]:
    """Yields actions with their documents; one that fails comes with its error and with what is to be kept of it."""
    position, end = 0, len(lines)
    actions: dict[bytes, Action] = {}
    while position < end:
        line = lines[position]
        position += 1
        action = actions.get(line)
        if action is None:
            if not line or line.isspace():
                continue
            action = _read_action(line, index)
            if action is None:
                # It has a document below it, unless an action comes there.
                if position < end and lines[position].strip() and _read_action(lines[position], index, _decode_bare_action) is None:
                    line = line + b"\n" + lines[position]
                    position += 1
                yield Action("index", index, ""), line, _MALFORMED
                continue
            if not action.id:
                actions[line] = action
        if action.name == "delete":
            yield action, b"", _DELETION
            continue
        source = lines[position] if position < end else b""
        if source.startswith(_ACTION_HEADS) and _read_action(source, index, _decode_bare_action) is not None:
            yield action, b"", _NO_DOCUMENT
            continue
        position += 1
        yield action, source, None


class _Decoder:
    """Collects the records and errors of one request."""

    __slots__ = ("_agent", "_max_record_bytes", "_missed", "_named", "_rows", "_stamps", "_unnamed", "request", "understood")

    def __init__(self, agent: Agent, max_record_bytes: int) -> None:
        self._agent = agent
        self._named = (agent.name, agent.source)
        self._max_record_bytes = max_record_bytes
        self._stamps = StampReader()
        self._rows: list[EcsRow] = []
        self._unnamed: list[tuple[int, bytes, dict[str, Any], str]] = []
        """Records whose text is under no name of ECS: row, document as it came and decoded, index."""
        self._missed = 0
        """Documents whose frame was new."""
        self.request = BulkRequest()
        self.understood = False
        """Whether there was an action."""

    def read(self, items: Sequence[tuple[Action, bytes, ItemError | None]]) -> None:
        """Takes the next actions of the request."""
        request, rows = self.request, self._rows
        actions, numbers, keys, bodies, stamps = request.actions, request.rows, request.keys, request.batch.body, request.batch.timestamp
        frames, texts, times = cut_documents([_NO_SOURCE if error else source for _, source, error in items], self._stamps)
        known, named, longest = _known_rows, self._named, self._max_record_bytes
        for (action, source, error), frame, text, time in zip(items, frames, texts, times, strict=True):
            if error is not None:
                self._refuse(action, error, source)
                self.understood = self.understood or error is not _MALFORMED
                continue
            self.understood = True
            content, row = "", None
            if frame is not None and len(source) <= longest and action.name != "update":
                row = known.young.get((named, action.index, frame)) or self._recall_row(frame, action.index)
            if row is None:
                found = self._read_document(action, source)
                if found is None:
                    continue
                row, text, time, content = found
            keys.append(f"{action.index}\x00{action.id}\x00{content}" if action.id else "")
            actions.append(action)
            numbers.append(len(rows))
            rows.append(row)
            bodies.append(text)
            stamps.append(time)

    def _recall_row(self, frame: Frame, index: str) -> EcsRow | None:
        """Returns what all documents with this frame say; None when each is to be read by itself."""
        key = (self._named, index, frame)
        row = _known_rows.get(key)
        if row is not None or self._missed == MAX_MISSED:
            return row
        self._missed += 1
        document = read_frame(frame)
        if document is None or _is_deeper(document, MAX_DEPTH):
            return None
        row = read_row(document, index, self._agent)
        if index:
            document[INDEX_ATTRIBUTE] = index
        if sum(map(len, frame)) <= MAX_FRAME:
            _known_rows.put(key, row)
        return row

    def _read_document(self, action: Action, source: bytes) -> tuple[EcsRow, str, int, str] | None:
        """Returns what a document says, its text, its time, and of an update the digest of its content; None when it is refused."""
        if len(source) > self._max_record_bytes:
            detail = f"the document has {len(source)} bytes, more than {self._max_record_bytes}"
            self._reject(action, RejectReason.RECORD_TOO_LARGE, detail, source)
            return None
        try:
            document = orjson.loads(source)
        except orjson.JSONDecodeError as problem:
            mended = mend_json(source)
            if mended is None:
                reason = f"failed to parse: {problem}" if source.strip() else _NO_DOCUMENT.reason
                self._refuse(action, ItemError("document_parsing_exception", reason), source)
                return None
            source = mended
            document = orjson.loads(source)
        update = action.name == "update"
        if update and type(document) is dict:
            document = document.get("doc") or document.get("upsert")
            source = orjson.dumps(document) if document else source
        if type(document) is not dict:
            reason = "an update needs doc or upsert; scripts are not run" if update else "the document is not an object"
            self._refuse(action, ItemError("document_parsing_exception", reason), source)
            return None
        # Whoever opens more than MAX_DEPTH opens more than half of that of one kind.
        if (source.count(b"{") > MAX_DEPTH // 2 or (b"[" in source and source.count(b"[") > MAX_DEPTH // 2)) and _is_deeper(document, MAX_DEPTH):
            self._reject(action, RejectReason.INVALID_DOCUMENT, f"the document is nested more than {MAX_DEPTH} deep", source)
            return None
        message = document.pop("message", None)
        found = type(message) is str and message != "" and not message.isspace()
        if not found and message is not None:
            document["message"] = message
        time = 0
        stamp = document.pop("@timestamp", None)
        if stamp is not None:
            time = self._stamps.read(stamp)
            if not time:
                document["@timestamp"] = stamp
        row = read_row(document, action.index, self._agent)
        if not found:
            self._unnamed.append((len(self._rows), source, document, action.index))
        elif action.index:
            document[INDEX_ATTRIBUTE] = action.index
        # A repeated update with another content is another event, a repeated document is not.
        content = blake2b(source, digest_size=16).hexdigest() if update and action.id else ""
        return row, message if found else "", time, content

    def fill_batch(self) -> None:
        """Fills the other columns of the batch."""
        rows, batch = self._rows, self.request.batch
        self.request.environments = [row.environment for row in rows]
        batch.source = [row.source for row in rows]
        batch.severity_number = [row.severity_number for row in rows]
        batch.severity_text = [row.severity_text for row in rows]
        batch.host = [row.host for row in rows]
        batch.service = [row.service for row in rows]
        batch.attributes = [row.attributes for row in rows]
        batch.trace_id = [row.trace_id for row in rows]
        batch.span_id = [row.span_id for row in rows]
        for number, source, document, index in self._unnamed:
            # The text is under another name, or the document itself is the record.
            batch.body[number] = source.decode("utf-8", "replace").strip()
            if len(document) <= MAX_NAMED_FIELDS:
                batch.attributes[number] = None
                spread_fields(batch, number, document, UTC)
            if index:
                batch.attributes[number] = {**(batch.attributes[number] or {}), INDEX_ATTRIBUTE: index}

    def _refuse(self, action: Action, error: ItemError, raw: bytes = b"") -> None:
        """Notes an action that fails; what it sent is kept as a rejected event, since some agents do not look at single errors."""
        request = self.request
        request.errors[len(request.actions)] = error
        if raw.strip():
            self._reject(action, RejectReason.INVALID_DOCUMENT, error.reason, raw)
        else:
            request.actions.append(action)
            request.rows.append(-1)

    def _reject(self, action: Action, reason: RejectReason, detail: str, raw: bytes) -> None:
        request = self.request
        request.rejections.append(Rejection(name_origin(self._agent, action.index)[0], reason, detail, raw))
        request.actions.append(action)
        request.rows.append(-1)


def _read_action(line: bytes, index: str, decode: _Decode = _decode_action) -> Action | None:
    try:
        found = decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    targets = msgspec.structs.astuple(found)
    if targets.count(msgspec.UNSET) != len(targets) - 1:
        return None
    target = next(target for target in targets if target is not msgspec.UNSET)
    return Action(_NAMES[targets.index(target)], (target.index or index)[:MAX_INDEX], "" if target.id is None else str(target.id))


def _is_deeper(document: dict[str, Any], limit: int) -> bool:
    """Says whether a value is nested more than `limit` deep, level by level."""
    level: list[Any] = [document]
    for _ in range(limit):
        level = [inner for value in level for inner in (value.values() if type(value) is dict else value) if type(inner) is dict or type(inner) is list]
        if not level:
            return False
    return True
