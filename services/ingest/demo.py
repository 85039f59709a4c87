"""The command `elis demo`: starts ELIS, plays a story into it and shows what ELIS made of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, TypeVar

import httpx
import stamina.instrumentation
import typer
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from kit.errors import DeadlineExceeded, ElisError, InvalidArgument, NotFound, RateLimited, Unavailable
from kit.terminal import complain, console
from kit.up import MAX_PORT_OFFSET, Stack, run_stack, run_until_signal
from services.ingest.credentials_file import SenderCredentials, read_credentials
from services.ingest.simulator.generator import check_plan
from services.ingest.simulator.labels import Header, describe_plan
from services.ingest.simulator.playback import Progress as Playback
from services.ingest.simulator.playback import play
from services.ingest.simulator.stamps import SECOND
from services.ingest.simulator.story import NOMINAL_RATE, Plan

EXIT_WRONG_STORY = 3
STORY_SECONDS = 40 * 60
FAULT_AT = 0.7
SPEED = 150.0
SETTLE_SECONDS = 60.0
"""Longest wait for ELIS to finish its judgement after the last event."""
CALM_SECONDS = 6.0
"""The judgement is finished when nothing has changed for so long."""
EVIDENCE_LINES = 3
_RETRYABLE = frozenset(error.status.name for error in (Unavailable, DeadlineExceeded, RateLimited))

STORY_QUERY = """
query Story($start: DateTime!, $end: DateTime!) {
  statistics(range: {start: $start, end: $end}, groupBy: SYSTEM) { groups { key events errors } lagSeconds }
  incidents(first: 20, range: {start: $start, end: $end}) {
    edges { node {
      id number title state severity startedAt systems services findingCount
      causes { rank system service summary score onset upstream strength startedAt evidence { timestamp source body } }
      timeline { at kind text system }
    } }
  }
}
"""


ResultT = TypeVar("ResultT")


class WrongStory(Exception):
    """ELIS did not find what the story planted."""


def demo(
    scenario: Annotated[str, typer.Option(help="The story; `elis simulate --list` shows all of them.")] = "hana-volume-full",
    seed: Annotated[int, typer.Option(help="The same seed gives the same events.")] = 42,
    once: Annotated[bool, typer.Option("--once", help="Stop after the story; fail when ELIS did not find its cause.")] = False,
    data: Annotated[Path | None, typer.Option(help="Folder to keep the data in [default: a temporary one].")] = None,
    port_offset: Annotated[int, typer.Option(min=0, max=MAX_PORT_OFFSET, help="Added to every port.")] = 0,
    speed: Annotated[float, typer.Option(min=0.0, help="How much faster than the clock the story runs.")] = SPEED,
) -> None:
    """Starts ELIS, plays a story of three systems into it and shows the incident that ELIS makes of it."""
    stamina.instrumentation.set_on_retry_hooks(())  # a retry shows in the time it takes; a log line would break the bar
    plan = Plan(scenario, seed, NOMINAL_RATE, STORY_SECONDS, FAULT_AT, (int(time.time()) - STORY_SECONDS) * SECOND)
    try:
        check_plan(plan)
    except ElisError as error:
        complain(error.message)
        raise typer.Exit(2 if isinstance(error, InvalidArgument | NotFound) else 1) from None
    with _folder(data) as folder, run_stack(folder, port_offset, report=lambda step: console.print(f"[dim]{step} …[/dim]")) as stack:
        try:
            playback = _run(_play(plan, stack, speed))
            story = _run(_await_judgement(stack, playback))
        except ElisError as error:
            complain(error.message)
            raise typer.Exit(1) from None
        _show(stack, playback, story)
        try:
            _check(playback.header, story)
        except WrongStory as error:
            complain(str(error))
            if once:
                raise typer.Exit(EXIT_WRONG_STORY) from None
        if not once:
            console.print("[bold green]ELIS is ready[/bold green]; look around, and stop it with Ctrl-C")
            run_until_signal(stack)


@contextmanager
def _folder(data: Path | None) -> Iterator[Path]:
    if data is not None:
        yield data
        return
    with TemporaryDirectory(prefix="elis-demo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _run(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Returns what the work does; a signal ends it with SystemExit, which asyncio would tell of as a failure that nobody looked at."""
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(_report_failure)
        return runner.run(work)


def _report_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not isinstance(context.get("exception"), SystemExit):
        loop.default_exception_handler(context)


