"""The handshake of the Fluent forward protocol: HELO, PING, PONG with a shared key and, where set, user and password.

Source: Fluentd wiki, Forward Protocol Specification v1; Fluent Bit, out_forward (which hashes the nonce as bytes).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgpack

MAX_PING = 16 * 1024
SERVER_NAME = "elis"
_NONCE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Guard:
    """What clients must know: the shared key, and the password of a user when there are users."""

    shared_key: bytes
    users: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a PING."""

    pong: bytes
    """The reply to send."""
    hostname: str
    user: str
    refusal: str
    """Why the client is refused; empty when it is not."""


class Handshake:
    """One handshake: each has a nonce of its own, so that nothing overheard can be sent again."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._nonce = secrets.token_bytes(_NONCE_BYTES)
        self._auth = secrets.token_bytes(_NONCE_BYTES) if guard.users else b""

    def helo(self) -> bytes:
        """Returns the greeting."""
        packed: bytes = msgpack.packb(["HELO", {"nonce": self._nonce, "auth": self._auth, "keepalive": True}])
        return packed

    def check(self, message: bytes) -> Verdict:
        """Judges a PING; every digest is compared in constant time, and a refusal does not say which of them was wrong."""
        try:
            ping = msgpack.unpackb(message, raw=True, strict_map_key=False)
        except (ValueError, TypeError, msgpack.UnpackException):
            return _refuse("", "", "the PING cannot be decoded")
        if not isinstance(ping, list) or len(ping) != 6 or ping[0] != b"PING" or not all(isinstance(part, bytes) for part in ping):
            return _refuse("", "", "a PING of six parts is expected")
        _, hostname, salt, key_digest, user, password_digest = ping
        names = hostname.decode("utf-8", "replace")[:200], user.decode("utf-8", "replace")[:200]
        right = hmac.compare_digest(key_digest.lower(), _digest(salt, hostname, self._nonce, self._guard.shared_key))
        if self._guard.users:
            password = self._guard.users.get(user)
            expected = _digest(self._auth, user, password if password is not None else secrets.token_bytes(_NONCE_BYTES))
            right &= hmac.compare_digest(password_digest.lower(), expected) and password is not None
        if not right:
            return _refuse(*names, "shared key, user or password is wrong")
        proof = _digest(salt, SERVER_NAME.encode(), self._nonce, self._guard.shared_key).decode()
        return Verdict(msgpack.packb(["PONG", True, "", SERVER_NAME, proof]), *names, "")


def _refuse(hostname: str, user: str, reason: str) -> Verdict:
    pong: list[Any] = ["PONG", False, reason, "", ""]
    return Verdict(msgpack.packb(pong), hostname, user, reason)


def _digest(*parts: bytes) -> bytes:
    return hashlib.sha512(b"".join(parts)).hexdigest().encode()
