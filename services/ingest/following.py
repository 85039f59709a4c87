"""Ships what is appended to files, and what a pipe gives, for as long as they go on."""

from __future__ import annotations

import asyncio
import codecs
import signal
from collections.abc import Sequence
from typing import BinaryIO
from uuid import uuid4

from kit.errors import InvalidArgument, Unavailable
from kit.server import cancel_tasks
from kit.terminal import complain, console
from services.ingest.credentials_file import SenderCredentials
from services.ingest.follower import Follower
from services.ingest.formats import FORMATS, detect_format
from services.ingest.sender import open_client
from services.ingest.shipper import Declaration, Shipment, Shipper

IDLE_SECONDS = 0.25
STREAM_BYTES = 1024 * 1024
DETECTION_LINES = 200
MAX_BEGUN_CHARACTERS = 1024 * 1024
"""A line of a pipe that is longer is sent in pieces."""


class Following:
    """Follows several files until it is told to stop. An ELIS that is away is waited for: the files keep what is new."""

    def __init__(self, followers: Sequence[Follower], declaration: Declaration, credentials: SenderCredentials) -> None:
        self._followers = followers
        self._declaration = declaration
        self._credentials = credentials
        self._shipments = {id(follower): Shipment(str(follower.path), "") for follower in followers}
        self._away = False

    def run(self) -> list[Shipment]:
        """Follows until SIGINT or SIGTERM; returns what was sent. Raises PermissionDenied when the token is refused."""
        asyncio.run(self._run())
        return list(self._shipments.values())

    async def _run(self) -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        try:
            async with open_client() as client:
                shipper = Shipper(client, self._credentials)
                await shipper.check()
                console.print(f"following {', '.join(str(follower.path) for follower in self._followers)}; Ctrl-C stops")
                work = asyncio.create_task(self._follow(shipper))
                stopped = asyncio.create_task(stop.wait())
                await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    await work
                await cancel_tasks([work, stopped])
        finally:
            for follower in self._followers:
                follower.close()

    async def _follow(self, shipper: Shipper) -> None:
        while True:
            if not any([await self._advance(follower, shipper) for follower in self._followers]):
                await asyncio.sleep(IDLE_SECONDS)

    async def _advance(self, follower: Follower, shipper: Shipper) -> bool:
        """Sends the next portion of a file; returns whether there was one."""
        shipment = self._shipments[id(follower)]
        try:
            portion = follower.read()
        except InvalidArgument as error:
            if error.message not in shipment.notes:
                complain(error.message)
                shipment.notes.append(error.message)
            return False
        for note in follower.notes:
            complain(note)
        follower.notes.clear()
        if portion is None:
            return False
        shipment.format = portion.format
        try:
            await shipper.send(portion.records, self._declaration, shipment, scope=portion.scope)
        except Unavailable as error:
            # The portion is read and sent again; what of it was taken is recognised.
            if not self._away:
                complain(f"{error.message}; what is new waits in the files")
            self._away = True
            return False
        if self._away:
            console.print("ELIS is back")
            self._away = False
        follower.acknowledge(portion)
        return True


async def ship_stream(stream: BinaryIO, declaration: Declaration, credentials: SenderCredentials, format_name: str = "") -> Shipment:
    """Sends the lines of a pipe until it ends, at most a second after they came. A pipe cannot be read again: it has no position."""
    shipment = Shipment("-", format_name)
    loop = asyncio.get_running_loop()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    scope = uuid4().bytes
    begun = ""
    carried: list[str] = []
    read: asyncio.Future[bytes] = loop.run_in_executor(None, _read_some, stream)
    ended = False
    async with open_client() as client:
        shipper = Shipper(client, credentials)
        await shipper.check()
        while not ended:
            done, _ = await asyncio.wait([read], timeout=1.0)
            if done:
                data = read.result()
                ended = not data
                begun += decoder.decode(data, final=ended)
                *lines, begun = begun.split("\n")
                if begun and (ended or len(begun) > MAX_BEGUN_CHARACTERS):
                    lines.append(begun)
                    begun = ""
                if not ended:
                    read = loop.run_in_executor(None, _read_some, stream)
            else:
                lines = []
            if not shipment.format and lines:
                shipment.format = detect_format(lines[:DETECTION_LINES])[0].name
            if not shipment.format:
                continue
            records = FORMATS[shipment.format].split([*carried, *(line.removesuffix("\r") for line in lines)])
            carried = records.pop().split("\n") if records and done and not ended else []
            await shipper.send(records, declaration, shipment, scope=scope, first_record=shipment.records)
    return shipment


def _read_some(stream: BinaryIO) -> bytes:
    return stream.read1(STREAM_BYTES)  # type: ignore[attr-defined, no-any-return]
