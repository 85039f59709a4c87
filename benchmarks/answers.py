"""How fast questions are answered: one after the other, and as many as the gateway takes."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

import orjson
from rich.progress import TaskID

from benchmarks.bodies import write_bodies
from benchmarks.client import Job
from benchmarks.fleet import BenchmarkFailed, run_clients
from benchmarks.processes import subtract
from benchmarks.questions import PAGE, PAGE_ROWS, TRIVIAL, Question, make_questions
from benchmarks.session import Session, show_progress
from benchmarks.spread import Spread, spread_of

WARM_UP = 5
REPETITIONS = 200
QUESTION_SECONDS = 10.0
THROUGHPUT_SECONDS = 5.0
THROUGHPUT_CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class QuestionResult:
    """One kind of question, asked again and again on one connection."""

    name: str
    latency: Spread
    mean_answer_bytes: float
    cpu_ms_by_process: dict[str, float]
    """Per question."""


@dataclass(frozen=True, slots=True)
class ThroughputResult:
    """One question on several connections at once."""

    name: str
    requests_per_second: float
    latency: Spread
    gateway_cpu_ms: float
    """Of the gateway alone, per request."""
    all_cpu_ms: float
    """Of every process of ELIS, per request."""
    client_cpu_ms: float


def measure_questions(session: Session) -> list[QuestionResult]:
    """Asks every kind of question; the first answers, which fill caches, do not count."""
    results = []
    questions = make_questions(session.gateway, session.corpus, session.stored)
    with show_progress("questions", len(questions)) as bar:
        for number, question in enumerate(questions):
            bar.update(TaskID(0), completed=number, description=f"asking: {question.name}")
            results.append(_measure_question(session, question))
    return results


def _measure_question(session: Session, question: Question) -> QuestionResult:
    bodies = question.bodies()
    for number in range(max(WARM_UP, len(bodies))):
        _check(session.gateway.post(bodies[number % len(bodies)]))
    times: list[float] = []
    size = 0
    before = session.processes.cpu_seconds()
    deadline = monotonic() + QUESTION_SECONDS
    while len(times) < REPETITIONS and monotonic() < deadline:
        started = monotonic()
        answer = session.gateway.post(bodies[len(times) % len(bodies)])
        times.append(monotonic() - started)
        size += len(answer)
    used = subtract(session.processes.cpu_seconds(), before)
    return QuestionResult(question.name, spread_of(times), size / len(times), {name: 1e3 * seconds / len(times) for name, seconds in used.items()})


def _check(answer: bytes) -> None:
    content = orjson.loads(answer)
    if content.get("errors"):
        raise BenchmarkFailed(f"GraphQL answers with an error: {content['errors'][0].get('message')}")


def measure_throughput(session: Session) -> list[ThroughputResult]:
    """Asks for the newest page, and for next to nothing, on several connections at once."""
    asked: tuple[tuple[str, str, dict[str, int]], ...] = ((f"newest page of {PAGE_ROWS} rows", PAGE, {"first": PAGE_ROWS}), ("{ __typename }", TRIVIAL, {}))
    with show_progress("gateway: requests at once", len(asked)) as bar:
        results = []
        for name, query, variables in asked:
            results.append(_measure_throughput(session, name, orjson.dumps({"query": query, "variables": variables})))
            bar.advance(TaskID(0))
    return results


def _measure_throughput(session: Session, name: str, body: bytes) -> ThroughputResult:
    path = session.folder / "question.bodies"
    write_bodies(path, [(1, body)])
    gateway = session.gateway
    job = Job(
        protocol="http",
        host=gateway.host,
        port=gateway.port,
        path=gateway.path,
        headers=gateway.headers,
        bodies=str(path),
        outcome=str(path.with_suffix(".json")),
        connections=THROUGHPUT_CONNECTIONS,
        seconds=THROUGHPUT_SECONDS,
        repeat=True,
    )
    before = session.processes.cpu_seconds()
    outcome = run_clients([job], session.folder)
    used = subtract(session.processes.cpu_seconds(), before)
    return ThroughputResult(
        name=name,
        requests_per_second=outcome.requests / (outcome.ended - outcome.started),
        latency=spread_of(outcome.latencies),
        gateway_cpu_ms=1e3 * used["gateway"] / outcome.requests,
        all_cpu_ms=1e3 * sum(used.values()) / outcome.requests,
        client_cpu_ms=1e3 * outcome.cpu_seconds / outcome.requests,
    )
