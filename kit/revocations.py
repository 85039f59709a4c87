"""Access tokens that were ended before they expire, as every verifier of callers knows them.

The truth is a table of the auth service, written in the transaction that ends something; `fetch` asks for what is
new in it. A list is used for half a second. While the auth service does not answer, the last list stays in use:
nothing can be revoked meanwhile, and a token that the list misses because only this process was cut off ends by
itself within its ten minutes. A process that never had a list refuses callers with Unavailable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic

import structlog

from kit.errors import Unauthenticated, Unavailable

log = structlog.get_logger()

FetchRevocations = Callable[[float | None], Awaitable[Mapping[str, float]]]
"""Takes seconds since 1970, None for the beginning; returns revoked subject -> seconds since 1970, oldest first."""

FRESH_SECONDS = 0.5
_WAIT_SECONDS = 1.0
_OVERLAP_SECONDS = 60.0
"""Asked for again each time: transactions commit in another order than they took their time."""
_KEPT_SECONDS = 3_600.0
"""Far longer than any access token lives."""


class RevocationList:
    """The revocations of one process."""

    def __init__(self, fetch: FetchRevocations) -> None:
        self._fetch = fetch
        self._revoked: dict[str, float] = {}
        self._newest: float | None = None
        self._known = False
        self._late = False
        self._tried_at = -FRESH_SECONDS
        self._reading: asyncio.Task[None] | None = None

    async def check(self, issued_at: float, *subjects: str) -> None:
        """Raises Unauthenticated when one of the subjects was revoked after `issued_at` (seconds since 1970)."""
        if monotonic() - self._tried_at >= FRESH_SECONDS:
            await self._refresh()
        if not self._known:
            raise Unavailable("it cannot be told whether the access token was revoked; try again", retry_after=1.0)
        for subject in subjects:
            revoked_at = self._revoked.get(subject)
            if revoked_at is not None and revoked_at >= issued_at:
                raise Unauthenticated("the access token was revoked; sign in again")

    async def _refresh(self) -> None:
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        if self._known and self._late:
            return  # nobody waits for an auth service that does not answer
        done, _ = await asyncio.wait({self._reading}, timeout=_WAIT_SECONDS)
        self._late = self._late or not done

    async def _read(self) -> None:
        try:
            since = self._newest - _OVERLAP_SECONDS if self._newest is not None else None
            while found := await self._fetch(since):
                self._revoked.update(found)
                latest = max(found.values())
                if since is not None and latest <= since:
                    break
                since = latest
        except Exception as error:  # whatever it was: the last list stays in use, and nobody else would tell
            self._late = True
            log.warning("revocations not read", reason=repr(error))
        else:
            self._known, self._late = True, False
            if self._revoked:
                self._newest = max(self._revoked.values())
                self._revoked = {subject: at for subject, at in self._revoked.items() if at > self._newest - _KEPT_SECONDS}
        finally:
            self._tried_at = monotonic()
