"""Spans of a real process, received by a collector on loopback."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from typing_extensions import override

from tests.service.hosted import process
from tests.service.test_accounting import SECRET, TEAM

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry is not installed: pip install '.[otel]'")

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@contextmanager
def collector(bodies: list[bytes]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        @override
        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_spans_of_request_stages_and_calls_continue_the_trace_of_the_caller(tmp_path: Path) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    (tmp_path / "team.toml").write_text(TEAM)
    bodies: list[bytes] = []
    body = {"model": "colm", "messages": [{"role": "user", "content": SECRET}]}
    with collector(bodies) as address:
        arguments = ("--team", str(tmp_path / "team.toml"))
        with process(*arguments, OTEL_EXPORTER_OTLP_ENDPOINT=address) as running:
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            assert httpx.post(f"{running.url}/v1/chat/completions", json=body, headers=headers).status_code == 200
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(30) == 0
    spans = [
        span
        for exported in map(ExportTraceServiceRequest.FromString, bodies)
        for resource in exported.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    by_name = {span.name: span for span in spans}
    assert set(by_name) == {"POST /v1/chat/completions", "draft", "guide", "refine", "chat dots", "chat big"}
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    request = by_name["POST /v1/chat/completions"]
    assert request.parent_span_id.hex() == PARENT
    assert by_name["guide"].parent_span_id == request.span_id
    assert by_name["chat big"].parent_span_id == by_name["guide"].span_id
    call = {one.key: one.value for one in by_name["chat big"].attributes}
    assert call["gen_ai.request.model"].string_value == "big"
    assert call["gen_ai.usage.input_tokens"].int_value > 0
    for span in spans:
        assert request.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= request.end_time_unix_nano
    assert not any(SECRET.encode() in body for body in bodies)
