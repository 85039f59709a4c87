"""Bodies of Elasticsearch's `_bulk`: actions and documents, from lines to a batch.

Source: reference wire-formats §3. A line that is no document is answered with an error of its own and kept as a rejected
event; its neighbours are taken. A document is a log record in the Elastic Common Schema (ECS) or in any loggers' names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC
from hashlib import blake2b
from typing import Any, Final

import msgspec
import orjson

from kit.errors import InvalidArgument
from services.ingest.batch import Batch
from services.ingest.formats.fields import spread_fields
from services.ingest.receivers.bodies import MAX_RECORDS, BodyTooLarge
from services.ingest.receivers.broken_json import mend_json
from services.ingest.receivers.elastic_fields import EcsReader
from services.ingest.rejections import Rejection, RejectReason
from services.ingest.tokens import Agent

MAX_DEPTH: Final = 64
"""Nesting that a document may have: later stages encode it again, and encoders bound their depth."""
MAX_NAMED_FIELDS: Final = 256
"""Members of a document whose names are looked up in the table of loggers' names; a larger one is read as ECS only."""
MAX_ACTIONS: Final = MAX_RECORDS
"""Actions in one request."""
MAX_CONTAINERS: Final = 2_000_000
"""Objects and arrays that a request may open: an empty one has two bytes there and many here."""
INDEX_ATTRIBUTE: Final = "elasticsearch.index"
_ACTION_HEADS: Final = (b'{"index"', b'{"create"', b'{"update"', b'{"delete"')
_BOM: Final = b"\xef\xbb\xbf"
_MALFORMED_ACTION: Final = "malformed action/metadata line, expected an object with one of index, create, update and delete"


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why an action failed for good, in Elasticsearch's terms."""

    type: str
    reason: str


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


class _BareActionLine(_ActionLine, gc=False, forbid_unknown_fields=True):
    """An action and nothing else, which is hardly ever a document."""


_decode_action: Final[Callable[[bytes], _ActionLine]] = msgspec.json.Decoder(_ActionLine).decode
_decode_bare_action: Final[Callable[[bytes], _ActionLine]] = msgspec.json.Decoder(_BareActionLine).decode
_NAMES: Final = _ActionLine.__struct_fields__


def decode_bulk(body: bytes, agent: Agent, index: str, max_record_bytes: int) -> BulkRequest:
    """Decodes a body; `index` is the one of the path, for actions that name none.

    Raises InvalidArgument when the body is empty or has no action line at all, BodyTooLarge when there is too much in it.
    """
    if body.count(b"\n") > 2 * MAX_ACTIONS:
        raise BodyTooLarge(f"the request has more than {MAX_ACTIONS} actions")
    if len(body) > MAX_CONTAINERS and body.count(b"{") + body.count(b"[") > MAX_CONTAINERS:
        raise BodyTooLarge(f"the request has more than {MAX_CONTAINERS} objects and arrays")
    lines = body.removeprefix(_BOM).split(b"\n")
    decoder = _Decoder(agent, max_record_bytes)
    position, end = 0, len(lines)
    actions: dict[bytes, Action] = {}
    while position < end:
        line = lines[position]
        position += 1
        if not line or line.isspace():
            continue
        action = actions.get(line)
        if action is None:
            action = _read_action(line, index)
            if action is None:
                # It has a document below it, unless an action comes there.
                if position < end and lines[position].strip() and _read_action(lines[position], index, _decode_bare_action) is None:
                    line = line + b"\n" + lines[position]
                    position += 1
                decoder.refuse(Action("index", index, ""), ItemError("illegal_argument_exception", _MALFORMED_ACTION), line)
                continue
            if not action.id:
                actions[line] = action
            decoder.understood = True
        if action.name == "delete":
            decoder.refuse(action, ItemError("illegal_argument_exception", "events are not deleted by their senders; retention does it"))
            continue
        source = lines[position] if position < end else b""
        if source.startswith(_ACTION_HEADS) and _read_action(source, index, _decode_bare_action) is not None:
            decoder.refuse(action, ItemError("illegal_argument_exception", "the action has no document"))
            continue
        position += 1
        decoder.add(action, source)
    if not decoder.understood:
        raise InvalidArgument(_MALFORMED_ACTION if decoder.request.actions else "request body is required")
    return decoder.request