async def _play(plan: Plan, stack: Stack, speed: float) -> Playback:
    playback = Playback(describe_plan(plan))
    columns = (TextColumn("playing {task.description}"), BarColumn(), TextColumn("{task.fields[counts]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(plan.scenario, total=plan.duration, counts="")

        def report(progress: Playback) -> None:
            counts = "  ".join(f"{system} {count:,}" for system, count in sorted(progress.systems.items()))
            bar.update(task, completed=(progress.clock_ns - progress.header.start_ns) / SECOND, counts=counts)

        return await play(plan, read_credentials(stack.credentials_path, SenderCredentials), speed=speed, progress=playback, report=report)


async def _await_judgement(stack: Stack, playback: Playback) -> dict[str, Any]:
    """Asks until every event is counted and nothing has changed for a while; returns the last answer."""
    header = playback.header
    margin = 3_600 * SECOND
    variables = {"start": _iso(header.start_ns - margin), "end": _iso(playback.clock_ns + margin)}
    headers = {"Authorization": f"Bearer {stack.credentials['admin_api_key']}"}
    accepted = sum(playback.accepted.values())
    story: dict[str, Any] = {}
    changed_at = time.monotonic()
    deadline = changed_at + SETTLE_SECONDS
    async with httpx.AsyncClient(timeout=10.0, headers=headers, trust_env=False) as client:
        with console.status("waiting for ELIS to judge the last minutes"):
            while time.monotonic() < deadline:
                try:
                    answer = await _ask(client, stack.credentials["graphql_url"], variables)
                except Unavailable:
                    await asyncio.sleep(0.5)
                    continue
                shape = _shape(answer)
                if not story or shape != _shape(story):
                    changed_at = time.monotonic()
                story = answer
                counted = sum(group["events"] for group in answer["statistics"]["groups"])
                if counted >= accepted and time.monotonic() - changed_at > CALM_SECONDS:
                    break
                await asyncio.sleep(0.5)
    if not story:
        raise Unavailable(f"ELIS did not say in {SETTLE_SECONDS:.0f} s what it made of the story; read the logs in {stack.data_dir / 'logs'}")
    return story


async def _ask(client: httpx.AsyncClient, url: str, variables: dict[str, str]) -> dict[str, Any]:
    """Returns the story so far; raises Unavailable when the gateway has no time for it now."""
    try:
        response = await client.post(url, json={"query": STORY_QUERY, "variables": variables})
    except httpx.TransportError as error:
        raise Unavailable(f"the gateway does not answer ({type(error).__name__})") from None
    content = response.json()
    if content.get("errors"):
        first = content["errors"][0]
        kind = Unavailable if first.get("extensions", {}).get("code") in _RETRYABLE else InvalidArgument
        raise kind(f"the gateway answered: {first['message']}")
    data: dict[str, Any] = content["data"]
    for group in data["statistics"]["groups"]:
        group["events"], group["errors"] = int(group["events"]), int(group["errors"])
    data["incidents"] = [edge["node"] for edge in data["incidents"]["edges"]]
    return data


def _shape(story: dict[str, Any]) -> Any:
    counted = [(group["key"], group["events"]) for group in story["statistics"]["groups"]]
    incidents = [(row["id"], row["findingCount"], [(cause["system"], cause["service"]) for cause in row["causes"]]) for row in story["incidents"]]
    return counted, incidents


def _show(stack: Stack, playback: Playback, story: dict[str, Any]) -> None:
    output = Console(highlight=False)
    counts = Table("system", "sent", "acknowledged", "counted", "errors", box=None, title="events", title_justify="left")
    for column in counts.columns[1:]:
        column.justify = "right"
    groups = {group["key"]: group for group in story["statistics"]["groups"]}
    for system, sent in sorted(playback.systems.items()):
        group = groups.get(system, {"events": 0, "errors": 0})
        counts.add_row(system, f"{sent:,}", f"{playback.accepted[system]:,}", f"{group['events']:,}", f"{group['errors']:,}")
    output.print(counts)
    for incident in story["incidents"]:
        output.print(Panel(_describe(incident), title=f"incident {incident['number']} · {incident['severity']}", title_align="left", border_style="red"))
    if not story["incidents"]:
        output.print("no incident was opened")
    output.print(f"playground   {stack.credentials['playground_url']}")
    output.print(f"credentials  {stack.credentials_path}", soft_wrap=True)


def _describe(incident: dict[str, Any]) -> Text:
    text = Text()
    text.append(f"{incident['title']}\n", "bold")
    text.append(f"{incident['findingCount']} findings in {', '.join(incident['systems'])}; began {_clock(incident['startedAt'])}\n")
    for cause in incident["causes"][:5]:
        place = "/".join(part for part in (cause["system"], cause["service"]) if part)
        text.append(f"\n{cause['rank']}. {place}", "bold yellow" if cause["rank"] == 1 else "yellow")
        parts = f"onset {cause['onset']:.2f}, upstream {cause['upstream']:.2f}, strength {cause['strength']:.2f}"
        text.append(f"  {cause['score']:.2f}  ({parts})  from {_clock(cause['startedAt'])}\n   {cause['summary']}\n")
        for event in cause["evidence"][:EVIDENCE_LINES]:
            body = event["body"].replace("\n", " ⏎ ")
            text.append(f"   {_clock(event['timestamp'])}  {body[:110]}\n", "dim")
    text.append("\nhow it spread\n", "bold")
    for entry in _first_entries(incident["timeline"]):
        text.append(f"   {_clock(entry['at'])}  {entry['system']}: {entry['text'][:100]}\n")
    return text


def _first_entries(timeline: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the first finding of each system, in order of time."""
    first: dict[str, dict[str, Any]] = {}
    for entry in timeline:
        if entry["kind"] == "finding" and entry["system"]:
            first.setdefault(entry["system"], entry)
    return list(first.values())


def _check(header: Header, story: dict[str, Any]) -> None:
    """Raises WrongStory unless ELIS found exactly what was planted."""
    incidents = story["incidents"]
    if header.root is None:
        if incidents:
            raise WrongStory(f"the story has no fault, but ELIS opened {len(incidents)} incident(s)")
        return
    if len(incidents) != 1:
        raise WrongStory(f"the story has one fault, but ELIS opened {len(incidents)} incidents")
    first = incidents[0]["causes"][0]
    if (first["system"], first["service"]) != (header.root.system, header.root.service):
        raise WrongStory(f"the story's cause is {header.root.system}/{header.root.service}, but ELIS ranks {first['system']}/{first['service']} first")


def _iso(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds // SECOND, UTC).isoformat()


def _clock(moment: str | None) -> str:
    return moment[11:19] if moment else "?"
