"""Fingerprints: a 64-bit hash of what stays the same in the bodies of one kind of event.

Variable parts (numbers, ids, addresses, quoted texts, paths …) become typed wildcards; what remains is the template, and
its xxh3 hash is the fingerprint. The function is stateless and must never change, because fingerprints are stored with
events: a better grouping belongs into the mapping from fingerprints to templates, not here. All expressions are ASCII
only, since what Unicode calls a letter or a digit differs between versions of Python.

No rule looks at which digit it sees. So the text is first reduced to one with every digit 0, and everything behind that
is a cache: of whole texts, of words (nearly all words were seen before), of word sequences.
"""

from __future__ import annotations

import re
from operator import itemgetter
from typing import Any, Final

from xxhash import xxh3_64_intdigest

from services.ingest.generations import Generations

MAX_CHARACTERS: Final = 4_096
"""Characters of a line that count; what is behind them does not change the fingerprint."""
MAX_EXCEPTIONS: Final = 8
"""Exception classes of a stack trace that count, from the top."""

_SEPARATOR: Final = "\x1e"
_SAME_DIGIT: Final = bytes.maketrans(b"123456789", b"000000000")
_CACHED_BYTES: Final = 2_048

_EXCEPTION = re.compile(
    r"^(?:Caused by: |Suppressed: )?((?:[A-Za-z_$][\w$]*\.)*[A-Z][\w$]*(?:Exception|Error|Throwable|Failure|Fault))\b", re.ASCII | re.MULTILINE
)

# Spans that hold blanks or separators, before the text is cut into words. A quoted name before a colon is a key of JSON.
_MASK = re.compile(r"\[[a-z][a-z0-9_]{0,31}:[0-9a-f]{12}\]", re.ASCII)
_SPAN = re.compile(
    rf"(?P<mask>{_MASK.pattern})"
    r"|\"(?:(?P<method>[A-Z]{3,8}) /[^\"\s]*(?: HTTP/[0-9.]+)?|[^\"\\\n]*|(?:[^\"\\\n]|\\.){0,256})\"(?P<key>\s?:)?"
    r"|'(?<!\w')(?:[^'\\\n]*|(?:[^'\\\n]|\\.){0,256})'(?!\w)|`[^`\n]*`",
    re.ASCII,
)
_QUERY = re.compile(r"(/[\w.@+~%$:/-]*)\?[^\s\"'<>]*", re.ASCII)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,15}://[^\s\"'<>\])},;]+", re.ASCII)
_PIECE = re.compile(r"[^\s=,;()\[\]{}<>|\"'`&?!*]+", re.ASCII)
_PAIR = re.compile(r"([A-Za-z_][\w.-]*)=([^\s,;&)\]}\"']+)", re.ASCII)
_IDENTITY: Final = frozenset(
    (
        *("user", "username", "user_name", "login", "logname", "ruser", "account", "owner", "group", "email", "tenant", "client_id"),
        *("host", "hostname", "rhost", "node", "server", "client", "peer", "remote", "addr", "address", "ip", "src", "dst", "source", "dest", "from", "to"),
        *("path", "file", "filename", "dir", "uri", "url", "name", "id", "session", "tty", "queue", "topic", "table"),
    )
)
"""Names whose value is an identity: variable whether it has digits or not."""

