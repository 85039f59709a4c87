"""The events of a benchmark: real lines and simulated ones, mixed in order of time, the same for the same seed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import orjson

from services.ingest.simulator.delivery import encode_event, encode_records
from services.ingest.simulator.events import FilePayload, HecPayload, Label, OtlpPayload, SimulatedEvent
from services.ingest.simulator.generator import corpus as simulate
from services.ingest.simulator.sap_folder import SapFolder
from services.ingest.simulator.stamps import SECOND

REAL_SHARE = 0.5
SIMULATED_PER_EVENT = 1.5
"""Events to simulate for one that is wanted: each protocol takes about three quarters of a story."""
_FILE_BATCH = 1_000
_NUMBER = re.compile(r"(?<![\d./:-])\d{4,}(?![\d./:-])", re.ASCII)
_NOBODY = Label(0, None, None, "", "")


@dataclass(frozen=True, slots=True)
class Entry:
    """One event for one protocol: its time (nanoseconds since 1970), its kind, the bytes of its text, and what is sent."""

    time_ns: int
    kind: str
    text_bytes: int
    content: bytes | SimulatedEvent


@dataclass(slots=True)
class Stream:
    """The events for one protocol, in order of time."""

    envelopes: list[bytes] = field(default_factory=list)
    """For HEC: one JSON object each."""
    records: list[SimulatedEvent] = field(default_factory=list)
    """For OTLP: to be encoded as requests."""
    kinds: Counter[str] = field(default_factory=Counter)
    text_bytes: int = 0

    def describe(self) -> dict[str, object]:
        """Returns how many events of which kind there are and how long their texts are, for the report."""
        return {"events": self.kinds.total(), "kinds": dict(self.kinds.most_common()), "mean_text_bytes": round(self.text_bytes / self.kinds.total(), 1)}


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is sent."""

    hec: Stream
    otlp: Stream
    distinct_real_lines: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class RealLine:
    """A line of a real log."""

    log: str
    text: str


def build_corpus(seed: int, count: int, logs: Path, report: Callable[[float], None]) -> Corpus:
    """Returns `count` events for each protocol. Half are lines of the `*.log` files below `logs`, when there are any.

    `report` gets the share that is done, 0 to 1. Simulated events are a story of 40 minutes up to some minutes into its fault.
    """
    rng = Random(seed)
    real = _read_logs(logs)
    wanted_real = round(count * REAL_SHARE) if real else 0
    simulated = simulate(seed, max(2_000, round((count - wanted_real) * SIMULATED_PER_EVENT)))
    report(0.5)
    start_ns, span = simulated[0].time_ns, simulated[-1].time_ns - simulated[0].time_ns
    times = [start_ns + int(span * (number + rng.random()) / max(wanted_real, 1)) for number in range(wanted_real)]
    lines = list(zip(times, _play(real, rng, wanted_real), strict=True)) if real else []
    hec = [*_spread(list(_simulated_envelopes(simulated)), count - wanted_real), *(_real_envelope(time_ns, line, rng) for time_ns, line in lines)]
    report(0.8)
    otlp = [*_spread(list(_simulated_records(simulated)), count - wanted_real), *(_real_record(time_ns, line, rng) for time_ns, line in lines)]
    report(1.0)
    return Corpus(_collect(hec), _collect(otlp), len(set(real)), start_ns, start_ns + span + SECOND)


def _read_logs(folder: Path) -> list[RealLine]:
    lines: list[RealLine] = []
    for path in sorted(folder.glob("**/*.log")):
        name = path.stem.partition("_")[0].lower()
        lines.extend(RealLine(name, text) for text in path.read_text("utf-8", "replace").split("\n") if text.strip())
    return lines


