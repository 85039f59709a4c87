"""A search process for the tests that kill it: `python -m tests.services.search.indexer SETTINGS TOKEN`, no auth service needed."""

from __future__ import annotations

import asyncio
import json
import sys

from kit.auth import Verifier
from kit.identity import Identity
from services.search.app import assemble
from services.search.settings import SearchSettings


async def main(settings: SearchSettings, token: str) -> None:
    """Indexes until it is killed."""

    async def own_token() -> str:
        return token

    async def no_keys() -> str:
        raise NotImplementedError

    async with assemble(settings, Identity(Verifier(no_keys, "elis"), own_token)) as application:
        await asyncio.gather(*(work() for work in application.background))


if __name__ == "__main__":
    asyncio.run(main(SearchSettings(**json.loads(sys.argv[1])), sys.argv[2]))
