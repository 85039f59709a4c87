"""Messages of the Fluent forward protocol: from MessagePack to entries of time, metadata and record.

Source: Fluentd wiki, Forward Protocol Specification v1 (Message, Forward, PackedForward and CompressedPackedForward mode,
EventTime, option); Fluent Bit, out_forward (`retain_metadata_in_forward_mode` sends `[[time, metadata], record]`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgpack
import zstandard

from kit.errors import InvalidArgument
from services.ingest.receivers.bodies import decompress_gzip

MAX_ARRAY = 16_384
"""Elements of an array inside of a packed record: room is made for as many as are declared."""
MAX_MAP = 262_144
MAX_CHUNK_ID = 256
_EVENT_TIME = 0
"""Extension type of EventTime: seconds and nanoseconds, 32 bits each, big-endian."""
_LARGEST_TIME = 2**63 - 1
_PROBLEMS = (ValueError, TypeError, OverflowError, msgpack.UnpackException)
"""What the decoder raises for bytes that are not what they should be: TypeError for a map whose key is a list."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record."""

    time: int
    """Nanoseconds since 1970; 0 is unknown."""
    metadata: dict[Any, Any] | None
    record: dict[Any, Any]


@dataclass(slots=True)
class Message:
    """A message of a client. What of it is not as the protocol says is in `broken`; its neighbours are kept."""

    tag: str
    chunk: str | bytes | None
    """What the client wants acknowledged, or None."""
    size: int = 0
    """Bytes, decompressed."""
    entries: list[Entry] = field(default_factory=list)
    broken: list[tuple[bytes, str]] = field(default_factory=list)
    """Bytes, and what is wrong with them."""


def read_message(message: bytes, limit: int) -> Message | None:
    """Returns the content of a whole message; None for a heartbeat. Packed entries are decompressed to at most `limit` bytes."""
    try:
        value = _unpack(message)
    except _PROBLEMS as error:
        return Message("", None, broken=[(message, f"the message cannot be decoded: {type(error).__name__}")])
    if value is None:
        return None
    chunk, option = _read_option(value)
    if not isinstance(value, list) or len(value) < 2 or not isinstance(value[0], (str, bytes)):
        return Message("", chunk, broken=[(message, "the message is not an array that begins with a tag")])
    tag = value[0] if isinstance(value[0], str) else value[0].decode("utf-8", "replace")
    read = Message(tag, chunk, len(message))
    content = value[1]
    if option.get("fluent_signal", 0) != 0:
        read.broken.append((message, "the message carries metrics or traces, which are not taken here"))
    elif isinstance(content, list) and not (len(value) > 2 and isinstance(value[2], dict) and _is_head(content)):
        for entry in content:
            _add_entry(read, entry)
    elif type(content) in (bytes, str):
        # Clients older than the type `bin` send packed entries as text, which decoding to characters would spoil.
        packed = content if isinstance(content, bytes) else _unpack(message, raw=True)[1]
        _read_packed(read, packed, str(option.get("compressed") or "text"), limit)
    elif len(value) > 2:
        _add_entry(read, value[1:3])
    else:
        read.broken.append((message, "the message has neither entries nor a record"))
    return read


def _read_option(value: object) -> tuple[str | bytes | None, dict[Any, Any]]:
    """Returns chunk id and options: the last element of a message when it is a map behind entries or a record."""
    if not isinstance(value, list) or len(value) < 3:
        return None, {}
    packed = type(value[1]) in (bytes, str) or (isinstance(value[1], list) and not _is_head(value[1]))
    option = value[2] if packed else value[3] if len(value) > 3 else None
    if not isinstance(option, dict):
        return None, {}
    chunk = option.get("chunk")
    return (chunk if isinstance(chunk, (str, bytes)) and 0 < len(chunk) <= MAX_CHUNK_ID else None), option


def _is_head(value: list[Any]) -> bool:
    """Returns whether a list is `[time, metadata]` rather than entries."""
    return len(value) == 2 and isinstance(value[0], (int, float, _Time)) and isinstance(value[1], dict)


class _Time(int):
    """An EventTime as nanoseconds, told apart from plain seconds."""


class _Extension(str):
    """Any other extension as hexadecimal text, told apart from text."""

    __slots__ = ()


def _read_packed(read: Message, packed: bytes, compression: str, limit: int) -> None:
    try:
        content = _decompress(packed, compression, limit)
    except InvalidArgument as error:
        read.broken.append((packed, error.message))
        return
    read.size = max(read.size, len(content))
    unpacker = msgpack.Unpacker(
        raw=False,
        unicode_errors="replace",
        strict_map_key=False,
        ext_hook=_read_extension,
        max_buffer_size=max(len(content), 1),
        max_array_len=MAX_ARRAY,
        max_map_len=MAX_MAP,
    )
    unpacker.feed(content)
    done = 0
    try:
        for entry in unpacker:
            done = unpacker.tell()
            _add_entry(read, entry)
    except _PROBLEMS as error:
        read.broken.append((content[done:], f"the packed entries cannot be decoded: {type(error).__name__}"))
        return
    if done < len(content):
        read.broken.append((content[done:], "the packed entries end inside an entry"))


def _decompress(packed: bytes, compression: str, limit: int) -> bytes:
    if compression == "gzip":
        return decompress_gzip(packed, limit)
    if compression == "zstd":
        try:
            with zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(packed, read_across_frames=True) as reader:
                content = reader.read(limit + 1)
        except zstandard.ZstdError:
            raise InvalidArgument("the packed entries are not valid zstd") from None
        if len(content) > limit:
            raise InvalidArgument(f"the packed entries have more than {limit} bytes when they are decompressed")
        return content
    if compression != "text":
        raise InvalidArgument(f"the compression {compression[:40]!r} is not supported; use gzip, zstd or text")
    return packed


def _add_entry(read: Message, entry: object) -> None:
    if isinstance(entry, list) and len(entry) >= 2 and isinstance(entry[1], dict):
        head, metadata = entry[0], None
        if isinstance(head, list) and head and len(head) <= 2:
            metadata = head[1] if len(head) == 2 and isinstance(head[1], dict) else None
            head = head[0]
        read.entries.append(Entry(_nanoseconds(head), metadata, entry[1]))
    else:
        read.broken.append((msgpack.packb(entry, default=repr), "the entry is not a time and a record"))


def _nanoseconds(time: object) -> int:
    if isinstance(time, _Time):
        return int(time)
    if isinstance(time, bool) or not isinstance(time, (int, float)) or not 0 < time < 1e10:
        return 0
    return min(int(time) * 1_000_000_000 + (round(time % 1 * 1e9) if isinstance(time, float) else 0), _LARGEST_TIME)


def _unpack(message: bytes, *, raw: bool = False) -> Any:
    return msgpack.unpackb(message, raw=raw, unicode_errors="replace", strict_map_key=False, ext_hook=_read_extension)


def _read_extension(code: int, data: bytes) -> object:
    """Returns an EventTime as nanoseconds, any other extension as hexadecimal text."""
    if code == _EVENT_TIME and len(data) == 8:
        return _Time(int.from_bytes(data[:4]) * 1_000_000_000 + int.from_bytes(data[4:]))
    return _Extension(data.hex())