_NUMBER = re.compile(r"[-+~]?0+(?:[.,-]0+)*(?:[eE][-+]?0+)?(?:[KMGTPE]i?[Bb]?|[Bb]ytes?|B|ns|us|ms|s|sec|secs|min|h|d|%)?", re.ASCII)
# Eight or sixteen hexadecimal digits may be all decimal by chance: they are numbers like those.
_HEX = re.compile(
    r"0[xX][0-9A-Fa-f]+|(?=[0-9A-Fa-f]*[A-Fa-f])(?:[0-9A-Fa-f]{32}|[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})|(?:[0-9A-Fa-f]{2}[:-]){4,}[0-9A-Fa-f]{2}", re.ASCII
)
_BARE_HEX = re.compile(r"[0-9A-Fa-f]{8}|[0-9A-Fa-f]{16}", re.ASCII)
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", re.ASCII)
_ADDRESS = re.compile(
    r"/?0{1,3}(?:\.0{1,3}){3}(?:[:/]0{1,5})?|(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}(?:%\w+)?"
    r"|(?::|(?:[0-9A-Fa-f]{1,4}:){1,6}):(?:[0-9A-Fa-f]{1,4}:){0,6}[0-9A-Fa-f]{1,4}(?:%\w+)?",
    re.ASCII,
)
_TIME = re.compile(
    r"0000[-/.]00[-/.]00(?:[T_-]00[:.]00(?:[:.]00)?(?:[.,:]0+)?(?:Z|[+-]00:?00)?)?|0?0:00:00(?:[.,:]0+)?(?:Z|[+-]00:?00)?"
    r"|00[/.]00[/.](?:00|0000)|00/(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)/0000:00:00:00",
    re.ASCII,
)
_PATH = re.compile(r"(?:~|\.{1,2})?(?:/+[\w.@+~%#$:-]+)+/*|[A-Za-z]:\\\S+|\\\\\S+|[\w.@+~%-]+(?:/+[\w.@+~%#$:-]+){2,}/*", re.ASCII)
_EMAIL = re.compile(r"[\w.%+-]+@(?:[\w-]+\.)+[A-Za-z]{2,24}", re.ASCII)
_COUNTRY = (
    "(?:de|fr|uk|nl|ch|es|pt|se|dk|fi|cz|sk|ru|ua|cn|jp|kr|tw|hk|sg|au|nz|ca|br|mx|ar|cl|tr|gr|hu|ro|bg|eu|us|il|za|th|vn|my|ph|pl|it|at|be|lt|lv|ee|ie|hr|rs)"
)
_HOST = re.compile(
    r"(?:[A-Za-z0-9_-]+\.)+(?:com|net|org|edu|gov|mil|int|info|biz|io|local|internal|corp|lan|localdomain)(?:\.[a-z]{2})?(?::0+)?"
    rf"|(?:[A-Za-z0-9_-]+\.){{2,}}{_COUNTRY}(?::0+)?",
    re.ASCII,
)
_DOTS = re.compile(r"(\.{2,})")
_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_DATE = re.compile(
    rf"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? )?(?:{_MONTH} <num>|<num>[ -]{_MONTH})(?:[ ,-]+<num>)?[ ,:]+<time>(?: [A-Z]{{3,4}}\b)?(?: <num>)?"
    r"|<time>(?:[ ,T]<time>|,<num>)+",
    re.ASCII,
)
_UNIT = re.compile(r"<num> (?:[KMGTPE]i?B|B|ns|us|ms|s|sec|secs|min|h)\b", re.ASCII)
_LIST = re.compile(r"(<\w+>)(?:[,;| ]+\1)+", re.ASCII)

# Who: the word behind "user" unless it goes on as prose, and "for … from <ip>" as the daemons of Unix write it.
_KINDS: Final = (
    ("<time>", _TIME),
    ("<ip>", _ADDRESS),
    ("<num>", _NUMBER),
    ("<num>", _BARE_HEX),
    ("<uuid>", _UUID),
    ("<hex>", _HEX),
    ("<email>", _EMAIL),
    ("<path>", _PATH),
    ("<host>", _HOST),
)

_PROSE = (
    "is|was|has|had|not|unknown|does|did|can|cannot|name|id|account|session|agent|data|input|auth\\w*|log\\w*|requests?|profile|group|space|mode"
    "|interface|with|from|in|on|at|to|for|and|or|by|of|the|already|limit|error|interrupt"
)
_WHO = re.compile(rf"(?<=\b[uU]ser )(?!(?:{_PROSE})\b)[\w.@$<>-]+|(?<= for )[\w.@$<>-]+(?= from <ip>)", re.ASCII)

_texts: Final[Generations[bytes, tuple[int, str]]] = Generations(40_000)
_words: Final[Generations[str, str]] = Generations(40_000)
_sequences: Final[Generations[str, tuple[int, str]]] = Generations(20_000)


def fingerprint_bodies(bodies: list[str]) -> tuple[list[int], dict[int, str]]:
    """Returns the fingerprint of each body (64 bits, unsigned) and, for each distinct fingerprint, its template."""
    joined = _SEPARATOR.join(bodies)
    if "\n" in joined or max(map(len, bodies), default=0) > MAX_CHARACTERS:
        bodies = [significant_text(body) if "\n" in body or len(body) > MAX_CHARACTERS else body for body in bodies]
        joined = _SEPARATOR.join(bodies)
    keys = joined.encode("utf-8", "surrogatepass").translate(_SAME_DIGIT).split(b"\x1e")
    if len(keys) != len(bodies):
        keys = [body.encode("utf-8", "surrogatepass").translate(_SAME_DIGIT) for body in bodies]
    known: list[Any] = list(map(_texts.young.get, keys))
    if None in known:
        known = [_look_up(key) if found is None else found for key, found in zip(keys, known, strict=True)]
    return list(map(itemgetter(0), known)), dict(known)


