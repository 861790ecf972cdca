"""The server of the test endpoint, with its faults."""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self, cast

from typing_extensions import override

from tests.endpoint.bodies import completion, completion_events
from tests.endpoint.script import Answer, Fault, Reply, Script, Seen


@dataclass
class Endpoint:
    """`script`: one answer for all requests, answers in order (the last is repeated), or a function of the request.

    `latency` is in seconds. `places` limits the requests that are answered at the same time; others wait. Fields of the
    body in `refuses` are answered with 400; those in `ignores` have no effect. `models` maps the names of models to
    further fields of their entries; without it, /models does not exist and any name is accepted. `key` is required if
    given. `on_finished` is called, in the server's thread, once a request has been answered.
    """

    script: Script = "Answer: yes"
    latency: float = 0.0
    places: int | None = None
    refuses: frozenset[str] | set[str] = frozenset()
    ignores: frozenset[str] | set[str] = frozenset()
    models: Mapping[str, Mapping[str, object]] | None = None
    key: str | None = None
    on_finished: Callable[[Seen], None] | None = None

    seen: list[Seen] = field(default_factory=list, init=False)
    listings: int = field(default=0, init=False)
    in_flight: int = field(default=0, init=False)
    peak: int = field(default=0, init=False)
    errors: list[BaseException] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.lock = threading.Condition()
        self.closing = threading.Event()
        self.gate = _Gate(self.places or 10_000)
        self._answers = iter([]) if callable(self.script) or isinstance(self.script, Answer) else iter(self.script)
        self._last: Answer = self.script if isinstance(self.script, Answer) else "the script is empty"

    def __enter__(self) -> Self:
        handler = cast("type[BaseHTTPRequestHandler]", type("Handler", (_Handler,), {"endpoint": self}))
        self._server = _Server(("127.0.0.1", 0), handler, self.errors)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="endpoint", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()
        self._thread.join()
        if self.errors:
            raise self.errors[0]

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def wait_for(self, count: int, timeout: float = 20) -> None:
        """Block until a number of requests have arrived."""
        with self.lock:
            if not self.lock.wait_for(lambda: len(self.seen) >= count, timeout):
                raise TimeoutError(f"{len(self.seen)} of {count} requests after {timeout:g} s")

    def wait_until_idle(self, timeout: float = 20) -> None:
        """Block until no request is being answered."""
        with self.lock:
            if not self.lock.wait_for(lambda: not self.in_flight, timeout):
                raise TimeoutError(f"{self.in_flight} requests are still being answered after {timeout:g} s")

    def answer(self, seen: Seen) -> Answer:
        if callable(self.script):
            return self.script(seen)
        with self.lock:
            self._last = next(self._answers, self._last)
            return self._last


