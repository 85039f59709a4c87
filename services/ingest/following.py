"""Ships what is appended to files, and what a pipe gives, for as long as they go on."""

from __future__ import annotations

import asyncio
import codecs
import os
import resource
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from uuid import uuid4

from kit.errors import InvalidArgument, Unavailable
from kit.server import cancel_tasks
from kit.terminal import complain, console
from services.ingest.credentials_file import SenderCredentials
from services.ingest.encodings import marked_encoding, wide_encoding
from services.ingest.follower import Follower, Portion
from services.ingest.formats import FORMATS, detect_format
from services.ingest.logfile import GZIP_MAGIC
from services.ingest.sender import MAX_CONNECTIONS, open_client
from services.ingest.shipper import Declaration, Shipment, Shipper

IDLE_SECONDS = 0.25
MAX_NAMED = 10
STREAM_SECONDS = 1.0
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
        stop = _stop_on_signals()
        _allow_open_files()
        try:
            async with open_client() as client:
                shipper = Shipper(client, self._credentials)
                await shipper.check()
                names = ", ".join(str(follower.path) for follower in self._followers)
                console.print(f"following {names if len(self._followers) <= MAX_NAMED else f'{len(self._followers)} files'}; Ctrl-C stops")
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
            advanced = False
            for start in range(0, len(self._followers), MAX_CONNECTIONS):
                portions = [
                    (follower, portion) for follower in self._followers[start : start + MAX_CONNECTIONS] if (portion := self._read(follower)) is not None
                ]
                if portions:
                    advanced |= any(await asyncio.gather(*(self._send(follower, portion, shipper) for follower, portion in portions)))
            if not advanced:
                await asyncio.sleep(IDLE_SECONDS)

    def _read(self, follower: Follower) -> Portion | None:
        """Returns what is new in a file, and tells what is wrong with it."""
        try:
            portion = follower.read()
        except InvalidArgument as error:
            self._complain(self._shipments[id(follower)], error.message)
            return None
        for note in follower.notes:
            complain(note)
        follower.notes.clear()
        return portion

    async def _send(self, follower: Follower, portion: Portion, shipper: Shipper) -> bool:
        """Sends what is new in a file; returns whether it is safe."""
        shipment = self._shipments[id(follower)]
        shipment.format = portion.format
        told, records = len(shipment.notes), shipment.records
        try:
            await shipper.send(portion.records, self._declaration, shipment, scope=portion.scope)
        except Unavailable as error:
            # The portion is read and sent again; what of it was taken is recognised.
            if not self._away:
                complain(f"{error.message}; what is new waits in the files")
            self._away, shipment.records = True, records
            return False
        finally:
            for note in shipment.notes[told:]:
                complain(f"{follower.path}: {note}")
            del shipment.notes[told:]
        if self._away:
            console.print("ELIS is back")
            self._away = False
        try:
            follower.acknowledge(portion)
        except InvalidArgument as error:
            self._complain(shipment, error.message)
        return True

    @staticmethod
    def _complain(shipment: Shipment, problem: str) -> None:
        """Tells a problem of a file once."""
        if problem not in shipment.notes:
            complain(problem)
            shipment.notes.append(problem)


async def ship_stream(stream: int, declaration: Declaration, credentials: SenderCredentials, format_name: str = "") -> Shipment:
    """Sends the lines of an open file descriptor until it ends or SIGINT or SIGTERM comes, at most a second after they came.

    A pipe cannot be read again: it has no position, and an ELIS that went away is waited for. Raises InvalidArgument when it is compressed.
    """
    shipment = Shipment("-", format_name)
    scope = uuid4().bytes
    carried: list[str] = []
    async with open_client() as client:
        shipper = Shipper(client, credentials)
        await shipper.check()
        async for lines in _read_lines(stream, _stop_on_signals()):
            if lines and not shipment.format:
                shipment.format = detect_format(lines[:DETECTION_LINES])[0].name
            if not shipment.format:
                continue
            records = FORMATS[shipment.format].split([*carried, *(lines or ())])
            # The last record may go on, unless a second has passed.
            carried = records.pop().split("\n") if records and lines is not None else []
            await _send_on(shipper, records, declaration, shipment, scope)
        if carried:
            await _send_on(shipper, ["\n".join(carried)], declaration, shipment, scope)
    return shipment


async def _send_on(shipper: Shipper, records: Sequence[str], declaration: Declaration, shipment: Shipment, scope: bytes) -> None:
    """Sends records of a pipe, however long that takes: nobody else has them."""
    first, away = shipment.records, False
    while True:
        try:
            await shipper.send(records, declaration, shipment, scope=scope, first_record=first)
        except Unavailable as error:
            if not away:
                complain(f"{error.message}; standard input waits")
            away, shipment.records = True, first
            continue
        if away:
            console.print("ELIS is back")
        return


async def _read_lines(stream: int, stop: asyncio.Event) -> AsyncIterator[list[str] | None]:
    """Yields the lines of a stream as they come, and None for a second without any data. Raises InvalidArgument when there is no text in it."""
    decoder: codecs.IncrementalDecoder | None = None
    begun = ""
    ended = False
    while not ended:
        if not await _await_data(stream, stop):
            yield None
            continue
        try:
            data = b"" if stop.is_set() else os.read(stream, STREAM_BYTES)
        except OSError as error:
            raise InvalidArgument(f"standard input cannot be read ({error.strerror})") from None
        ended = not data
        if decoder is None:
            if data.startswith(GZIP_MAGIC):
                raise InvalidArgument("standard input is compressed; name the file instead, or put `zcat` in front")
            encoding = marked_encoding(data) or (wide_encoding(data) if b"\0" in data else "")
            decoder = codecs.getincrementaldecoder(encoding or "utf-8")("replace")
        begun += decoder.decode(data, final=ended)
        *lines, begun = begun.split("\n")
        if begun and (ended or len(begun) > MAX_BEGUN_CHARACTERS):
            lines.append(begun)
            begun = ""
        yield [line.removesuffix("\r").removeprefix("\ufeff") for line in lines]


async def _await_data(stream: int, stop: asyncio.Event) -> bool:
    """Returns whether there is something to read, be it the end, or it is time to stop; False after a second without."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(stream, ready.set)
    except OSError:  # a file, which never has to be waited for, or nothing at all, as reading it will tell
        return True
    waits = [asyncio.create_task(ready.wait()), asyncio.create_task(stop.wait())]
    try:
        done, _ = await asyncio.wait(waits, timeout=STREAM_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_reader(stream)
        await cancel_tasks(waits)
    return bool(done)


def _stop_on_signals() -> asyncio.Event:
    """Returns what the first SIGINT or SIGTERM sets; the second ends the program as usual."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def end(number: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end, number)
    return stop


def _allow_open_files() -> None:
    """Has the system let this program open as many files as it may: each followed file stays open."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
