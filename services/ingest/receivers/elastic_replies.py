"""Replies in Elasticsearch's shapes: errors, the items of `_bulk`, and `filter_path`.

Source: reference wire-formats §3. Clients search the raw text for `"errors":true` and `"errors":false,"items":[`, so the JSON
is compact and `errors` stands right before `items`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Final

import orjson
from starlette.responses import Response

from kit.errors import DeadlineExceeded, ElisError, InvalidArgument, PermissionDenied, RateLimited, Unauthenticated, Unavailable
from services.ingest.groups import Outcome
from services.ingest.receivers.bodies import BodyTooLarge, UnsupportedEncoding
from services.ingest.receivers.elastic_documents import Action, BulkRequest, ItemError

PRODUCT: Final = {"X-Elastic-Product": "Elasticsearch"}
"""Official clients refuse to talk to a server that does not send it."""
MEDIA_TYPE: Final = "application/json"
CREATED: Final = 201
RECOGNISED: Final = 200
"""A document that was stored before: not 409, which some agents retry for ever."""
FAILED: Final = 400
MAX_FILTER: Final = 1_000
MAX_FILTER_PATHS: Final = 32

_ERRORS: Final[tuple[tuple[type[ElisError], int, str], ...]] = (
    (BodyTooLarge, 413, "content_too_long_exception"),
    (UnsupportedEncoding, 406, "media_type_header_exception"),
    (InvalidArgument, 400, "illegal_argument_exception"),
    (Unauthenticated, 401, "security_exception"),
    (PermissionDenied, 403, "security_exception"),
    # What a retry helps with is 429 whatever the reason: it is the one status that every client retries.
    (RateLimited, 429, "es_rejected_execution_exception"),
    (Unavailable, 429, "es_rejected_execution_exception"),
    (DeadlineExceeded, 429, "es_rejected_execution_exception"),
)

_Pattern = tuple[str, ...]
_NOTHING: Final = object()


def json_reply(content: Any, filter_path: str = "", status: int = 200) -> Response:
    """Returns a JSON response, cut down to what `filter_path` names."""
    paths = parse_filter(filter_path)
    if paths:
        content = select(content, paths)
        content = {} if content is _NOTHING else content
    return Response(orjson.dumps(content), status, PRODUCT, MEDIA_TYPE)


def error_reply(error: ElisError) -> Response:
    """Returns the response to a request that failed as a whole."""
    status, kind = next(((status, kind) for known, status, kind in _ERRORS if isinstance(error, known)), (500, "exception"))
    headers = dict(PRODUCT)
    if status == 429:
        headers["Retry-After"] = str(max(1, math.ceil(float(error.detail.get("retry_after", 1.0)))))
    if status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="security", charset="UTF-8", ApiKey'
    return Response(orjson.dumps(error_body(kind, error.message, status)), status, headers, MEDIA_TYPE)


def error_body(kind: str, reason: str, status: int) -> dict[str, Any]:
    """Returns the body of an error."""
    cause = {"type": kind, "reason": reason}
    return {"error": {"root_cause": [cause], **cause}, "status": status}


def bulk_reply(request: BulkRequest, outcome: Outcome, took: int, filter_path: str = "") -> bytes:
    """Returns the body of the reply to `_bulk`: one item per action, in their order. `took` is in milliseconds."""
    paths = parse_filter(filter_path)
    parts: list[bytes] = []
    if not paths or () in _narrow(paths, "took"):
        parts.append(b'"took":%d' % took)
    if not paths or () in _narrow(paths, "errors"):
        parts.append(b'"errors":true' if request.errors else b'"errors":false')
    inside = _narrow(paths, "items") if paths else ()
    if not paths or inside:
        items = b",".join(_items(request, outcome, inside))
        if items or not paths:
            parts.append(b'"items":[' + items + b"]")
    return b"{" + b",".join(parts) + b"}"


def _items(request: BulkRequest, outcome: Outcome, paths: tuple[_Pattern, ...]) -> Iterable[bytes]:
    """Yields the items that the paths leave something of. Those that differ only in their id are encoded once."""
    recognised = outcome.duplicate_rows
    # A request without ids is recognised as a whole.
    all_known = not recognised and outcome.duplicates > 0 and outcome.accepted == 0
    known: dict[tuple[str, str, int, ItemError | None], tuple[bytes, bytes]] = {}
    shows_id = not paths or any(_narrow(_narrow(paths, action), "_id") for action in ("index", "create", "update"))
    errors = request.errors
    for number, (action, row) in enumerate(zip(request.actions, request.rows, strict=True)):
        error = errors.get(number)
        status = FAILED if error is not None else RECOGNISED if all_known or row in recognised else CREATED
        key = (action.name, action.index, status, error)
        if key not in known:
            known[key] = _encode_around(action.name, action.index, status, error, paths)
        head, tail = known[key]
        if action.id and shows_id:
            item = head + b',"_id":' + orjson.dumps(action.id) + tail if not paths else _encode_item(action, status, error, paths)
        else:
            item = head + tail
        if item:
            yield item


def _encode_around(name: str, index: str, status: int, error: ItemError | None, paths: tuple[_Pattern, ...]) -> tuple[bytes, bytes]:
    """Returns an item without an id in two parts, between which the id goes when nothing is filtered."""
    if paths:
        return _encode_item(Action(name, index, ""), status, error, paths), b""
    return b'{"%b":{"_index":%b' % (name.encode(), orjson.dumps(index)), b",%b}" % orjson.dumps(_describe(status, error))[1:]


def _describe(status: int, error: ItemError | None) -> dict[str, Any]:
    return {"status": status} if error is None else {"status": status, "error": {"type": error.type, "reason": error.reason}}


def _encode_item(action: Action, status: int, error: ItemError | None, paths: tuple[_Pattern, ...]) -> bytes:
    result = _describe(status, error)
    item: Any = {action.name: {"_index": action.index, "_id": action.id, **result} if action.id else {"_index": action.index, **result}}
    if paths and () not in paths:
        item = select(item, paths)
        if item is _NOTHING:
            return b""
    return orjson.dumps(item)


@lru_cache(maxsize=64)
def parse_filter(text: str) -> tuple[_Pattern, ...]:
    """Returns the paths of a `filter_path`, each as its segments. What is excluded (`-path`) is sent all the same.

    Raises InvalidArgument when there is more of it than a client ever sends.
    """
    paths = tuple(tuple(path.strip().split(".")) for path in text.split(",") if path.strip() and not path.strip().startswith("-"))
    if len(text) > MAX_FILTER or len(paths) > MAX_FILTER_PATHS:
        raise InvalidArgument(f"filter_path has more than {MAX_FILTER} characters or {MAX_FILTER_PATHS} paths")
    return paths


def select(value: Any, paths: tuple[_Pattern, ...]) -> Any:
    """Returns what the paths name in a JSON value, or a marker for nothing. A list is looked into item by item."""
    if () in paths:
        return value
    if type(value) is list:
        kept = [inner for item in value if (inner := select(item, paths)) is not _NOTHING]
        return kept or _NOTHING
    if type(value) is not dict:
        return _NOTHING
    found = {key: inner for key, member in value.items() if (deeper := _narrow(paths, key)) and (inner := select(member, deeper)) is not _NOTHING}
    return found or _NOTHING


@lru_cache(maxsize=1_024)
def _narrow(paths: tuple[_Pattern, ...], key: str) -> tuple[_Pattern, ...]:
    """Returns what is left of the paths below a member."""
    left: list[_Pattern] = []
    for path in paths:
        if not path:
            left.append(path)
        elif path[0] == "**":
            left += [path, *_narrow((path[1:],), key)]
        elif fnmatchcase(key, path[0]):
            left.append(path[1:])
    return tuple(dict.fromkeys(left))  # many ** would lead to the same over and over
