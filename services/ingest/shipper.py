"""Ships log files through the HTTP receiver, so that sending the same file again adds nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import httpx
import orjson

from kit.errors import Unavailable
from services.ingest.credentials_file import SenderCredentials
from services.ingest.logfile import LogFile
from services.ingest.receivers.hec_events import FORMAT_PARAMETER, IDEMPOTENCY_HEADER
from services.ingest.sender import Busy, post, post_once, read_hec

REQUEST_RECORDS = 1_000
REQUEST_BYTES = 2 * 1024 * 1024


@dataclass(slots=True)
class Shipment:
    """What became of a file's records."""

    path: str
    format: str
    records: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    cut: bool = False
    """Whether the rest of the file could not be read."""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Declaration:
    """What the user says about the files."""

    source: str
    host: str = ""
    system: str = ""
    service: str = ""
    environment: str = ""


class Shipper:
    """Sends files, one request at a time and in order."""

    def __init__(self, client: httpx.AsyncClient, credentials: SenderCredentials) -> None:
        self._client = client
        self._url = f"{credentials.hec_url.rstrip('/')}/services/collector/event"
        self._headers = {"Authorization": f"Splunk {credentials.ingest_token}", "User-Agent": "elis-ingest"}

    async def check(self) -> None:
        """Proves at once that ELIS answers and knows the token, without sending a record.

        Raises Unavailable or PermissionDenied; only a stack that went away later is waited for.
        """
        await post_once(self._client, self._url, b"", self._headers)

    async def ship(self, file: LogFile, declaration: Declaration, report: Callable[[int], None]) -> Shipment:
        """Sends every record of a file; `report` gets the number of bytes read so far.

        Each request carries a key made of its place in the file and its content: a second run is recognised.
        Raises PermissionDenied when the token is refused and Unavailable when ELIS stays away.
        """
        shipment = Shipment(str(file.path), file.format.name)
        first_record = 0
        for piece in file.pieces():
            if piece.oversize:
                shipment.rejected += piece.oversize
                shipment.notes.append(f"{piece.oversize} line(s) longer than 1 MiB were not sent; split them, the file still has them")
            await self.send(piece.records, declaration, shipment, first_record=first_record)
            first_record += len(piece.records)
            if piece.problem:
                shipment.cut = True
                shipment.notes.append(f"the file is damaged ({piece.problem}); what follows was not sent")
            report(piece.bytes_read)
        return shipment

    async def send(self, records: Sequence[str], declaration: Declaration, shipment: Shipment, *, scope: bytes = b"", first_record: int = 0) -> None:
        """Sends records in requests of bounded size and counts them in `shipment`, whose format they have.

        Sent again with the same scope and the same number of their first record they are recognised.
        """
        for part in _requests(records):
            await self._send(part, scope, first_record, declaration, shipment)
            first_record += len(part)
            shipment.records += len(part)

    async def _send(self, records: Sequence[str], scope: bytes, first_record: int, declaration: Declaration, shipment: Shipment) -> None:
        head = {"source": declaration.source, "host": declaration.host or None}
        fields = {name: value for name in ("system", "service", "environment") if (value := getattr(declaration, name))}
        body = b"\n".join([orjson.dumps({**head, "event": record, "fields": fields}) for record in records])
        key = blake2b(b"%s%d\n%s\n%s" % (scope, first_record, shipment.format.encode(), body), digest_size=16).hexdigest()
        try:
            response = await post(self._client, f"{self._url}?{FORMAT_PARAMETER}={shipment.format}", body, {**self._headers, IDEMPOTENCY_HEADER: key})
        except Busy:
            raise Unavailable("ELIS stays busy; what was sent is recognised when it is sent again") from None
        shipment.accepted += int(response.headers.get("elis-accepted", 0))
        shipment.duplicates += int(response.headers.get("elis-duplicates", 0))
        shipment.rejected += int(response.headers.get("elis-rejected", 0))
        if response.is_error:
            reply = read_hec(response)
            if reply.code < 0:
                raise Unavailable(f"what answers at {self._url} is not ELIS: status {response.status_code}, {reply.text!r}")
            number = reply.invalid_event_number
            if number is None:
                shipment.rejected += len(records)
                shipment.notes.append(f"records {first_record + 1} to {first_record + len(records)} were refused: {reply.text}")
                return
            shipment.rejected += 1
            shipment.notes.append(f"record {first_record + number + 1} was refused: {reply.text}")
            if number + 1 < len(records):
                await self._send(records[number + 1 :], scope, first_record + number + 1, declaration, shipment)


def _requests(records: Sequence[str]) -> Iterator[Sequence[str]]:
    start = size = 0
    for number, record in enumerate(records):
        size += len(record)
        if number + 1 - start >= REQUEST_RECORDS or size >= REQUEST_BYTES:
            yield records[start : number + 1]
            start, size = number + 1, 0
    if start < len(records):
        yield records[start:]
