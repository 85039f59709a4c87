"""The `elis` command."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from kit.migrate import migrate as migrate_target
from kit.migrate import migrating_targets
from kit.settings import Settings, load_settings
from kit.targets import TARGETS
from kit.terminal import complain, console
from kit.up import MAX_PORT_OFFSET, StackFailed, run_stack, run_until_signal

# Commands that belong to a target, loaded when they are used: name -> module:function.
COMMANDS: dict[str, str] = {
    "admin": "services.auth.command:app",
    "ingest": "services.ingest.command:ingest",
    "simulate": "services.ingest.simulator.command:simulate",
    "demo": "services.ingest.demo:demo",
    "canary": "services.ingest.canary.command:canary",
    "endpoints": "services.ingest.endpoints_command:endpoints",
}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="ELIS, the Engineering Log Intelligence System.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def up(
    data: Annotated[Path, typer.Option(help="Folder of everything that ELIS keeps.")] = Path("elis-data"),
    port_offset: Annotated[int, typer.Option(min=0, max=MAX_PORT_OFFSET, help="Added to every port.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the credentials as JSON when ready.")] = False,
) -> None:
    """Runs the whole of ELIS on this machine until Ctrl-C."""
    with run_stack(data, port_offset, report=lambda step: console.print(f"[dim]{step} …[/dim]")) as stack:
        if as_json:
            print(json.dumps({**stack.credentials, "credentials": str(stack.credentials_path), "process_ids": stack.tree.process_ids()}), flush=True)
        else:
            print(f"playground   {stack.credentials['playground_url']}")
            print(f"credentials  {stack.credentials_path}")
        print("ELIS is ready", flush=True)
        run_until_signal(stack)


@app.command()
def run(target: Annotated[str, typer.Argument(help="One of: " + ", ".join(TARGETS))]) -> None:
    """Runs one target against engines given by ELIS_* settings: what a pod runs."""
    row = TARGETS.get(target)
    if row is None:
        complain(f"there is no target {target!r}; choose one of {', '.join(TARGETS)}")
        raise SystemExit(2)
    sys.argv = [row.module]
    runpy.run_module(row.module, run_name="__main__", alter_sys=True)


@app.command()
def migrate(targets: Annotated[list[str] | None, typer.Argument(help="Targets; all when none is named.")] = None) -> None:
    """Brings the database schemas to their newest revision."""
    settings = load_settings(Settings)
    for name in targets or migrating_targets():
        if name not in migrating_targets():
            complain(f"{name!r} owns no schema; choose from {', '.join(migrating_targets())}")
            raise SystemExit(2)
        try:
            migrate_target(name, settings.database_url.get_secret_value())
        except OSError as error:
            complain(f"PostgreSQL does not answer ({error.strerror or error}); see whether it runs and what ELIS_DATABASE_URL says")
            raise SystemExit(1) from None
        console.print(f"{name}: up to date", highlight=False)


def _mount(name: str) -> None:
    module, _, attribute = COMMANDS[name].partition(":")
    command: Any = getattr(import_module(module), attribute)
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        function: Callable[..., Any] = command
        app.command(name)(function)


def main() -> None:
    """Runs the command that `sys.argv` names, and loads only what that one needs."""
    first = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), None)
    for name in COMMANDS if first is None else COMMANDS.keys() & {first}:
        _mount(name)
    try:
        app()
    except StackFailed as error:
        complain(str(error))
        raise SystemExit(1) from None