class _Gate:
    """Admits a number of threads at a time, in order of arrival."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._waiting: deque[int] = deque()
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._changed:
            self._waiting.append(me)
            self._changed.wait_for(lambda: self._places > 0 and self._waiting[0] == me)
            self._waiting.popleft()
            self._places -= 1
            self._changed.notify_all()

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._places += 1
            self._changed.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], errors: list[BaseException]
    ) -> None:
        self.to_reset: set[socket.socket] = set()
        self._connections: set[socket.socket] = set()
        self._errors = errors
        super().__init__(address, handler)

    @override
    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    @override
    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        if request in self.to_reset:
            self.to_reset.discard(request)
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_request(request)
        else:
            super().shutdown_request(request)

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):  # a client may go at any time
            self._errors.append(error)

    def hang_up(self) -> None:
        """Close the idle connections, which ends their threads."""
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # gone already


class _Handler(BaseHTTPRequestHandler):
    endpoint: ClassVar[Endpoint]
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        if self.path != "/v1/models" or self.endpoint.models is None:
            self._json(404, {"detail": "Not Found"})
            return
        self.endpoint.listings += 1
        entries = [{"id": name, "object": "model", **more} for name, more in self.endpoint.models.items()]
        self._json(200, {"object": "list", "data": entries})

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        raw = self.rfile.read(length)
        endpoint = self.endpoint
        if len(raw) < length:  # the client died while it was sending
            self.close_connection = True
            return
        with endpoint.lock:
            seen = Seen(len(endpoint.seen), self.path, self.headers, json.loads(raw), len(raw))
            endpoint.seen.append(seen)
            endpoint.in_flight += 1
            endpoint.peak = max(endpoint.peak, endpoint.in_flight)
            endpoint.lock.notify_all()
        try:
            with endpoint.gate:
                if endpoint.latency:
                    endpoint.closing.wait(endpoint.latency)
                self._respond(seen)
        finally:
            with endpoint.lock:
                endpoint.in_flight -= 1
                endpoint.lock.notify_all()
            if endpoint.on_finished:
                endpoint.on_finished(seen)

    @override
    def log_message(self, *_: object) -> None:
        pass

    # --- what is answered ---

    def _respond(self, seen: Seen) -> None:
        if seen.path != "/v1/chat/completions":
            self._json(404, {"detail": "Not Found"})
        elif self.endpoint.key is not None and seen.headers.get("Authorization") != f"Bearer {self.endpoint.key}":
            self._error(401, f"Incorrect API key provided: {seen.headers.get('Authorization')}")
        elif self.endpoint.models is not None and seen.body["model"] not in self.endpoint.models:
            self._error(404, f"The model `{seen.body['model']}` does not exist.")
        elif objected := sorted(self.endpoint.refuses & seen.body.keys()):
            self._error(400, _objection(objected[0]), param=objected[0])
        else:
            answer = self.endpoint.answer(seen)
            if isinstance(answer, Fault):
                self._fail(answer, seen)
            else:
                self._reply(Reply(answer) if isinstance(answer, str) else answer, seen)

    def _reply(self, reply: Reply, seen: Seen) -> None:
        if seen.body.get("stream"):
            self._send_events(completion_events(reply, seen, self.endpoint.ignores))
        else:
            self._json(200, completion(reply, seen, self.endpoint.ignores))

    def _fail(self, fault: Fault, seen: Seen) -> None:
        match fault.kind:
            case "status":
                self._error(fault.status, fault.message, retry_after=fault.retry_after)
            case "rate_limited":
                self._error(429, fault.message, retry_after=fault.retry_after)
            case "server_error":
                self._error(500, fault.message)
            case "too_long":
                said = "This model's maximum context length is 1024 tokens. However, your prompt has 4096 tokens."
                self._error(400, said, code="context_length_exceeded")
            case "redirect":
                self._body(307, b"", {"Location": fault.location})
            case "html":
                self._body(200, b"<!doctype html><title>Sign in</title>", {"Content-Type": "text/html"})
            case "error_body":
                self._json(200, {"error": {"message": fault.message, "code": 502}})
            case "no_choices":
                self._json(200, {"id": "x", "choices": []})
            case "empty":
                self._reply(Reply(""), seen)
            case "truncated":
                self._body(200, self._half(fault, seen), {"Content-Type": "application/json"})
            case "reset":
                self.server.to_reset.add(self.connection)
                self.close_connection = True
            case "stall":
                self._stall()
            case _:
                self._fail_half_way(fault, seen)

    def _fail_half_way(self, fault: Fault, seen: Seen) -> None:
        if not seen.body.get("stream"):
            half = self._half(fault, seen)
            self._head(200, {"Content-Type": "application/json", "Content-Length": str(2 * len(half))})
            self.wfile.write(half)
        else:
            whole = completion_events(Reply(fault.text), seen, self.endpoint.ignores)
            events = [f"data: {json.dumps(event)}\n\n".encode() for event in whole]
            self._head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
            for event in events[: max(1, (len(events) - 1) // 2)]:
                self._chunk(event)
            if fault.kind in ("unfinished", "garbled", "stream_error"):
                extra = {"garbled": '{"choices": [', "stream_error": json.dumps({"error": {"message": fault.message}})}
                self._chunk(f"data: {extra.get(fault.kind, '[DONE]')}\n\n".encode())
                self._chunk(b"")
                return
        self.wfile.flush()
        self.close_connection = True
        if fault.kind == "stall_half_way":
            self._stall()

    def _half(self, fault: Fault, seen: Seen) -> bytes:
        whole = json.dumps(completion(Reply(fault.text), seen, self.endpoint.ignores)).encode()
        return whole[: len(whole) // 2]

    # --- how it is sent ---

    def _error(
        self, status: int, message: str, *, retry_after: str | None = None, code: str | None = None, param: str = ""
    ) -> None:
        error = {"message": message, "type": "error", "code": code, "param": param or None}
        self._json(status, {"error": error}, {"Retry-After": retry_after} if retry_after is not None else {})

    def _json(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        self._body(status, json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _body(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self._head(status, {**headers, "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _send_events(self, events: list[dict[str, object]]) -> None:
        self._head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
        for event in events:
            self._chunk(f"data: {json.dumps(event)}\n\n".encode())
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _stall(self) -> None:
        self.close_connection = True
        while not self.endpoint.closing.wait(0.02) and not self._is_alone():
            pass

    def _is_alone(self) -> bool:
        """Whether the client has closed the connection."""
        try:
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True


def _objection(name: str) -> str:
    if name == "max_tokens":
        return "Unsupported parameter: 'max_tokens' is not supported, use 'max_completion_tokens' instead."
    return f"Unsupported parameter: '{name}' is not supported with this model."
