"""`make bench`: measures ELIS on this machine. Run as `python -m benchmarks`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import orjson
import typer
from rich.progress import TaskID

from benchmarks.answers import measure_questions, measure_throughput
from benchmarks.baselines import MAX_LINES, measure_lists, measure_tantivy
from benchmarks.corpus import Corpus, build_corpus
from benchmarks.elastic import COMMAND, measure_elasticsearch
from benchmarks.fleet import ROOT, BenchmarkFailed
from benchmarks.loads import LOADS, LoadResult, measure_load
from benchmarks.machine import describe_commit, describe_machine
from benchmarks.report import Report
from benchmarks.scaling import measure_growth, measure_processes
from benchmarks.session import ENVIRONMENT, Session, console, open_session, show_progress
from benchmarks.storage import fetch_lines, measure_storage
from benchmarks.victorialogs import VARIABLE, find_command, measure_victorialogs
from kit.errors import ElisError
from kit.terminal import complain
from kit.up import StackFailed

BULK = ("hec", "hec-10k", "otlp-grpc", "otlp-grpc-10k", "otlp-http", "bulk", "bulk-10k")
SMALL = ("half", "small", "small-half", "single")
GROWTH = "growth"
"""Left out unless it is asked for: it takes many minutes."""
STORES = ("elasticsearch", "victorialogs")
"""Measured before ELIS starts: each has the machine to itself."""
MEASURES = (*STORES, *BULK, "storage", "questions", "gateway", "tantivy", "strawberry", "processes", *SMALL, GROWTH)
"""In the order in which they run: small requests come last, since their small blocks would change what storage costs."""
MAX_EVENTS = 5_000_000


class Run:
    """One run: does the chosen measures, shows their results and keeps them for the JSON."""

    def __init__(self, session: Session, chosen: tuple[str, ...], seed: int, growth: int, report: Report) -> None:
        self._session = session
        self._chosen = chosen
        self._seed = seed
        self._growth = growth
        self._report = report
        self._rates: dict[str, float] = {}
        self.results: dict[str, Any] = {}

    def measure(self) -> None:
        """Measures what was chosen. Questions about events need some: without a load among the chosen, HEC sends them."""
        loads = [name for name in BULK if name in self._chosen]
        if not loads and set(self._chosen) - {*SMALL, *STORES, "processes", GROWTH}:
            loads = ["hec"]
        self._measure_loads(loads)
        steps: dict[str, Callable[[], None]] = {
            "storage": self._measure_storage,
            "questions": self._measure_questions,
            "gateway": self._measure_gateway,
            "tantivy": self._measure_tantivy,
            "strawberry": self._measure_strawberry,
            "processes": self._measure_processes,
            GROWTH: self._measure_growth,
        }
        for name, step in steps.items():
            if name in self._chosen:
                step()
        self._measure_loads([name for name in SMALL if name in self._chosen])
        if "elasticsearch" in self._chosen and self.results.keys() & {"loads", "processes"}:
            self._report.show_ratios(self.results)

    def _measure_loads(self, names: list[str]) -> None:
        results: list[LoadResult] = []
        for name in names:
            half_of = LOADS[name].half_of
            if half_of and half_of not in self._rates:
                raise BenchmarkFailed(f"the measure {name} needs {half_of} before it: add --only {half_of}")
            results.append(measure_load(self._session, LOADS[name], self._seed, self._rates.get(half_of, 0.0) / 2))
            self._rates[name] = results[-1].rates()["requests_per_second"]
        if results:
            self._report.show_loads(results)
            self.results.setdefault("loads", []).extend({**asdict(result), **result.rates()} for result in results)

    def _measure_storage(self) -> None:
        result = measure_storage(self._session)
        self._report.show_storage(result)
        self.results["storage"] = asdict(result)

    def _measure_questions(self) -> None:
        results = measure_questions(self._session)
        self._report.show_questions(results)
        self.results["questions"] = [asdict(result) for result in results]

    def _measure_gateway(self) -> None:
        results = measure_throughput(self._session)
        self._report.show_throughput(results)
        self.results["gateway"] = [asdict(result) for result in results]

    def _measure_tantivy(self) -> None:
        result = measure_tantivy(fetch_lines(self._session, MAX_LINES))
        self._report.show_tantivy(result)
        self.results["tantivy"] = asdict(result)

    def _measure_processes(self) -> None:
        results = measure_processes(self._session)
        self._report.show_processes(results)
        self.results["processes"] = [asdict(result) for result in results]

    def _measure_growth(self) -> None:
        results = measure_growth(self._session, self._growth)
        self._report.show_growth(results)
        self.results[GROWTH] = [asdict(result) for result in results]

    def _measure_strawberry(self) -> None:
        results = measure_lists(fetch_lines(self._session, 1_000))
        self._report.show_lists(results)
        self.results["strawberry"] = [asdict(result) for result in results]


def bench(
    events: Annotated[int, typer.Option(min=1_000, max=MAX_EVENTS, help="Events of each load.")] = 200_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same events.")] = 7,
    only: Annotated[list[str] | None, typer.Option(metavar="NAME", help=f"Measure only this, may be repeated: {', '.join(MEASURES)}.")] = None,
    growth: Annotated[int, typer.Option(min=1_000, max=100_000_000, help="Events that the measure growth fills ELIS up to.")] = 1_000_000,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the results go [default: benchmarks/results/TIME-COMMIT.json].")] = None,
    logs: Annotated[Path, typer.Option(help="Folder of real logs (*.log); without it all events are simulated.")] = ROOT.parent / "shared" / "data" / "loghub",
) -> None:
    """Starts ELIS in a temporary folder, sends it events, asks it questions, and prints what that costs."""
    chosen = tuple(only) if only else _choose()
    unknown = [name for name in chosen if name not in MEASURES]
    if unknown:
        complain(f"there is no measure {unknown[0]!r}; choose from {', '.join(MEASURES)}")
        raise typer.Exit(2)
    machine, commit, started = describe_machine(), describe_commit(), datetime.now(UTC)
    target = json or ROOT / "benchmarks" / "results" / f"{started:%Y-%m-%dT%H%M%S}-{commit or 'unknown'}.json"
    options = {"events": events, "seed": seed, "only": ",".join(only or ["everything"]), **ENVIRONMENT}
    with _open_results(target) as results:
        corpus, measured = _run(chosen, events, seed, growth, logs, lambda corpus, report: report.show_run(machine, commit, options, corpus))
        content = {
            "started_at": started.isoformat(),
            "commit": commit,
            "machine": machine,
            "options": options,
            "corpus": {"hec": corpus.hec.describe(), "otlp": corpus.otlp.describe(), "distinct_real_lines": corpus.distinct_real_lines},
            "results": measured,
        }
        results.write(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    console.print(f"results written to {target}")


def _choose() -> tuple[str, ...]:
    """Returns every measure but growth and the stores that are missing here."""
    missing = {GROWTH} if COMMAND.exists() else {GROWTH, "elasticsearch"}
    if find_command() is None:
        missing.add("victorialogs")
        console.print(f"VictoriaLogs is left out: there is no victoria-logs on PATH or in {VARIABLE}")
    return tuple(name for name in MEASURES if name not in missing)


def _run(
    chosen: tuple[str, ...], events: int, seed: int, growth: int, logs: Path, introduce: Callable[[Corpus, Report], None]
) -> tuple[Corpus, dict[str, Any]]:
    """Returns the corpus and the results of the chosen measures; exits with a sentence when there are none."""
    report = Report()
    try:
        corpus = _build(seed, events, logs)
        introduce(corpus, report)
        elastic = measure_elasticsearch(corpus) if "elasticsearch" in chosen else []
        if elastic:
            report.show_store("Elasticsearch", elastic, "_bulk, its own mapping")
        victoria = measure_victorialogs(corpus) if "victorialogs" in chosen else []
        if victoria:
            report.show_store("VictoriaLogs", victoria, "JSON lines, a stream per host and file; it replies before it writes")
        with open_session(corpus) as session:
            run = Run(session, chosen, seed, growth, report)
            run.results["elasticsearch"] = [asdict(result) for result in elastic]
            run.results["victorialogs"] = [asdict(result) for result in victoria]
            run.measure()
    except (BenchmarkFailed, StackFailed, ElisError) as error:
        complain(str(error))
        raise typer.Exit(1) from None
    except (KeyboardInterrupt, SystemExit):
        complain("stopped before the end; no results were written")
        raise SystemExit(130) from None
    return corpus, run.results


@contextmanager
def _open_results(target: Path) -> Iterator[BinaryIO]:
    """Yields a file that takes the place of `target` when all went well; what stood there before stays otherwise."""
    fresh = target.with_name(f"{target.name}.new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = fresh.open("wb")
    except OSError as error:
        complain(f"the results cannot be written to {target} ({error.strerror}); choose another file with --json")
        raise typer.Exit(2) from None
    try:
        with file:
            yield file
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


def _build(seed: int, events: int, logs: Path) -> Corpus:
    with show_progress("making events", 1.0) as bar:
        return build_corpus(seed, events, logs, lambda share: bar.update(TaskID(0), completed=share))


if __name__ == "__main__":
    typer.run(bench)
