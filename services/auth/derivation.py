"""Keys for single purposes, derived from the service secret (HKDF-SHA256, RFC 5869)."""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32


def derive_key(service_secret: str, purpose: str) -> bytes:
    """Returns 256 bits that tell nothing about the secret or about the key of any other purpose."""
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=f"elis auth {purpose}".encode()).derive(service_secret.encode())
