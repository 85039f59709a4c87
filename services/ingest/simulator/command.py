"""The command `elis simulate`."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import orjson
import stamina.instrumentation
import typer
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table

from kit.errors import ElisError, InvalidArgument, NotFound
from kit.terminal import complain, console
from services.ingest.credentials_file import DEFAULT_CREDENTIALS, CredentialsOption, SenderCredentials, read_credentials
from services.ingest.simulator import stamps
from services.ingest.simulator.generator import check_plan
from services.ingest.simulator.labels import describe_plan
from services.ingest.simulator.playback import Progress, check_speed, play, write
from services.ingest.simulator.scenarios import SCENARIOS
from services.ingest.simulator.stamps import SECOND
from services.ingest.simulator.story import NOMINAL_RATE, Plan

EXIT_FAILED = 1
EXIT_WRONG_USE = 2
EXIT_INTERRUPTED = 130
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", re.ASCII)


def simulate(
    scenario: Annotated[str, typer.Option(help="What happens; --list shows all of them.")] = "hana-volume-full",
    seed: Annotated[int, typer.Option(help="The same seed gives the same events.")] = 42,
    rate: Annotated[float, typer.Option(help="Events per second of event time, of the whole landscape.")] = NOMINAL_RATE,
    duration: Annotated[str, typer.Option(help="Event time, for example 40m or 1h30m.")] = "40m",
    fault_at: Annotated[float, typer.Option(help="Part of the duration after which the fault begins.")] = 0.7,
    speed: Annotated[float, typer.Option(help="How much faster than the clock event time runs; 0 is as fast as possible.")] = 60.0,
    start: Annotated[str | None, typer.Option(help="Event time of the beginning, ISO 8601 [default: the duration ago].")] = None,
    labels: Annotated[Path | None, typer.Option(help="File for the truth: which event belongs to which fault, JSON lines.")] = None,
    credentials: CredentialsOption = DEFAULT_CREDENTIALS,
    out: Annotated[Path | None, typer.Option(help="Folder to write the events to, instead of sending them.")] = None,
    sap_dir: Annotated[Path | None, typer.Option(help="Folder that keeps the files of the SAP hosts [default: a temporary one].")] = None,
    list_scenarios: Annotated[bool, typer.Option("--list", help="Show the scenarios and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the final counts as JSON.")] = False,
) -> None:
    """Plays a story of simulated Splunk, SAP and application logs into ELIS."""
    if list_scenarios:
        _show_scenarios(as_json)
        return
    try:
        seconds = parse_duration(duration)
        plan = Plan(scenario, seed, rate, seconds, fault_at, parse_start(start, seconds))
        check_plan(plan)
        check_speed(speed)
        progress = Progress(describe_plan(plan))
        finished = _run(plan, progress, speed=speed, labels=labels, credentials=credentials, out=out, sap_dir=sap_dir)
    except ElisError as error:
        complain(error.message)
        raise typer.Exit(EXIT_WRONG_USE if isinstance(error, (InvalidArgument, NotFound)) else EXIT_FAILED) from None
    _show_summary(progress, as_json)
    if not finished:
        complain("stopped before the end of the story")
        raise typer.Exit(EXIT_INTERRUPTED)
    if failed := progress.failed.total():
        complain(f"ELIS did not take {failed} of {progress.events} events; its log says why")
        raise typer.Exit(EXIT_FAILED)


def parse_duration(text: str) -> int:
    """Returns the seconds in `40m`, `1h30m`, `90s` or `90`; raises InvalidArgument."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise InvalidArgument(f"{text!r} is not a duration; write it like 40m, 1h30m or 90s")
    hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def parse_start(text: str | None, duration: int) -> int:
    """Returns a start in nanoseconds since 1970: the time given (UTC without a zone), else `duration` seconds ago."""
    if text is None:
        return (int(time.time()) - duration) * SECOND
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidArgument(f"{text!r} is not a time; write it like 2026-11-24T06:00:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * SECOND


def _run(plan: Plan, progress: Progress, *, speed: float, labels: Path | None, credentials: Path, out: Path | None, sap_dir: Path | None) -> bool:
    """Plays or writes the story; returns False when Ctrl-C ended it."""
    # A retry shows in the counts and in the time it takes; a log line would break the progress bar.
    stamina.instrumentation.set_on_retry_hooks(())
    with _progress_bar() as bar:
        task = bar.add_task(plan.scenario, total=plan.duration, systems="", clock="")

        def report(progress: Progress) -> None:
            _advance(bar, task, progress)

        if out is not None:
            playing = write(plan, out, labels=labels, progress=progress, report=report)
        else:
            playing = play(
                plan, read_credentials(credentials, SenderCredentials), speed=speed, labels=labels, sap_dir=sap_dir, progress=progress, report=report
            )
        try:
            asyncio.run(playing)
        except KeyboardInterrupt:
            return False
    return True


def _progress_bar() -> ProgressBar:
    return ProgressBar(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[clock]}"),
        TextColumn("{task.fields[systems]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _advance(bar: ProgressBar, task: TaskID, progress: Progress) -> None:
    done = (progress.clock_ns - progress.header.start_ns) / SECOND
    systems = "  ".join(f"{system} {count:,}" for system, count in sorted(progress.systems.items()))
    bar.update(task, completed=done, systems=systems, clock=stamps.iso(progress.clock_ns)[:19].replace("T", " "))


def _show_scenarios(as_json: bool) -> None:
    if as_json:
        rows = [{"name": row.name, "summary": row.summary, "root": msgspec.to_builtins(row.root)} for row in SCENARIOS.values()]
        print(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
        return
    table = Table("scenario", "root cause", "what happens", box=None)
    for row in SCENARIOS.values():
        table.add_row(row.name, f"{row.root.system}/{row.root.service}" if row.root else "none", row.summary)
    Console().print(table)


def _show_summary(progress: Progress, as_json: bool) -> None:
    if as_json:
        print(orjson.dumps(summarise(progress)).decode())
        return
    table = Table("system", "service", "events", box=None)
    table.columns[2].justify = "right"
    for (system, service), count in sorted(progress.services.items()):
        table.add_row(system, service, f"{count:,}")
    answer = Console(highlight=False)
    answer.print(table)
    header = progress.header
    planted = f"{header.root.system}/{header.root.service} from {header.fault_start}" if header.root else "nothing"
    answer.print(f"{progress.events:,} events in {progress.seconds:.1f} s; planted: {planted}")


def summarise(progress: Progress) -> dict[str, Any]:
    """Returns the final counts for scripts."""
    return {
        "header": msgspec.to_builtins(progress.header),
        "events": progress.events,
        "systems": dict(progress.systems),
        "accepted": dict(progress.accepted),
        "failed": dict(progress.failed),
        "seconds": round(progress.seconds, 3),
    }