def _look_up(key: bytes) -> tuple[int, str]:
    """Returns fingerprint and template of a text that is not among the young ones."""
    known = _texts.get(key)
    if known is None:
        known = fingerprint_text(key.decode("utf-8", "surrogatepass"))
        if len(key) <= _CACHED_BYTES:
            _texts.put(key, known)
    return known


def significant_text(body: str) -> str:
    """Returns the part of a body that counts: its first line and the exception classes of its stack trace."""
    first, _, rest = body.lstrip().partition("\n")
    first = first[:MAX_CHARACTERS]
    classes = [match.group(1) for match, _ in zip(_EXCEPTION.finditer(rest), range(MAX_EXCEPTIONS), strict=False)] if rest else []
    return "\n".join((first, *classes)) if classes else first


def fingerprint_text(text: str) -> tuple[int, str]:
    """Returns fingerprint and template of a significant text in which every digit is 0."""
    text = _mask_spans(text)
    sequence = "\n".join(map(_mask_line, text.split("\n"))) if "\n" in text else _mask_line(text)
    known = _sequences.get(sequence)
    if known is None:
        template = _mask_sequence(sequence)
        known = (xxh3_64_intdigest(template.encode("utf-8", "surrogatepass")), template)
        _sequences.put(sequence, known)
    return known


def _mask_line(line: str) -> str:
    words = line.split()
    masked: list[Any] = list(map(_words.young.get, words))
    if None in masked:
        masked = [_mask_known(word) if found is None else found for word, found in zip(words, masked, strict=True)]
    return " ".join(masked)


def _mask_known(word: str) -> str:
    masked = _words.get(word)
    if masked is None:
        masked = mask_word(word)
        if len(word) < 128:
            _words.put(word, masked)
    return masked


def _mask_sequence(sequence: str) -> str:
    """Replaces what several words together are. Each search is for what cannot be without the text that is looked for first."""
    if "<time>" in sequence:
        sequence = _DATE.sub("<time>", sequence)
    if "<num> " in sequence:
        sequence = _UNIT.sub("<num>", sequence)
    if "<" in sequence:
        sequence = _LIST.sub(r"\1", sequence)
    return _WHO.sub("<str>", sequence) if "ser " in sequence or " for " in sequence else sequence


def _mask_spans(text: str) -> str:
    if '"' in text or "'" in text or "`" in text:
        return _SPAN.sub(_replace_span, text)
    return _MASK.sub("<mask>", text) if "[" in text else text


def _replace_span(match: re.Match[str]) -> str:
    if match["mask"]:
        return "<mask>"
    if match["key"]:
        return match.group()
    return f'"{match["method"]} <url>"' if match["method"] else "<str>"


def mask_word(word: str) -> str:
    """Returns a word (a text without blanks, every digit 0) with its variable pieces replaced by wildcards."""
    if word.isalpha():
        return word
    if "://" in word:
        word = _URL.sub("<url>", word)
    if "?" in word:
        word = _QUERY.sub(r"\1", word)
    if "=" in word:
        word = _PAIR.sub(_replace_pair, word)
    return _PIECE.sub(_replace_piece, word)


def _replace_pair(match: re.Match[str]) -> str:
    key, value = match.groups()
    if value.startswith("<"):
        return f"{key}={value}"
    if key.lower().rpartition(".")[2] in _IDENTITY:
        return f"{key}=<str>"
    return f"{key}={value}"


def _replace_piece(match: re.Match[str]) -> str:
    piece = match.group()
    core = piece.rstrip(".:")
    return _mask_piece(core) + piece[len(core) :] if core else piece


def _mask_piece(piece: str) -> str:
    """Returns the wildcard of a piece between separators, or the piece when it is constant."""
    if "0" not in piece:
        if "/" in piece or "\\" in piece:
            return "<path>" if _PATH.fullmatch(piece) and (piece[0] in "/~.\\" or piece.count("/") > 2 or ":\\" in piece) else piece
        if "@" in piece:
            return "<email>" if _EMAIL.fullmatch(piece) else piece
        return "<host>" if "." in piece and _HOST.fullmatch(piece) else piece
    for name, pattern in _KINDS:
        if pattern.fullmatch(piece):
            return name
    if ".." in piece:
        return "".join(part if part.startswith("..") else _mask_piece(part) if part else "" for part in _DOTS.split(piece))
    for separator in (":", "/", "@", "#"):
        if separator in piece:
            return separator.join(_mask_piece(part) if part else "" for part in piece.split(separator))
    return "<id>" if piece.strip("0.-_+$~") else "<num>"
