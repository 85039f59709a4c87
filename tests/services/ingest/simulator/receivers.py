"""A small HTTP server that takes what senders send and answers as it is told to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

TOKEN = "b3b0c1f6-2f1b-4b53-9b0c-0f6f5a1f2c3d"
Answer = tuple[int, dict[str, str], bytes]
SUCCESS: Answer = (200, {}, b'{"text":"Success","code":0}')
NO_DATA: Answer = (400, {}, b'{"text":"No data","code":5}')


@dataclass
class Recording:
    """What arrived, and the answers that come before the usual ones."""

    url: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    """HEC envelopes that were answered with success."""
    records: list[Any] = field(default_factory=list)
    """OTLP log records, likewise."""
    services: list[str] = field(default_factory=list)
    otlp_requests: int = 0
    """Those with records, answered with success."""
    hec_answers: list[Answer] = field(default_factory=list)
    otlp_answers: list[Answer] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def take(self, path: str, authorization: str, body: bytes) -> Answer:
        """Records one request and returns the answer to it."""
        hec = path == "/services/collector/event"
        if authorization != (f"Splunk {TOKEN}" if hec else f"Bearer {TOKEN}"):
            return 403, {}, b'{"text":"Invalid token","code":4}'
        with self.lock:
            return self._take_hec(body) if hec else self._take_otlp(body)

    def _take_hec(self, body: bytes) -> Answer:
        if not body:
            return NO_DATA
        envelopes = [json.loads(line) for line in body.split(b"\n")]
        answer = self.hec_answers.pop(0) if self.hec_answers else SUCCESS
        if answer[0] == 200:
            self.events += envelopes
        elif b"invalid-event-number" in answer[2]:
            self.events += envelopes[: json.loads(answer[2])["invalid-event-number"]]
        return answer

    def _take_otlp(self, body: bytes) -> Answer:
        request = ExportLogsServiceRequest.FromString(body)
        if not request.resource_logs:
            return 200, {}, b""
        answer = self.otlp_answers.pop(0) if self.otlp_answers else (200, {}, b"")
        if answer[0] == 200:
            self.otlp_requests += 1
            for resource in request.resource_logs:
                self.services += [pair.value.string_value for pair in resource.resource.attributes if pair.key == "service.name"]
                self.records += [record for scope in resource.scope_logs for record in scope.log_records]
        return answer


@contextmanager
def run_receiver() -> Iterator[Recording]:
    """Serves HEC and OTLP on one free port."""
    recording = Recording()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, content = recording.take(self.path, self.headers.get("Authorization", ""), body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    recording.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield recording
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
