"""The head of a plain log line: ids, a stamp in any layout, a level, process, thread and component, then the message.

One grammar for all layouts, not one pattern per product. A line is read as

    [ids] stamp [ids | LEVEL | [thread] | pid | component]* message

where what stands between stamp and message is taken as head only while it does not look like prose:
tokens with digits, dots, brackets or in capitals, up to a level word in capitals or brackets.
Two expressions do it: one up to the stamp (per layout), one from the stamp to the message (the same for all).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final, NamedTuple

from services.ingest import severity
from services.ingest.formats.line_pattern import LinePattern
from services.ingest.timestamps import LAYOUTS, Layout

_LEVEL = severity.LEVEL_PATTERN
_SPACE = r"[ \t]"
_BOX = r"\[[^\[\]\n]{0,200}\]|\([^()\n]{0,120}\)"
# A token of a head: it has a digit, a dot or the like, or is in capitals, or is the one small word in front of a level.
_WORD = r"[^\s\[\]|0-9./$#@_=]*[0-9./$#@_=][^\s\[\]|]*|[A-Z]{2,12}(?=[\s:|])|-{1,3}(?=\s)|[a-z]{2,16}(?= (?:- )?(?:[A-Z]{4,8}|\[[A-Z]{4,8}\])[\s:])"
_GAP = rf"{_SPACE}*+(?:(?:\||[-:]{_SPACE}|,){_SPACE}*+)?"
_MARK = (
    rf"(?:(?P<bare>{_LEVEL}|LOG(?=:)|(?<=[0-9] )[VDIWEF](?=[ /][A-Za-z]))(?=[\s:|,\]/-]|$)"
    rf"|\[(?:(?P<module>[\w.]{{1,40}}):)?(?P<boxed>(?i:{_LEVEL}|[diwef]))\d?{_SPACE}*\]"
    rf"|<(?P<angled>(?i:{_LEVEL}))>|(?P<small>debug|info|notice|warn|trace)(?=[\s:|]))"
)
_PID = rf"(?:(?P<pid>\d{{1,8}})(?:#\d+:|{_SPACE}+---?){_SPACE}+)?"
_COMPONENT = (
    r"(?:(?P<component>[A-Za-z_$](?>[\w.$/@#-]{0,120})(?::[\w.$/@#-]{1,60}){0,3}(?:\[\d{1,8}\])?)"
    rf"(?P<colon>{_SPACE}*:{_SPACE}+|:$|{_SPACE}+-+{_SPACE}|{_SPACE}+(?=\[)|{_SPACE}*\|{_SPACE}*))?"
)
_CONTEXT = rf"(?P<context>(?:\[(?:-|(?:req-|pid |client |tid |[0-9a-f]{{8,}})[^\[\]\n]{{0,200}})\]{_SPACE}*){{1,3}})?"

_THREAD = rf"(?P<box>\[(?:[^\[\]\n]|\[[^\[\]\n]{{0,80}}\]){{0,200}}\]{_SPACE}*)?"
# What may stand between a level and the message.
_BEHIND_LEVEL = rf"[\]:|,/]?{_SPACE}*(?:(?:--|[-|:]){_SPACE}+){{0,2}}{_PID}{_THREAD}{_COMPONENT}{_CONTEXT}(?P<dash>[-|:]{_SPACE}+)?(?P<message>.*)"
_LEVELLED = rf"{_GAP}(?P<mid>(?:(?>{_BOX}|{_WORD})\]?[ \t|:]{{1,3}}){{0,7}}?){_MARK}{_BEHIND_LEVEL}"
_UNLEVELLED = rf"(?P<gap>{_GAP})(?P<flow>stdout [FP] |stderr [FP] )?(?P<tag>[A-Za-z][\w.$/-]{{0,80}}\[\d{{1,8}}\]:{_SPACE}+)?(?P<rest>.*)"

_LEAD_ID = (
    rf"[\w.-]{{1,60}} +\| +|[DIWEFA], |\[?{_LEVEL}\]?:?[ \t|-]+(?:\[[^\[\]\n]{{1,80}}\][ \t]+)?|"
    rf"(?:(?>[^\s\[\]0-9._#/]*[0-9._#/][^\s\[\]]*|[A-Z](?=\s)){_SPACE}+){{1,3}}?"
)
# In front of an epoch number: a label in capitals or a dash, or the columns of a table, which go on behind the number.
_LEAD_LABEL = rf"(?:-|[A-Z][A-Z0-9_]{{1,30}}){_SPACE}+(?:\S{{1,80}}{_SPACE}+)?"
_LEAD_TABLE = rf"[0-9]\S{{0,80}}{_SPACE}+(?:\S{{1,80}}{_SPACE}+){{0,4}}?"
_LEADS: Final = (
    ("", tuple(name for name in LAYOUTS if name != "glog")),
    (_LEAD_ID, ("iso", "ctime", "ctime_year_first", "clf", "rfc2822", "slash", "slash_short")),
    (_LEAD_LABEL, ("epoch",)),
)


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A head: the layout of its stamp, the expression from the start of the line to the end of the stamp, and that of a whole line.

    Groups of `regex`: what stands in front of the stamp, and the stamp. Those of `lines` are the fields of HeadedLine, or of
    glog's own: level, stamp, process id, place in the source, message.
    """

    layout: Layout
    regex: re.Pattern[str]
    lines: LinePattern


