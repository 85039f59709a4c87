"""Records that cannot become events: why, and how their raw bytes are sealed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kit.errors import NotFound

_NONCE_BYTES = 12
_COMPRESSION_LEVEL = 3
MAX_OPENED_BYTES = 256 * 1024 * 1024
"""Largest content that is accepted when reading one back."""


class RejectReason(StrEnum):
    """The closed list of reasons (docs/rejections.md)."""

    RECORD_TOO_LARGE = "record_too_large"
    """The record is larger than `max_record_bytes`."""
    INVALID_DOCUMENT = "invalid_document"
    """A document of `_bulk`, Loki, Fluent or another structured protocol that is not what the protocol says."""
    FRAME_BROKEN = "frame_broken"
    """Bytes of a framed protocol (syslog, Fluent) of which no record can be cut."""

    PROCESSING_FAILED = "processing_failed"
    """ELIS itself failed on the record: a mistake of ELIS."""

    @property
    def retryable(self) -> bool:
        """Whether ELIS can be set so that it takes the same bytes, with nothing changed at the sender."""
        return self in _RETRYABLE


_RETRYABLE = frozenset({RejectReason.RECORD_TOO_LARGE, RejectReason.PROCESSING_FAILED})


@dataclass(frozen=True, slots=True)
class Rejection:
    """One rejected record."""

    source: str
    reason: RejectReason
    detail: str
    """What exactly is wrong. Everyone who may list rejected events reads it: it never quotes the record."""
    raw: bytes
    """The record as it was sent, whole."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What came with it and is JSON: columns of a batch by name, such as timestamp, host or attributes."""


@dataclass(frozen=True, slots=True)
class OpenedRejection:
    """What was sealed of a rejected record."""

    raw: bytes
    fields: dict[str, Any]


class Sealer:
    """Seals rejected records with AES-256-GCM; the associated data binds them to the row that they belong to.

    The first key seals; all of them open what they sealed.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._ciphers = {hashlib.sha256(b"elis rejected events" + key).hexdigest()[:16]: AESGCM(key) for key in keys}
        self.key_id = next(iter(self._ciphers))
        """Names the key that seals; tells nothing about it."""

    def seal(self, rejection: Rejection, owner: UUID) -> bytes:
        """Returns nonce and ciphertext of the compressed record and its fields."""
        content = orjson.dumps(dict(rejection.fields), default=str, option=orjson.OPT_NON_STR_KEYS) + b"\n" + rejection.raw
        nonce = os.urandom(_NONCE_BYTES)
        compressed = zstandard.ZstdCompressor(level=_COMPRESSION_LEVEL).compress(content)
        return nonce + self._ciphers[self.key_id].encrypt(nonce, compressed, owner.bytes)

    def open(self, sealed: bytes, key_id: str, owner: UUID) -> OpenedRejection:
        """Returns what was sealed; raises NotFound when its key is not configured or the bytes are not those of this row."""
        if not key_id:
            return OpenedRejection(self._open_unnamed(sealed, owner), {})
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise NotFound(f"the key {key_id} that sealed rejected event {owner} is not configured; name it in ELIS_SEAL_OLD_KEYS", key_id=key_id)
        compressed = _decrypt(cipher, sealed, owner)
        if compressed is None:
            raise NotFound(f"the bytes of rejected event {owner} were changed and cannot be opened")
        content = zstandard.ZstdDecompressor().decompress(compressed, max_output_size=MAX_OPENED_BYTES)
        fields, _, raw = content.partition(b"\n")
        return OpenedRejection(raw, orjson.loads(fields))

    def _open_unnamed(self, sealed: bytes, owner: UUID) -> bytes:
        """Opens what was sealed before keys had names: the bytes alone, not compressed."""
        for cipher in self._ciphers.values():
            raw = _decrypt(cipher, sealed, owner)
            if raw is not None:
                return raw
        raise NotFound(f"no configured key opens rejected event {owner}; name the one that sealed it in ELIS_SEAL_OLD_KEYS")


def _decrypt(cipher: AESGCM, sealed: bytes, owner: UUID) -> bytes | None:
    try:
        return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], owner.bytes)
    except InvalidTag:
        return None


def storable(text: str) -> str:
    """Returns text that PostgreSQL can hold: it has no NUL."""
    return text.replace("\x00", "\ufffd")
