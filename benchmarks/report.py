"""The tables of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.answers import QuestionResult, ThroughputResult
from benchmarks.baselines import ListResult, TantivyResult
from benchmarks.corpus import Corpus
from benchmarks.loads import LoadResult
from benchmarks.scaling import GrowthResult, ProcessesResult
from benchmarks.storage import StorageResult
from benchmarks.stores import StoreResult

WIDTH = 140


class Report:
    """Prints results as they are known, on stdout."""

    def __init__(self) -> None:
        self._console = Console(width=WIDTH, highlight=False)

    def show_run(self, machine: dict[str, Any], commit: str, options: dict[str, Any], corpus: Corpus) -> None:
        """Prints what runs where on what."""
        libraries = ", ".join(f"{name} {number}" for name, number in machine["libraries"].items())
        self._console.print(f"machine  {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}")
        self._console.print(f"         Python {machine['python']}, {libraries}; load average before the run {machine['load_before']}")
        self._console.print(f"commit   {commit or 'unknown'}; options {', '.join(f'{name}={value}' for name, value in options.items())}")
        for name, stream in (("HEC", corpus.hec), ("OTLP", corpus.otlp)):
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in stream.kinds.most_common())
            self._console.print(f"corpus   {name}: {kinds}; mean text {stream.text_bytes / stream.kinds.total():.0f} bytes")
        self._console.print(
            f"         real: {corpus.distinct_real_lines:,} distinct lines of LogHub; when they repeat, their numbers of 4 and more digits are new"
        )

    def show_loads(self, loads: Sequence[LoadResult]) -> None:
        """Prints rates, processor time by process and memory, one column for each load."""
        rates = [load.rates() for load in loads]
        table = self._table("taking events in", [load.name for load in loads])
        self._row(table, "events", (f"{load.events:,}" for load in loads))
        self._row(table, "events per request, connections", (f"{_span(load.events_per_request)}, {load.connections}" for load in loads))
        self._row(table, "bytes per event on the wire", (f"{load.request_bytes / load.events:,.0f}" for load in loads))
        for text, name in (
            ("acknowledged events/s", "acknowledged_per_second"),
            ("acknowledged requests/s", "requests_per_second"),
            ("searchable events/s", "searchable_per_second"),
            ("acknowledged events per CPU second", "acknowledged_per_cpu_second"),
            ("searchable events per CPU second", "searchable_per_cpu_second"),
            ("events per CPU second until idle", "settled_per_cpu_second"),
        ):
            self._row(table, text, (f"{rate[name]:,.0f}" for rate in rates))
        self._row(table, "acknowledged after, p50 / p99 ms", (f"{load.latency.p50:,.1f} / {load.latency.p99:,.1f}" for load in loads))
        self._row(table, "seconds until searchable / in statistics", (f"{load.seconds_searchable:.1f} / {load.seconds_rolled_up:.1f}" for load in loads))
        self._row(table, "busy replies / equal requests", (f"{load.retries} / {load.duplicates}" for load in loads))
        self._console.print(table)

        names = list(loads[0].cpu_seconds_by_process)
        table = self._table("CPU seconds per 100,000 events, until idle", [load.name for load in loads])
        for name in names:
            self._row(table, name, (f"{1e5 * load.cpu_seconds_by_process[name] / load.events:.2f}" for load in loads))
        self._row(table, "all of ELIS", (f"{1e5 * load.cpu_seconds_settled / load.events:.2f}" for load in loads))
        self._row(table, "clients (not counted above)", (f"{1e5 * load.client_cpu_seconds / load.events:.2f}" for load in loads))
        self._console.print(table)

        stages = sorted(loads[0].stage_seconds, key=lambda name: -loads[0].stage_seconds[name])
        table = self._table("ingest: microseconds of the processor per event by stage; commit: of waiting", [load.name for load in loads])
        for name in stages:
            self._row(table, name, (f"{1e6 * load.stage_seconds.get(name, 0.0) / load.events:.2f}" for load in loads))
        others = (load.cpu_seconds_by_process["ingest"] - sum(seconds for name, seconds in load.stage_seconds.items() if name != "commit") for load in loads)
        self._row(table, "everything else of ingest", (f"{1e6 * seconds / load.events:.2f}" for seconds, load in zip(others, loads, strict=True)))
        self._console.print(table)

        table = self._table("resident memory afterwards, MiB", [load.name for load in loads])
        for name in names:
            self._row(table, name, (f"{load.memory_bytes[name] / 2**20:,.0f}" for load in loads))
        self._row(table, "all", (f"{sum(load.memory_bytes.values()) / 2**20:,.0f}" for load in loads))
        self._console.print(table)

    def show_store(self, name: str, results: Sequence[StoreResult], manner: str) -> None:
        """Prints what another store took in that manner, one column for each size of request."""
        table = self._table(f"{name} {results[0].version} alone, the same lines, {manner}", [f"{r.events_per_request:,} a request" for r in results])
        self._row(table, "acknowledged events/s", (f"{r.events / r.seconds_acknowledged:,.0f}" for r in results))
        self._row(table, "searchable events/s", (f"{r.events / r.seconds_searchable:,.0f}" for r in results))
        self._row(table, "events per CPU second", (f"{r.events / r.cpu_seconds:,.0f}" for r in results))
        self._row(table, "stored bytes per event", (f"{r.stored_bytes:,.0f}" for r in results))
        self._console.print(table)

    def show_ratios(self, results: dict[str, Any]) -> None:
        """Prints how many times what Elasticsearch took ELIS took, against the same size of request."""
        elastic = results["elasticsearch"]
        searchable = {result["events_per_request"]: result["events"] / result["seconds_searchable"] for result in elastic}
        loads = [load for load in results.get("loads", ()) if load["events_per_request"][1] in searchable and load["name"] != "half"]
        if loads:
            table = self._table("ELIS against Elasticsearch, in this run", [load["name"] for load in loads])
            for what in ("acknowledged", "searchable"):
                ratios = (load[f"{what}_per_second"] / searchable[load["events_per_request"][1]] for load in loads)
                self._row(table, f"{what}: times what Elasticsearch made searchable", (f"{ratio:.2f}" for ratio in ratios))
            self._console.print(table)
        scaled = [result for result in results.get("processes", ()) if result["events_per_request"] in searchable]
        if scaled:
            table = self._table("several ingest processes, HEC", [f"{result['processes']} × {result['events_per_request']:,}" for result in scaled])
            ratios = (result["events"] / result["seconds"] / searchable[result["events_per_request"]] for result in scaled)
            self._row(table, "acknowledged: times what Elasticsearch made searchable", (f"{ratio:.2f}" for ratio in ratios))
            self._console.print(table)
        if "storage" in results:
            whole = results["storage"]["blocks_table"] + results["storage"]["index"]
            least = min(result["stored_bytes"] for result in elastic)
            self._console.print(f"stored: blocks and index {whole:,.0f} bytes per event, {whole / least:.2f} of Elasticsearch's {least:,.0f}")

    def show_processes(self, results: Sequence[ProcessesResult]) -> None:
        """Prints what more ingest processes take."""
        for size in dict.fromkeys(result.events_per_request for result in results):
            chosen = [result for result in results if result.events_per_request == size]
            table = self._table(f"more ingest processes on one database, HEC, requests of about {size:,}", [f"{result.processes}" for result in chosen])
            self._row(table, "acknowledged events/s", (f"{result.events / result.seconds:,.0f}" for result in chosen))
            self._row(table, "ingest CPU µs per event", (f"{1e6 * result.ingest_cpu_seconds / result.events:,.1f}" for result in chosen))
            self._row(table, "PostgreSQL CPU µs per event", (f"{1e6 * result.postgresql_cpu_seconds / result.events:,.1f}" for result in chosen))
            self._console.print(table)

    def show_growth(self, results: Sequence[GrowthResult]) -> None:
        """Prints what an event costs as ELIS fills."""
        names = ("ingest", "search", "correlate", "postgresql")
        table = self._table("HEC, as ELIS fills: CPU µs per event", ["searchable/s", *names, "MiB of all"])
        for result in results:
            costs = (f"{1e6 * result.cpu_seconds_by_process[name] / result.events:,.1f}" for name in names)
            memory = sum(result.memory_bytes.values()) / 2**20
            self._row(table, f"{result.stored:,} stored", (f"{result.events / result.seconds_searchable:,.0f}", *costs, f"{memory:,.0f}"))
        self._console.print(table)

    def show_storage(self, storage: StorageResult) -> None:
        """Prints bytes per event."""
        table = self._table(f"bytes per event, {storage.events:,} events in blocks of {storage.events_per_block:,.0f}", ["bytes"])
        rows = [
            ("canonical line", storage.canonical_line),
            ("compressed lines in blocks", storage.compressed_lines),
            ("summaries in blocks", storage.summaries),
            ("table of blocks with its indexes", storage.blocks_table),
            *((f"schema {name} in PostgreSQL", size) for name, size in sorted(storage.schemas.items())),
            ("search index", storage.index),
        ]
        for name, size in rows:
            self._row(table, name, [f"{size:,.1f}"])
        self._console.print(table)

    def show_questions(self, results: Sequence[QuestionResult]) -> None:
        """Prints latencies of questions."""
        table = self._table("questions through GraphQL, one at a time", ["p50 ms", "p99 ms", "asked", "answer KiB", "gateway CPU ms", "search CPU ms"])
        for result in results:
            cpu = result.cpu_ms_by_process
            figures = (f"{result.latency.p50:.1f}", f"{result.latency.p99:.1f}", f"{result.latency.count}", f"{result.mean_answer_bytes / 1024:.1f}")
            self._row(table, result.name, (*figures, f"{cpu['gateway']:.2f}", f"{cpu['search']:.2f}"))
        self._console.print(table)

    def show_throughput(self, results: Sequence[ThroughputResult]) -> None:
        """Prints requests per second."""
        columns = ["requests/s", "p50 ms", "p99 ms", "gateway CPU ms", "all CPU ms", "client CPU ms"]
        table = self._table("gateway, several connections at once", columns)
        for result in results:
            figures = (f"{result.requests_per_second:,.0f}", f"{result.latency.p50:.1f}", f"{result.latency.p99:.1f}")
            self._row(table, result.name, (*figures, f"{result.gateway_cpu_ms:.2f}", f"{result.all_cpu_ms:.2f}", f"{result.client_cpu_ms:.2f}"))
        self._console.print(table)

    def show_tantivy(self, result: TantivyResult) -> None:
        """Prints the baseline of indexing."""
        table = self._table("baseline: Tantivy alone on the same lines, one writer thread", ["events/s", "events per CPU second", "index bytes/event"])
        figures = (result.lines / result.seconds, result.lines / result.cpu_seconds, result.index_bytes / result.lines)
        self._row(table, f"{result.lines:,} lines", (f"{figure:,.0f}" for figure in figures))
        self._console.print(table)

    def show_lists(self, results: Sequence[ListResult]) -> None:
        """Prints the baseline of a list."""
        table = self._table("baseline: Strawberry alone, prepared rows, no network", ["p50 ms", "p99 ms", "CPU ms"])
        for result in results:
            name = f"{result.rows} rows, " + ("documents cached" if result.cached else "stock")
            self._row(table, name, (f"{result.latency.p50:.2f}", f"{result.latency.p99:.2f}", f"{result.cpu_ms:.2f}"))
        self._console.print(table)

    def _table(self, title: str, columns: Sequence[str]) -> Table:
        self._console.print(f"\n[bold]{title}[/bold]")
        table = Table("", *columns, box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column in table.columns[1:]:
            column.justify = "right"
        return table

    def _row(self, table: Table, name: str, figures: Iterable[str]) -> None:
        table.add_row(name, *figures)


def _span(sizes: tuple[int, int]) -> str:
    low, high = sizes
    return f"{low:,}" if low == high else f"{low}–{high}"