class HeadedLine(NamedTuple):
    """The parts of a line with a stamp: with a level behind it, from `mid` to `message`, or without one, from `gap`."""

    lead: str
    stamp: str
    mid: str
    bare: str
    module: str
    boxed: str
    angled: str
    small: str
    pid: str
    box: str
    component: str
    colon: str
    context: str
    dash: str
    message: str
    gap: str
    flow: str
    tag: str
    rest: str


class HeadFields(NamedTuple):
    """What the ids of a head say."""

    level: str = ""
    host: str = ""
    component: str = ""
    pid: int = 0
    thread: str = ""
    file: str = ""
    client: str = ""
    rest: str = ""


@cache
def line_heads() -> tuple[Head, ...]:
    """Returns all heads in the order of trial; compiled once, at the first use."""
    heads = [_usual_head(name, rf"({lead})[\[(<]?({LAYOUTS[name].embedded})(?![0-9])[\])>]?") for lead, names in _LEADS for name in names]
    table = _usual_head("epoch", rf"({_LEAD_TABLE})({LAYOUTS['epoch'].embedded}){_SPACE}+-?[0-9]{{1,8}}(?={_SPACE})")
    glog = rf"([IWEFD])({LAYOUTS['glog'].embedded})(?= +\d)"
    place = r"(?> +(\d{1,8}) ([\w./-]+:\d+)\] ?)?(.*)"
    return (*heads, table, Head(LAYOUTS["glog"], re.compile(glog, re.ASCII), LinePattern(rf"(?>{glog}){place}", re.DOTALL)))


def _usual_head(layout: str, pattern: str) -> Head:
    return Head(LAYOUTS[layout], re.compile(pattern, re.ASCII), LinePattern(rf"(?>{pattern})(?:(?>{_LEVELLED})|{_UNLEVELLED})", re.DOTALL))


@cache
def any_head() -> LinePattern:
    """Returns the expression of lines that have any head; its group is not empty for them."""
    heads = "|".join(head.regex.pattern for head in line_heads())
    return LinePattern(rf"(?=({heads})).*", re.DOTALL, groups=1)


BEHIND_LEVEL: Final = LinePattern(_BEHIND_LEVEL, re.DOTALL)
"""From the end of a stamp to the message, where the level stands in front of the stamp."""

CLOCK_FIRST: Final = re.compile(
    rf"\[?\d{{1,2}}:\d\d(?::\d\d(?:[.,]\d{{1,9}})?)?(?: ?[AP]M)?\]?[ \t]+(?:\[[^\[\]]{{1,120}}\][ \t]+)?\[?(?P<level>{_LEVEL})(?=[\]\s:|])", re.ASCII
)
"""A line that has a time of day only, and behind it (and perhaps a thread) its level: `10:00:00,123 INFO [org.jboss.as] …`."""

