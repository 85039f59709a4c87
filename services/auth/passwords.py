"""Passwords: what is accepted, how they are kept and how they are checked without telling anything."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import re
import unicodedata
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from typing import TypeVar

from kit.errors import InvalidArgument, RateLimited

ResultT = TypeVar("ResultT")

MIN_CHARACTERS = 12
MAX_CHARACTERS = 256
SALT_BYTES = 16
HASH_BYTES = 32
_SCHEME = "pbkdf2-sha256"
_FEWEST_DIFFERENT = 5
_LONG_NAME = 4
"""Shorter usernames are part of too many good passwords."""
_HASHING_THREADS = 2
_WAITING = 16
"""Checks that may wait for a thread: at 0.2 s each, the last one waits less than two seconds."""


def derive(password: bytes, salt: bytes, rounds: int, length: int = HASH_BYTES) -> bytes:
    """Returns PBKDF2-HMAC-SHA256 (RFC 8018) of a password."""
    return hashlib.pbkdf2_hmac("sha256", password, salt, rounds, length)


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """A kept password: `pbkdf2-sha256$rounds$salt$hash`, salt and hash in base64."""

    rounds: int
    salt: bytes
    hash: bytes

    @classmethod
    def parse(cls, text: str) -> PasswordHash:
        """Reads what `str` wrote; raises ValueError for anything else."""
        scheme, rounds, salt, digest = text.split("$")
        if scheme != _SCHEME:
            raise ValueError(f"unknown password scheme {scheme!r}")
        return cls(int(rounds), b64decode(salt, validate=True), b64decode(digest, validate=True))

    @classmethod
    def create(cls, password: str, rounds: int) -> PasswordHash:
        """Hashes a password with a new salt. Takes 0.2 s of a core at 600,000 rounds."""
        salt = os.urandom(SALT_BYTES)
        return cls(rounds, salt, derive(_encode(password), salt, rounds))

    def matches(self, password: str) -> bool:
        """Says whether the password is the one, in a time that does not tell how near it was."""
        # HMAC fills a short key with zeros (RFC 2104), so a NUL behind the password would make no difference.
        return not password.endswith("\x00") and hmac.compare_digest(derive(_encode(password), self.salt, self.rounds, len(self.hash)), self.hash)

    def __str__(self) -> str:
        return f"{_SCHEME}${self.rounds}${b64encode(self.salt).decode()}${b64encode(self.hash).decode()}"


def _encode(password: str) -> bytes:
    # NFKC (NIST SP 800-63B §5.1.1.2): the same key strokes give the same bytes on every machine.
    return unicodedata.normalize("NFKC", password).encode()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Outcome of a check."""

    matches: bool
    rehashed: str | None
    """A hash to keep instead, when the kept one has fewer rounds than new ones get."""


class PasswordHasher:
    """Hashes in a bounded pool, so that a flood of logins can neither take every core nor queue without end."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._threads = ThreadPoolExecutor(_HASHING_THREADS, thread_name_prefix="password")
        self._admitted = 0
        # Unknown users get the same work as known ones.
        self._nobody = PasswordHash(rounds, os.urandom(SALT_BYTES), os.urandom(HASH_BYTES))

    def close(self) -> None:
        """Lets running work end and starts no more."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    @asynccontextmanager
    async def admission(self) -> AsyncIterator[None]:
        """Holds one of the bounded places; raises RateLimited when none is free."""
        if self._admitted >= _HASHING_THREADS + _WAITING:
            raise RateLimited("too many sign-ins at once; try again in a moment", retry_after=2.0)
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    async def hash(self, password: str) -> str:
        """Returns the text to keep. Call it within `admission`."""
        return str(await self._run(PasswordHash.create, password, self._rounds))

    async def check(self, password: str, kept: str | None) -> Verdict:
        """Checks a password against a kept hash; None stands for a user who does not exist. Call it within `admission`."""
        known = self._nobody if kept is None else PasswordHash.parse(kept)
        possible = kept is not None and len(password) <= MAX_CHARACTERS
        matches = await self._run(known.matches, password if possible else "") and possible
        rehashed = await self.hash(password) if matches and known.rounds < self._rounds else None
        return Verdict(matches, rehashed)

    async def _run(self, work: Callable[..., ResultT], *arguments: object) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


class PasswordPolicy:
    """Says which new passwords are accepted. No composition rules, no forced change (NIST SP 800-63B)."""

    def __init__(self, blocked: Iterable[str]) -> None:
        self._blocked = frozenset(blocked)

    def check(self, password: str, username: str) -> None:
        """Raises InvalidArgument with the reason when the password is too short, too long or easy to guess."""
        if len(password) < MIN_CHARACTERS:
            raise InvalidArgument(f"the password must have at least {MIN_CHARACTERS} characters, not {len(password)}")
        if len(password) > MAX_CHARACTERS:
            raise InvalidArgument(f"the password must have at most {MAX_CHARACTERS} characters, not {len(password)}")
        if password.endswith("\x00"):
            raise InvalidArgument("the password ends with a NUL character")
        if len(set(password)) < _FEWEST_DIFFERENT:
            raise InvalidArgument("the password repeats too few different characters")
        folded = password.casefold()
        if len(username) >= _LONG_NAME and username.casefold() in folded:
            raise InvalidArgument("the password contains the username")
        steps = [abs(ord(one) - ord(other)) for one, other in pairwise(folded)]
        if sum(step <= 1 for step in steps) * 2 > len(steps) or (folded + folded).find(folded, 1) < len(folded):
            raise InvalidArgument("the password is a sequence or the same piece again and again")
        # "Sunshine2024!!" is as easy to guess as "sunshine".
        bare = re.sub(r"^[\W\d_]+|[\W\d_]+$", "", folded)
        if folded in self._blocked or bare in self._blocked:
            raise InvalidArgument("the password is one of those that are guessed first; choose another one")


def load_policy() -> PasswordPolicy:
    """Returns the policy on the list of common passwords that ships with ELIS."""
    text = (files("services.auth") / "blocked_passwords.txt").read_text(encoding="utf-8")
    return PasswordPolicy(text.split())
