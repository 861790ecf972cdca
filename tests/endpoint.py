"""A chat-completions endpoint on loopback that answers from a script, faults included.

    with Endpoint(["Answer: blue", Fault("rate_limited", retry_after="1"), "Answer: red"]) as endpoint:
        ...  # ask at endpoint.base_url
    assert endpoint.seen[0].text == "Which colour?"

It runs in threads of its own, so that plain tests, async tests and child processes can use it alike.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Literal, Self, cast

from typing_extensions import override

FaultKind = Literal[
    "status",  # any status, with `message` as the endpoint's own
    "rate_limited",  # 429, with `retry_after` as the header
    "server_error",  # 500
    "html",  # 200 with a page
    "error_body",  # 200 with an error
    "empty",  # 200 with a reply that has no text
    "no_choices",  # 200 with no reply
    "truncated",  # 200 with JSON that is cut off, the connection in order
    "half_way",  # the connection is closed in the middle of the body
    "reset",  # the connection is reset before anything is said
    "stall",  # nothing is said until the client goes or the server closes
    "stall_half_way",  # the same, after the first half
    "unfinished",  # a stream that ends without a reason
    "garbled",  # an event of a stream that is no JSON
    "stream_error",  # an error as an event, after the first piece
    "too_long",  # 400, the prompt does not fit the context
    "redirect",  # 307 to `location`
]


@dataclass(frozen=True)
class Reply:
    """An answer. Words are its tokens; `probability` is each word's, None gives no log-probabilities. `as_parts`: its
    content is a list, as some endpoints have it."""

    text: str
    finish_reason: str = "stop"
    probability: float | None = 0.5
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    as_parts: bool = False
    refusal: str | None = None


@dataclass(frozen=True)
class Fault:
    kind: FaultKind
    status: int = 200
    message: str = "it went wrong"
    retry_after: str | None = None
    location: str = ""
    text: str = "Answer: never mind"


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    number: int
    path: str
    headers: Message
    body: Mapping[str, Any]
    size: int

    @property
    def parts(self) -> list[Mapping[str, Any]]:
        """All parts of all messages, in order."""
        contents = [message["content"] for message in self.body["messages"]]
        return [
            part
            for content in contents
            for part in ([{"type": "text", "text": content}] if isinstance(content, str) else content)
        ]

    @property
    def text(self) -> str:
        return "\n".join(part["text"] for part in self.parts if part["type"] == "text")

    @property
    def pictures(self) -> list[str]:
        """Data URIs."""
        return [part["image_url"]["url"] for part in self.parts if part["type"] == "image_url"]


Answer = str | Reply | Fault
Script = Answer | Iterable[Answer] | Callable[[Seen], Answer]


@dataclass
class Endpoint:
    """`script`: one answer for all requests, answers in order (the last stays), or a function of the request.

    `latency` is in seconds and `places` how many requests are worked on at once, the others waiting. `refuses` are
    fields of the body that are answered with 400, `ignores` those that have no effect. `models` maps the names that
    exist to further fields of their entries; without it, /models does not exist and any model does. `key` is demanded
    if it is given. `on_finished` is called, in the server's thread, once a request has been answered.
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
        self.gate = threading.Semaphore(self.places or 10_000)
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
        """Blocks until so many requests have arrived."""
        with self.lock:
            if not self.lock.wait_for(lambda: len(self.seen) >= count, timeout):
                raise TimeoutError(f"{len(self.seen)} of {count} requests after {timeout:g} s")

    def answer(self, seen: Seen) -> Answer:
        if callable(self.script):
            return self.script(seen)
        with self.lock:
            self._last = next(self._answers, self._last)
            return self._last


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
        """End the connections that are kept alive, and with them their threads."""
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
                reply = Reply(answer) if isinstance(answer, str) else answer
                self._send_events(self._events(reply, seen)) if seen.body.get("stream") else self._json(
                    200, self._completion(reply, seen)
                )

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
                self._empty(seen)
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
            events = [f"data: {json.dumps(event)}\n\n".encode() for event in self._events(Reply(fault.text), seen)]
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

    def _empty(self, seen: Seen) -> None:
        reply = Reply("")
        self._send_events(self._events(reply, seen)) if seen.body.get("stream") else self._json(
            200, self._completion(reply, seen)
        )

    def _half(self, fault: Fault, seen: Seen) -> bytes:
        whole = json.dumps(self._completion(Reply(fault.text), seen)).encode()
        return whole[: len(whole) // 2]

    def _completion(self, reply: Reply, seen: Seen) -> dict[str, object]:
        content = [{"type": "text", "text": word} for word in _words(reply.text)] if reply.as_parts else reply.text
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": content, "refusal": reply.refusal},
            "finish_reason": reply.finish_reason,
            "logprobs": self._logprobs(reply, seen, _words(reply.text)),
        }
        return self._frame("chat.completion", seen, [choice]) | {"usage": self._usage(reply, seen)}

    def _events(self, reply: Reply, seen: Seen) -> list[dict[str, object]]:
        def event(delta: Mapping[str, str], reason: str | None = None, logprobs: object = None) -> dict[str, object]:
            choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": logprobs}
            return self._frame("chat.completion.chunk", seen, [choice])

        words = [event({"content": word}, None, self._logprobs(reply, seen, [word])) for word in _words(reply.text)]
        first = {"role": "assistant", "content": ""} | ({"refusal": reply.refusal} if reply.refusal else {})
        events = [event(first), *words, event({}, reply.finish_reason)]
        if seen.body.get("stream_options", {}).get("include_usage") and "stream_options" not in self.endpoint.ignores:
            events.append(self._frame("chat.completion.chunk", seen, []) | {"usage": self._usage(reply, seen)})
        return events

    def _frame(self, kind: str, seen: Seen, choices: list[Any]) -> dict[str, object]:
        return {
            "id": f"r{seen.number}",
            "object": kind,
            "created": 0,
            "model": seen.body["model"],
            "choices": choices,
        }

    def _logprobs(self, reply: Reply, seen: Seen, words: list[str]) -> object:
        wanted = seen.body.get("logprobs") and "logprobs" not in self.endpoint.ignores
        if not wanted or reply.probability is None:
            return None
        return {
            "content": [{"token": word, "logprob": math.log(reply.probability), "top_logprobs": []} for word in words]
        }

    def _usage(self, reply: Reply, seen: Seen) -> dict[str, object]:
        prompt = (
            len(seen.text.split()) + 16 * len(seen.pictures) if reply.prompt_tokens is None else reply.prompt_tokens
        )
        words = len(_words(reply.text))
        usage: dict[str, object] = {
            "prompt_tokens": prompt,
            "completion_tokens": words,
            "total_tokens": prompt + words,
        }
        if reply.cached_tokens is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": reply.cached_tokens}
        return usage

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
        self.endpoint.closing.wait()


def _words(text: str) -> list[str]:
    words = text.split(" ")
    return [word if index == 0 else f" {word}" for index, word in enumerate(words)] if text else []


def _objection(name: str) -> str:
    if name == "max_tokens":
        return "Unsupported parameter: 'max_tokens' is not supported, use 'max_completion_tokens' instead."
    return f"Unsupported parameter: '{name}' is not supported with this model."
