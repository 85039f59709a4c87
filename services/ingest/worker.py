"""The thread that decodes and prepares what is too large for the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

ResultT = TypeVar("ResultT")


class Worker:
    """Runs functions one at a time beside the event loop; two at once would only take turns."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prepare")

    async def run(self, function: Callable[[], ResultT], *, inline: bool) -> ResultT:
        """Returns the function's result; `inline` runs it at once, for work that costs less than handing it over."""
        return function() if inline else await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def close(self) -> None:
        """Lets the thread end when its work is done."""
        self._thread.shutdown(wait=False)
