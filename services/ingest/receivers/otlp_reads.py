"""Messages of OTLP/gRPC that are read at once: few, since gRPC holds each of them whole before anybody sees its size."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast

import grpc

from kit.errors import InvalidArgument, Unavailable

if TYPE_CHECKING:
    from kit.interceptors import RpcContext

READ_SECONDS = 30.0
"""Time for a message to come."""
FAIR_SECONDS = 1.0
"""The same while others wait for their turn."""


class MessageReads:
    """Lets so many messages be read at once. Who waits the shortest is next: slow senders hold up each other, not the fast ones."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._reading: dict[asyncio.Timeout, float] = {}
        """Time limits of the reads, with when they began."""

    async def read(self, context: RpcContext) -> bytes:
        """Returns the message of a call. Raises Unavailable when it comes too slowly, InvalidArgument when there is none."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                await self._enter()
            try:
                return await self._read(context)
            finally:
                self._leave()
        except TimeoutError:
            raise Unavailable("the message came too slowly; try again", retry_after=1.0) from None

    async def _read(self, context: RpcContext) -> bytes:
        now = asyncio.get_running_loop().time()
        async with asyncio.timeout_at(now + (FAIR_SECONDS if self._waiting else READ_SECONDS)) as limit:
            self._reading[limit] = now
            try:
                message = await context.read()
            finally:
                del self._reading[limit]
        if message is grpc.aio.EOF:
            raise InvalidArgument("the call carries no message")
        return cast(bytes, message)

    async def _enter(self) -> None:
        if self._free:
            self._free -= 1
            return
        now = asyncio.get_running_loop().time()
        for limit, begun in self._reading.items():
            if not limit.expired():
                limit.reschedule(max(now, begun + FAIR_SECONDS))
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()  # it was given a turn and takes none
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def _leave(self) -> None:
        while self._waiting:
            turn = self._waiting.pop()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
