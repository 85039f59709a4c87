"""Documents that differ in nothing but their time and text: what the rest of them says is read once.

Agents send documents that are alike but for `@timestamp` and `message`. Both are cut out of the text of a document; what is
left is its frame, and nearly all documents have one of a few. A frame is read with a number of its own in each gap, one that is
nowhere else in it. Only if `@timestamp` and `message` then are these numbers, the gaps are where those stand: so however the
places of the cuts were found, a document means what its frame and the two values say.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Final

import msgspec
import orjson

from services.ingest.receivers.elastic_fields import StampReader

Frame = tuple[bytes, ...]
"""What is around the gaps of a document: two of them or, when it has no time, one."""
MAX_FRAME: Final = 2_048
"""Bytes of a frame that is worth remembering."""
_GAPS: Final = (7_095_081_623_814, 7_095_081_623_815)
"""What is read in the gaps."""
_GAP_TEXTS: Final = tuple(b"%d" % number for number in _GAPS)
_QUOTE: Final = 0x22
_NULL: Final = b"null"
_EMPTY: Final = b'""'


class _Outline(msgspec.Struct, gc=False):
    message: msgspec.Raw = msgspec.Raw(_NULL)
    stamp: msgspec.Raw = msgspec.field(name="@timestamp", default=msgspec.Raw(_NULL))


_NOTHING: Final = _Outline()
_DECODER: Final = msgspec.json.Decoder(_Outline)
_decode_texts: Final = msgspec.json.Decoder(list[str]).decode
_BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def cut_documents(sources: Sequence[bytes], stamps: StampReader) -> tuple[list[Frame | None], list[str], list[int]]:
    """Returns frames, texts and times (nanoseconds since 1970; 0: none) of documents, none of which has a line end in it.

    A document has no frame when its text or its time is not written as one.
    """
    if not sources:
        return [], [], []
    outlines = _decode_outlines(sources)
    raw_texts, texts = _read_strings([outline.message for outline in outlines])
    raw_stamps, stamp_texts = _read_strings([outline.stamp for outline in outlines])
    times = stamps.read_texts(stamp_texts)
    frames: list[Frame | None] = []
    for source, raw_text, text, raw_stamp, time in zip(sources, raw_texts, texts, raw_stamps, times, strict=True):
        if not text or text.isspace():
            frames.append(None)
            continue
        head, _, tail = source.partition(raw_text)
        if time:
            before, found, after = head.partition(raw_stamp)
            if found:
                frames.append((before, after, tail))
            else:
                before, _, after = tail.partition(raw_stamp)
                frames.append((head, before, after))
        else:
            frames.append((head, tail) if raw_stamp == _NULL else None)
    return frames, texts, times


def read_frame(frame: Frame) -> dict[str, Any] | None:
    """Returns the members beside time and text of every document with this frame; None when its gaps are elsewhere."""
    gaps = _GAP_TEXTS[: len(frame) - 1]
    if any(gap in part for part in frame for gap in gaps):
        return None
    try:
        document = orjson.loads(b"".join(part for pair in zip_longest(frame, gaps, fillvalue=b"") for part in pair))
    except orjson.JSONDecodeError:
        return None
    if type(document) is not dict:
        return None
    found = [document.pop(name, None) for name in ("message", "@timestamp")[: len(gaps)]]
    if "@timestamp" in document or any(type(number) is not int for number in found) or set(found) != set(_GAPS[: len(gaps)]):
        return None
    return document


def _decode_outlines(sources: Sequence[bytes]) -> list[_Outline]:
    try:
        outlines: list[_Outline] = _DECODER.decode_lines(b"\n".join(sources))
        if len(outlines) == len(sources):
            return outlines
    except _BROKEN:
        pass  # one of them is: each is read by itself
    return list(map(_decode_outline, sources))


def _decode_outline(source: bytes) -> _Outline:
    try:
        return _DECODER.decode(source)
    except _BROKEN:
        return _NOTHING


def _read_strings(raws: Sequence[msgspec.Raw]) -> tuple[list[bytes], list[str]]:
    """Returns values as they are written, and their texts, all decoded at once; "" where a value is no text."""
    copies = b"\n".join(raws).split(b"\n")
    strings = [raw if raw[0] == _QUOTE else _EMPTY for raw in copies]
    try:
        return copies, _decode_texts(b"[%s]" % b",".join(strings))
    except _BROKEN:
        return copies, list(map(_decode_text, strings))


def _decode_text(raw: bytes) -> str:
    try:
        return _decode_texts(b"[%s]" % raw)[0]
    except _BROKEN:
        return ""