LEVEL_FIRST: Final = re.compile(rf"\[?(?P<level>{_LEVEL})\]?(?::(?P<component>[\w.]{{1,80}}):|[ \t]*[:|][ \t]*|[ \t]+-[ \t]+|(?<=\])[ \t]*)", re.ASCII)
"""A line without a stamp that opens with its level: `ERROR:root:message`, `[WARN] message`."""

_LONGEST_TOKEN: Final = 256
"""Characters of a token that is classified, and remembered."""
_TOKEN = re.compile(r"\[[^\[\]]*\]|\([^()]*\)|[^\s|]+")
_HOST = re.compile(r"(?=\S*[0-9])[A-Za-z][\w.]*-[\w.:-]+$", re.ASCII)
_NAME = re.compile(r"[A-Za-z_$][\w.$/@#-]+$", re.ASCII)
_ZONES: Final = frozenset(("BST", "CST", "CDT", "HKT", "IST", "MST", "MDT", "SGT"))
"""Short names of time zones, which several zones have each: what stands behind such a time is read in the zone of the source."""
_NUMBER = re.compile(r"(?:pid[ :=]*)?([0-9]{1,8})(?:[:#]tid [0-9]+|#[0-9]+)?$", re.ASCII)
_WITH_TID = re.compile(r"pid ([0-9]{1,8}):tid ([0-9]+)$", re.ASCII)


@lru_cache(maxsize=16_384)
def classify(token: str) -> tuple[str, str]:
    """Returns kind and value of a token of a head that does not start with a digit."""
    inner = token[1:-1].strip() if token[0] in "[(" else token.strip("[]:,")
    if not inner.strip("-"):
        return "nothing", ""
    if len(inner) > 2 and inner.isupper() and severity.severity_of_word(inner):
        return "level", inner
    if number := _NUMBER.match(inner):
        return "pid", number.group(1)
    if inner.startswith("client "):
        return "client", inner[7:]
    if token[0] in "[(":
        return "box", inner
    if ".log" in inner:
        return "file", inner
    if _HOST.match(inner):
        return "host", inner
    return ("name", inner) if _NAME.match(inner) and inner not in _ZONES else ("rest", token)


def cut_tokens(text: str) -> list[str]:
    """Cuts a head at white space and bars; what is in brackets is one token."""
    if "[" in text or "(" in text or "|" in text:
        return _TOKEN.findall(text)
    return text.split()


@lru_cache(maxsize=16_384)
def read_head(lead: str, mid: str) -> HeadFields:
    """Sorts the ids in front of the stamp (`lead`) and between stamp and message (`mid`) into named fields.

    What fits no field is kept in `rest`, so that nothing of the line is lost.
    """
    level = host = component = thread = file = client = ""
    pid = 0
    rest: list[str] = []
    tokens = cut_tokens(lead)
    behind = len(tokens)
    if mid:
        tokens += cut_tokens(mid)
    for position, token in enumerate(tokens):
        if token[0].isdigit():
            if position >= behind and not pid and token.isdigit() and len(token) < 9:
                pid = int(token)
            elif ".log" in token and not file:
                file = token
            else:
                rest.append(token)
            continue
        kind, value = classify(token) if len(token) <= _LONGEST_TOKEN else ("rest", token)
        if kind == "name":
            if component:
                rest.append(component)
            component = value
        elif kind == "host":
            if host and host != value:
                rest.append(token)
            host = host or value
        elif kind == "pid" and not pid:
            pid = int(value)
            if (both := _WITH_TID.search(token[1:-1])) and not thread:
                thread = both.group(2)
        elif kind == "box" and not thread:
            thread = value
        elif kind == "level" and not level:
            level = value
        elif kind == "file" and not file:
            file = value
        elif kind == "client" and not client:
            client = value
        elif kind != "nothing":
            rest.append(token)
    return HeadFields(level, host, component, pid, thread, file, client, " ".join(rest))