class _Decoder:
    """Collects the records and errors of one request."""

    __slots__ = ("_ecs", "_max_record_bytes", "request", "understood")

    def __init__(self, agent: Agent, max_record_bytes: int) -> None:
        self._max_record_bytes = max_record_bytes
        self.request = BulkRequest()
        self._ecs = EcsReader(self.request.batch, self.request.environments, agent)
        self.understood = False
        """Whether there was an action."""

    def refuse(self, action: Action, error: ItemError, raw: bytes = b"") -> None:
        """Notes an action that fails; what it sent is kept as a rejected event, since some agents do not look at single errors."""
        request = self.request
        request.errors[len(request.actions)] = error
        if raw.strip():
            self._reject(action, RejectReason.INVALID_DOCUMENT, error.reason, raw)
        else:
            request.actions.append(action)
            request.rows.append(-1)

    def add(self, action: Action, source: bytes) -> None:
        """Takes the document of an action."""
        if len(source) > self._max_record_bytes:
            detail = f"the document has {len(source)} bytes, more than {self._max_record_bytes}"
            self._reject(action, RejectReason.RECORD_TOO_LARGE, detail, source)
            return
        try:
            document = orjson.loads(source)
        except orjson.JSONDecodeError as problem:
            mended = mend_json(source)
            if mended is None:
                reason = f"failed to parse: {problem}" if source.strip() else "the action has no document"
                self.refuse(action, ItemError("document_parsing_exception", reason), source)
                return
            source = mended
            document = orjson.loads(source)
        update = action.name == "update"
        if update and type(document) is dict:
            document = document.get("doc") or document.get("upsert")
            source = orjson.dumps(document) if document else source
        if type(document) is not dict:
            reason = "an update needs doc or upsert; scripts are not run" if update else "the document is not an object"
            self.refuse(action, ItemError("document_parsing_exception", reason), source)
            return
        # Whoever opens more than MAX_DEPTH opens more than half of that of one kind.
        if (source.count(b"{") > MAX_DEPTH // 2 or (b"[" in source and source.count(b"[") > MAX_DEPTH // 2)) and _is_deeper(document, MAX_DEPTH):
            self._reject(action, RejectReason.INVALID_DOCUMENT, f"the document is nested more than {MAX_DEPTH} deep", source)
            return
        request, index = self.request, action.index
        batch = request.batch
        row = len(batch.body)
        found = self._ecs.read(document, index)
        if action.id:
            # A repeated update with another content is another event, a repeated document is not.
            content = blake2b(source, digest_size=16).hexdigest() if update else ""
            request.keys.append(f"{index}\x00{action.id}\x00{content}")
        else:
            request.keys.append("")
        if not found:
            # The text is under another name, or the document itself is the record.
            batch.body[row] = source.decode("utf-8", "replace").strip()
            if len(document) <= MAX_NAMED_FIELDS:
                batch.attributes[row] = None
                spread_fields(batch, row, document, UTC)
        if index:
            attributes = batch.attributes[row]
            if attributes is None:
                batch.attributes[row] = {INDEX_ATTRIBUTE: index}
            else:
                attributes[INDEX_ATTRIBUTE] = index
        request.actions.append(action)
        request.rows.append(row)

    def _reject(self, action: Action, reason: RejectReason, detail: str, raw: bytes) -> None:
        request = self.request
        request.rejections.append(Rejection(self._ecs.name_origin(action.index)[0], reason, detail, raw))
        request.actions.append(action)
        request.rows.append(-1)


def _read_action(line: bytes, index: str, decode: Callable[[bytes], _ActionLine] = _decode_action) -> Action | None:
    try:
        found = decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    targets = msgspec.structs.astuple(found)
    if targets.count(msgspec.UNSET) != len(targets) - 1:
        return None
    target = next(target for target in targets if target is not msgspec.UNSET)
    return Action(_NAMES[targets.index(target)], target.index or index, "" if target.id is None else str(target.id))


def _is_deeper(document: dict[str, Any], limit: int) -> bool:
    """Says whether a value is nested more than `limit` deep, level by level."""
    level: list[Any] = [document]
    for _ in range(limit):
        level = [inner for value in level for inner in (value.values() if type(value) is dict else value) if type(inner) is dict or type(inner) is list]
        if not level:
            return False
    return True
