"""Keys: tokens that stand for values, and the sealing of values that may be read again."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kit.errors import InvalidArgument, NotFound
from services.ingest.masking.rules import GAP

_HASH_DIGITS: Final = 12
_NONCE_BYTES: Final = 12
_ENCODED_AT: Final = re.compile(r"%40|\\+u0040")


class TokenKeys:
    """Makes tokens under the current key, and those that older keys gave the same value.

    A token is `[rule:hash]`, the hash being HMAC-SHA256 of the value cut to 12 hexadecimal digits.
    """

    def __init__(self, key: bytes, old_keys: Sequence[bytes] = ()) -> None:
        """Raises InvalidArgument when a key is empty."""
        if not key or not all(old_keys):
            raise InvalidArgument("the masking key is empty")
        self._key = key
        self._old_keys = tuple(old for old in dict.fromkeys(old_keys) if old != key)

    def token(self, rule: str, secret: str) -> str:
        """Returns the token of a value."""
        return _token(self._key, rule, _canonical(rule, secret))

    def older_tokens(self, rule: str, secret: str) -> list[str]:
        """Returns the tokens that the older keys give the value; empty when there are no older keys."""
        return [_token(key, rule, _canonical(rule, secret)) for key in self._old_keys]


def _token(key: bytes, rule: str, canonical: bytes) -> str:
    return f"[{rule}:{hmac.digest(key, canonical, 'sha256').hex()[:_HASH_DIGITS]}]"


def _canonical(rule: str, secret: str) -> bytes:
    """Returns the form of a value that is hashed: the same card or address in two spellings gets one token."""
    if rule == "email":
        secret = _ENCODED_AT.sub("@", secret).lower()
    elif rule in ("card", "iban"):
        secret = GAP.sub("", secret).upper()
    return secret.encode("utf-8", "surrogatepass")


class ValueSealer:
    """Seals values with AES-256-GCM; the associated data binds a value to its event and field.

    The first key seals; all of them open what they sealed.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        # A key of its own for this purpose: what seals rejected bytes never seals a value.
        derived = [hmac.digest(key, b"elis sealed values", "sha256") for key in keys]
        self._ciphers = {hashlib.sha256(b"elis key id" + key).hexdigest()[:16]: AESGCM(key) for key in derived}
        self.key_id = next(iter(self._ciphers))
        """Names the key that seals; tells nothing about it."""

    def seal(self, value: str, event_id: int, field: str) -> bytes:
        """Returns nonce and ciphertext."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._ciphers[self.key_id].encrypt(nonce, value.encode("utf-8", "surrogatepass"), _associated(event_id, field))

    def open(self, sealed: bytes, key_id: str, event_id: int, field: str) -> str:
        """Returns the value; raises NotFound when its key is not configured or the bytes are not those of this event and field."""
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise NotFound(f"the key {key_id} that sealed the value is not configured; name it in ELIS_SEAL_OLD_KEYS", key_id=key_id)
        try:
            opened = cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _associated(event_id, field))
        except InvalidTag:
            raise NotFound(f"the sealed value of event {event_id} was changed and cannot be opened") from None
        return opened.decode("utf-8", "surrogatepass")


def _associated(event_id: int, field: str) -> bytes:
    return f"{event_id}:{field}".encode("utf-8", "surrogatepass")