def _play(real: list[RealLine], rng: Random, count: int) -> Iterator[RealLine]:
    """Yields lines of all logs side by side. When a log begins again its longer numbers are new, so that no line comes twice unchanged."""
    logs: dict[str, list[RealLine]] = {}
    for line in real:
        logs.setdefault(line.log, []).append(line)
    names, positions = list(logs), Counter[str]()
    for _ in range(count):
        name = names[int(rng.random() * len(names))]
        turn, position = divmod(positions[name], len(logs[name]))
        positions[name] += 1
        line = logs[name][position]
        yield RealLine(line.log, _NUMBER.sub(lambda match: _renumber(match.group(), rng), line.text)) if turn else line


def _renumber(number: str, rng: Random) -> str:
    lowest: int = 10 ** (len(number) - 1)
    return str(lowest + int(rng.random() * 9 * lowest))


def _host(line: RealLine, rng: Random) -> str:
    return f"{line.log}-{int(rng.random() * 4) + 1}"


def _real_envelope(time_ns: int, line: RealLine, rng: Random) -> Entry:
    envelope = {
        "time": f"{time_ns // SECOND}.{time_ns % SECOND:09d}",
        "host": _host(line, rng),
        "source": f"/var/log/{line.log}.log",
        "sourcetype": line.log,
        "event": line.text,
    }
    return Entry(time_ns, "real lines", len(line.text.encode()), orjson.dumps(envelope))


def _real_record(time_ns: int, line: RealLine, rng: Random) -> Entry:
    payload = OtlpPayload(0, "", line.text, {"log.file.path": f"/var/log/{line.log}.log"})
    event = SimulatedEvent(time_ns, "otlp", line.log, "application", line.log, _host(line, rng), payload, _NOBODY)
    return Entry(time_ns, "real lines", len(line.text.encode()), event)


def _simulated_envelopes(events: list[SimulatedEvent]) -> Iterator[Entry]:
    """Yields what forwarders send by HEC: infrastructure, and the files of SAP. Records of a file have no time of their own yet."""
    with TemporaryDirectory(prefix="elis-sap-") as root:
        folder = SapFolder(Path(root))
        for start in range(0, len(events), _FILE_BATCH):
            batch = events[start : start + _FILE_BATCH]
            for event in batch:
                if isinstance(event.payload, HecPayload):
                    yield Entry(event.time_ns, "simulated infrastructure", len(_text_of(event.payload)), encode_event(event, event.payload))
            files = [event for event in batch if isinstance(event.payload, FilePayload)]
            for addition in folder.write(files):
                for envelope in encode_records(addition):
                    yield Entry(batch[-1].time_ns, "simulated SAP", len(orjson.loads(envelope)["event"].encode()), envelope)
        folder.close()


def _simulated_records(events: list[SimulatedEvent]) -> Iterator[Entry]:
    """Yields what OpenTelemetry sends: the application, and infrastructure as a collector reads it."""
    for event in events:
        if isinstance(event.payload, OtlpPayload):
            yield Entry(event.time_ns, "simulated application", len(event.payload.body.encode()), event)
        elif isinstance(event.payload, HecPayload):
            text = _text_of(event.payload)
            payload = OtlpPayload(0, "", text.decode(), dict(event.payload.fields))
            record = SimulatedEvent(event.time_ns, "otlp", event.source, event.system, event.service, event.host, payload, event.label)
            yield Entry(event.time_ns, "simulated infrastructure", len(text), record)


def _text_of(payload: HecPayload) -> bytes:
    return payload.event.encode() if isinstance(payload.event, str) else orjson.dumps(payload.event)


def _spread(entries: list[Entry], count: int) -> list[Entry]:
    """Returns `count` entries from the whole length of the story."""
    step = max(1.0, len(entries) / max(count, 1))
    return [entries[int(number * step)] for number in range(min(count, len(entries)))]


def _collect(entries: list[Entry]) -> Stream:
    stream = Stream()
    for entry in sorted(entries, key=lambda entry: entry.time_ns):
        stream.kinds[entry.kind] += 1
        stream.text_bytes += entry.text_bytes
        if isinstance(entry.content, bytes):
            stream.envelopes.append(entry.content)
        else:
            stream.records.append(entry.content)
    return stream
