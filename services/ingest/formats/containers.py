"""What container runtimes wrap around the lines of a program: joining the pieces and lines, and parsing what is inside.

The program's lines may be of any format. Inside of one call the texts are grouped by how they begin, and the format of each
group is detected from a few of its lines: a bounded cost, and a source may hold many programs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Final

from services.ingest.batch import Batch
from services.ingest.formats.base import Format, parse_rows
from services.ingest.formats.continuation import MAX_BYTES, TraceJoiner

SAMPLE: Final = 8
"""Texts of a group that detection looks at."""
MAX_GROUPS: Final = 8
"""Groups that get a format of their own; the texts of others are detected together."""
OPENING: Final = 12
"""Characters that texts are grouped by."""
LONGEST_LINE: Final = 2_048
"""Characters of a text that detection looks at."""

_SHAPE: Final = {**dict.fromkeys(range(48, 58), "0"), **dict.fromkeys(range(65, 91), "A"), **dict.fromkeys(range(97, 123), "a")}


@dataclass(slots=True)
class Entry:
    """A line of a program as a runtime wrapped it."""

    stream: str
    stamp: int
    """Nanoseconds since 1970; 0 when it is not known."""
    text: str
    head: str
    """What stands in front of the text, or the whole wrapper."""
    whole: bool
    """Whether the line ends here; else its next piece follows in the same stream."""
    extra: int = field(default=0)
    """Pieces and lines that were joined to it."""


def join_entries(entries: Iterable[Entry | str], spell: Callable[[Entry], str]) -> list[str]:
    """Joins the pieces of a line, and the lines of a stack trace, within each stream; returns the records as `spell` writes them.

    A text among the entries is a line without a wrapper: a record of its own; a blank line is one too, unless it is
    inside of a stack trace. A stack trace is joined while its lines are at most QUIET_NANOSECONDS apart, and within the bounds of a
    joined record.
    """
    order: list[Entry | str] = []
    last: dict[str, Entry] = {}
    open_piece: dict[str, Entry] = {}
    joiners: defaultdict[str, TraceJoiner] = defaultdict(TraceJoiner)
    blank: defaultdict[str, list[Entry]] = defaultdict(list)  # since the last line with a text
    inside: set[int] = set()
    for entry in entries:
        if isinstance(entry, str):
            order.append(entry)
            continue
        stream = entry.stream
        if entry.whole and stream not in open_piece and (not entry.text or entry.text.isspace()):
            blank[stream].append(entry)
            order.append(entry)
            continue
        piece = open_piece.pop(stream, None)
        if piece is not None and len(piece.text) + len(entry.text) <= MAX_BYTES // 4:
            piece.text += entry.text
            piece.extra += 1
            piece.whole = entry.whole
            if not entry.whole:
                open_piece[stream] = piece
            continue
        above = last.get(stream)
        between = blank.pop(stream, ())
        joins = bool(entry.text) and joiners[stream].takes(entry.text, entry.stamp)
        if joins and above is not None and above.whole:
            inside.update(map(id, between))
            above.text += f"\n{entry.text}"
            above.extra += 1
            if not entry.whole:
                above.whole = False
                open_piece[stream] = above
            continue
        if not entry.whole:
            open_piece[stream] = entry
        last[stream] = entry
        order.append(entry)
    return [entry if isinstance(entry, str) else spell(entry) for entry in order if id(entry) not in inside]


class InnerFormats:
    """The formats that a program inside a container may write."""

    def __init__(self, formats: Sequence[Format], fallback: Format) -> None:
        """`fallback` takes what no other format wants."""
        self._formats = tuple(formats)
        self._fallback = fallback

    def parse(self, batch: Batch, rows: Sequence[int], zone: tzinfo) -> None:
        """Parses the bodies of the rows, each group of like ones by its own format."""
        groups: dict[str, list[int]] = {}
        bodies = batch.body
        for row in rows:
            text = bodies[row]
            shape = "{" if text[:1] == "{" else text[:OPENING].translate(_SHAPE)
            if shape not in groups and len(groups) >= MAX_GROUPS:
                shape = ""
            groups.setdefault(shape, []).append(row)
        for members in groups.values():
            parse_rows(self._detect([bodies[row] for row in members[:SAMPLE]]), self._fallback, batch, members, zone)

    def _detect(self, texts: Sequence[str]) -> Format:
        lines = [text.partition("\n")[0][:LONGEST_LINE] for text in texts]
        best, confidence = self._fallback, self._fallback.detect(lines)
        for candidate in self._formats:
            sure = candidate.detect(lines)
            if sure > confidence:
                best, confidence = candidate, sure
        return best
