"""Keys: what in an event may also stand in an event of another system. Found by their shape, not by their name."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from services.correlate.evidence import Event

MAX_KEYS = 40
"""Keys of one event that are looked at."""
MAX_TEXT = 2000
_KEYS_PER_NODE = 4_000
_NODES = 5_000
SHINGLE = 4
"""Words in a row that count as a phrase."""
_DEPTH = 3
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@#-]{3,79}")
_ADDRESS = re.compile(r"((?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3})(?::\d{1,5})?")
_NUMBER = re.compile(r"[-+]?\d+(?:[.:,-]\d+)*[A-Za-z%]{0,3}")
_CLOCK = re.compile(r"\d{4}-\d\d-\d\dT?.*|\d\d?:\d\d(:\d\d.*)?|\d\d?/[A-Z][a-z]{2}/\d{4}.*")
_CODE = re.compile(r"\b(error|code|errno|rc|status)\s?[=:#]?\s?(-?\d{2,6})\b", re.IGNORECASE)
_LETTERS = re.compile(r"[A-Za-z]")
_DIGITS = re.compile(r"\d")
_NAME = re.compile(r"[A-Z][A-Z_-]{4,}|[A-Za-z]+(?:_[A-Za-z]+)+")
_WILDCARD = re.compile(r"<[a-z*]+>")
_WORD = re.compile(r"[A-Za-z][A-Za-z'_-]*")
_MEASURES = re.compile(r"time|date|duration|_ms|bytes|size|count|port|line|version|pid|thread|latency|elapsed|offset|length|percent", re.IGNORECASE)
_USER = re.compile(r"(^|[._-])user(name|id|_id)?$", re.IGNORECASE)


def extract_keys(event: Event) -> list[str]:
    """Returns the keys of an event, `kind:value`, the trace id first; the kinds are trace, id, address, user and code."""
    found: dict[str, None] = {}
    if event.trace_id:
        found[f"trace:{event.trace_id}"] = None
    for name, value in _flatten(event.attributes, "", 0):
        is_user, is_measure = _kind_of(name)
        if is_user and isinstance(value, str) and 3 <= len(value) <= 64:
            found[f"user:{value.lower()}"] = None
        elif isinstance(value, str) and len(value) > 80:
            for key in _keys_of_text(value[:MAX_TEXT]):
                found[key] = None
        else:
            text = str(value)
            if _DIGITS.search(text) and not (is_measure and _NUMBER.fullmatch(text)):
                key = to_key(text)
                if key:
                    found[key] = None
    for key in _keys_of_text(event.body[:MAX_TEXT]):
        found[key] = None
    return list(found)[:MAX_KEYS]


@lru_cache(4096)
def _kind_of(name: str) -> tuple[bool, bool]:
    """Says of the name of an attribute whether it is one of a user and whether it is one of a measure."""
    return bool(_USER.search(name)), bool(_MEASURES.search(name))


def to_key(text: str) -> str:
    """Returns the key that a value is, or empty text when it does not look like a name of one thing."""
    return _key_of(text) if _DIGITS.search(text) else ""


@lru_cache(16_384)
def _key_of(text: str) -> str:
    text = text.strip(".:,-")
    address = _ADDRESS.fullmatch(text)
    if address:
        return f"address:{address[1]}"
    if not 4 <= len(text) <= 80 or " " in text or _CLOCK.fullmatch(text):
        return ""
    if text.isdigit():
        # Leading zeros come and go between systems.
        number = text.lstrip("0")
        return f"id:{number}" if len(number) >= 6 else ""
    if _NUMBER.fullmatch(text) or not _LETTERS.search(text):
        return ""
    return f"id:{text.lower()}"


def phrases(text: str) -> set[str]:
    """Returns the phrases of a text: words in a row, in lower case, and single words that are written like a name (BATCH_SD, ETIMEDOUT)."""
    words = _WORD.findall(_WILDCARD.sub(" ", text[:MAX_TEXT]))
    lowered = [word.lower() for word in words]
    said = {" ".join(lowered[start : start + SHINGLE]) for start in range(len(lowered) - SHINGLE + 1)}
    return said | {word for word in words if _NAME.fullmatch(word)}


def words_of(text: str) -> set[str]:
    """Returns the tokens of a text in lower case, also without what follows a colon or the first dot: possible names of parts."""
    found: set[str] = set()
    for token in _TOKEN.findall(text[:MAX_TEXT].lower()):
        word = token.rstrip(".:-")
        found.add(word)
        if ":" in word:
            found.add(word.partition(":")[0])
        if "." in word:
            found.add(word.partition(".")[0])
    return found


def _keys_of_text(text: str) -> Iterator[str]:
    for token in _TOKEN.findall(text):
        key = to_key(token)
        if key:
            yield key
    for word, number in _CODE.findall(text):
        yield f"code:{word.lower()} {number}"


def _flatten(value: Any, name: str, depth: int) -> Iterator[tuple[str, str | int]]:
    if isinstance(value, dict) and depth < _DEPTH:
        for key, part in value.items():
            yield from _flatten(part, f"{name}.{key}" if name else str(key), depth + 1)
    elif isinstance(value, list) and depth < _DEPTH:
        for part in value[:20]:
            yield from _flatten(part, name, depth + 1)
    elif isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        yield name, value


class KeyBook:
    """Keys in sampled events: when each was first met, and how common it is in the ordinary events of a node.

    A key that was about long before a fault says little about it, and one that is in every line of a service says
    nothing.
    """

    def __init__(self, capacity: int = 300_000) -> None:
        self._capacity = capacity
        self._first: OrderedDict[str, int] = OrderedDict()
        self._ordinary: dict[object, Counter[str]] = {}
        self._events: Counter[object] = Counter()

    def meet(self, keys: Iterable[str], timestamp: int) -> None:
        """Notes keys of an event at a time (nanoseconds since 1970)."""
        for key in keys:
            first = self._first.get(key)
            if first is None or timestamp < first:
                self._first[key] = timestamp
            else:
                self._first.move_to_end(key)
        while len(self._first) > self._capacity:
            self._first.popitem(last=False)

    def meet_ordinary(self, node: object, keys: Iterable[str], timestamp: int) -> None:
        """Notes keys of an event of normal operation."""
        keys = list(keys)
        self.meet(keys, timestamp)
        known = self._ordinary.setdefault(node, Counter())
        known.update(key for key in keys if not key.startswith("trace:"))
        self._events[node] += 1
        if len(known) > _KEYS_PER_NODE:
            self._ordinary[node] = Counter(dict(known.most_common(_KEYS_PER_NODE // 2)))
        if len(self._ordinary) > _NODES:
            self._ordinary.clear()
            self._events.clear()

    def ordinary_share(self, node: object, key: str) -> float:
        """Returns the share of a node's ordinary events that have a key; 0 when none was sampled."""
        events = self._events[node]
        return self._ordinary[node][key] / events if events else 0.0

    def is_specific(self, key: str, since: int) -> bool:
        """Says whether a key is one of a transaction that began at or after a time."""
        return not key.startswith(("user:", "code:")) and self._first.get(key, since) >= since
