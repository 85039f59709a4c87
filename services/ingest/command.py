"""The command `elis ingest`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import orjson
import stamina.instrumentation
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from kit.errors import ElisError, InvalidArgument, NotFound
from kit.terminal import complain, console
from services.ingest.credentials_file import DEFAULT_CREDENTIALS, CredentialsOption, SenderCredentials, read_credentials
from services.ingest.follower import Follower
from services.ingest.following import Following, ship_stream
from services.ingest.formats import FORMATS
from services.ingest.logfile import LogFile, open_log_file
from services.ingest.positions import PositionFolder
from services.ingest.receivers.hec_events import SYSTEMS
from services.ingest.sender import open_client
from services.ingest.shipper import Declaration, Shipment, Shipper

STDIN = Path("-")
STDIN_DESCRIPTOR = 0
EXIT_FAILED = 1
EXIT_WRONG_USE = 2
EXIT_INTERRUPTED = 130


def ingest(
    files: Annotated[list[Path], typer.Argument(help="Log files, also gzip; - is standard input.", show_default=False)],
    source: Annotated[str, typer.Option(help="Name under which the events are found.")],
    format_name: Annotated[str, typer.Option("--format", help="Log format.", show_default="detected per file")] = "",
    system: Annotated[str, typer.Option(help="splunk, sap, application or infrastructure.", show_default="what the format implies")] = "",
    host: Annotated[str, typer.Option(help="Host, where the records name none.")] = "",
    service: Annotated[str, typer.Option(help="Service, where the records name none.")] = "",
    environment: Annotated[str, typer.Option(help="Environment.", show_default="production")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is appended, also when the files rotate, until Ctrl-C.")] = False,
    positions: Annotated[Path | None, typer.Option(help="Folder of positions for --follow.", show_default="positions beside the credentials")] = None,
    credentials: CredentialsOption = DEFAULT_CREDENTIALS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Sends log files to ELIS; running it again adds nothing."""
    if follow and STDIN in files:
        complain("--follow is for files; standard input is read until it ends anyway")
        raise typer.Exit(EXIT_WRONG_USE)
    stamina.instrumentation.set_on_retry_hooks(())  # a retry shows in the time it takes; a log line would break the bar
    problems: list[str] = []
    try:
        if format_name and format_name not in FORMATS:
            raise InvalidArgument(f"there is no format {format_name!r}; choose one of {', '.join(FORMATS)}")
        if system and system not in SYSTEMS:
            raise InvalidArgument(f"there is no system {system!r}; choose one of {', '.join(sorted(SYSTEMS))}")
        declaration = Declaration(source, host, system, service, environment)
        receiver = read_credentials(credentials, SenderCredentials)
        if follow:
            book = PositionFolder(positions or credentials.with_name("positions"))
            paths = list({path.absolute(): path for path in files}.values())
            for path in paths:
                book.claim(path)
            following = Following([Follower(path, book, format_name) for path in paths], declaration, receiver)
            shipments = following.run()
        else:
            opened, problems = _open_files([path for path in files if path != STDIN], format_name)
            shipments = asyncio.run(_ship(opened, declaration, receiver))
            if STDIN in files:
                shipments.append(asyncio.run(ship_stream(STDIN_DESCRIPTOR, declaration, receiver, format_name)))
    except ElisError as error:
        complain(error.message)
        raise typer.Exit(EXIT_WRONG_USE if isinstance(error, InvalidArgument | NotFound) else EXIT_FAILED) from None
    except KeyboardInterrupt:
        complain("stopped; run the same command again to go on, what was sent of files is recognised")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _show(shipments, as_json)
    for problem in problems:
        complain(problem)
    for shipment in shipments:
        for note in shipment.notes:
            complain(f"{shipment.path}: {note}")
    if problems or any(shipment.rejected or shipment.cut for shipment in shipments):
        raise typer.Exit(EXIT_FAILED)


def _open_files(paths: Sequence[Path], format_name: str) -> tuple[list[LogFile], list[str]]:
    """Opens every file before anything is sent; a missing one is wrong use, an unreadable one is left out and named."""
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise NotFound(f"there is no file {', '.join(map(str, missing))}; nothing was sent")
    opened: list[LogFile] = []
    problems: list[str] = []
    for path in paths:
        try:
            file = open_log_file(path, format_name)
        except InvalidArgument as error:
            problems.append(error.message)
            continue
        if file.size:
            opened.append(file)
        else:
            console.print(f"{path} is empty: nothing to send")
    return opened, problems


async def _ship(files: Sequence[LogFile], declaration: Declaration, receiver: SenderCredentials) -> list[Shipment]:
    shipments: list[Shipment] = []
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        async with open_client() as client:
            shipper = Shipper(client, receiver)
            if files:
                await shipper.check()
            for file in files:
                task = bar.add_task(file.path.name, total=file.size)
                shipments.append(await shipper.ship(file, declaration, lambda done, task=task: bar.update(task, completed=done)))  # type: ignore[misc]
    return shipments


def _show(shipments: Sequence[Shipment], as_json: bool) -> None:
    totals = {name: sum(getattr(shipment, name) for shipment in shipments) for name in ("records", "accepted", "duplicates", "rejected")}
    if as_json:
        print(orjson.dumps({**totals, "files": [asdict(shipment) for shipment in shipments]}).decode())
        return
    table = Table("file", "format", *totals, box=None)
    table.columns[0].overflow = "fold"  # a path that is cut names no file
    for column in table.columns[2:]:
        column.justify = "right"
    for shipment in shipments:
        table.add_row(shipment.path, shipment.format, *(f"{getattr(shipment, name):,}" for name in totals))
    if len(shipments) > 1:
        table.add_row("total", "", *(f"{value:,}" for value in totals.values()), style="bold")
    if shipments:
        Console(file=sys.stdout).print(table)
