"""Faults of endpoints: messages, retries, and that no error contains the key."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import PIL.Image
import pytest

from colm_vl.backends._http_errors import retry_after
from colm_vl.backends.base import Backend, Generation, Message, Request
from colm_vl.errors import (
    BackendError,
    BadReply,
    ContextTooLong,
    ModelNotFound,
    RateLimited,
    Refused,
    TimedOut,
    Unavailable,
    Unreachable,
    Unsupported,
)
from processors.images import Image
from tests.endpoint import Endpoint, Fault, FaultKind, Reply, Seen

KEY = "sk-a-very-secret-key"
Connect = Callable[..., Backend]


@pytest.fixture
def model(model: Connect, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Connect with a key."""
    monkeypatch.setenv("BOX_KEY", KEY)
    return partial(model, api_key_env="BOX_KEY")


def ask(timeout: float | None = 20) -> Request:
    picture = Image.open(PIL.Image.new("RGB", (60, 40), "red"))
    return Request((Message("user", (picture, "Which colour?")),), timeout=timeout)


async def drain(backend: Backend, request: Request) -> list[str | Generation]:
    return [piece async for piece in backend.stream(request)]


async def failure(backend: Backend, request: Request, *, stream: bool = False) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await (drain(backend, request) if stream else backend.generate(request))
    return caught.value


# --- messages ---


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("kind", "expected", "said"),
    [
        ("rate_limited", RateLimited, "HTTP 429: it went wrong"),
        ("server_error", Unavailable, "HTTP 500: it went wrong"),
        ("too_long", ContextTooLong, "maximum context length is 1024 tokens"),
        ("html", BadReply, "a page of HTML"),
        ("error_body", BadReply, "is an error: it went wrong"),
        ("empty", BadReply, "has no text"),
        ("no_choices", BadReply, "has no text|ended before it was finished"),
        ("truncated", BadReply, "no JSON, or JSON that is cut off"),
        ("half_way", BadReply, "closed the connection before its reply was complete"),
        ("reset", Unreachable, "the connection broke off"),
        ("stall", TimedOut, r"did not answer within 0\.3 s"),
        ("stall_half_way", TimedOut, r"did not answer within 0\.3 s"),
        ("redirect", BackendError, "HTTP 307"),
    ],
)
async def test_each_fault_has_its_error_and_message(
    model: Connect, kind: FaultKind, expected: type[BackendError], said: str, stream: bool
) -> None:
    timeout = 0.3 if "stall" in kind else 20
    with Endpoint(Fault(kind)) as endpoint:
        error = await failure(model(endpoint, max_retries=0), ask(timeout), stream=stream)
    assert type(error) is expected
    assert re.search(said, error.message)
    assert endpoint.base_url in error.message
    assert "\n" not in error.message
    assert error.kind == expected.kind


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("unfinished", "ended before it was finished"),
        ("garbled", "is garbled"),
        ("stream_error", "broke off with an error: it went wrong"),
    ],
)
async def test_an_interrupted_stream_is_an_error(model: Connect, kind: FaultKind, said: str) -> None:
    with Endpoint(Fault(kind)) as endpoint:
        error = await failure(model(endpoint), ask(), stream=True)
    assert isinstance(error, BadReply)
    assert said in error.message


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reply", "said", "retryable"),
    [
        (Reply("Answer:", finish_reason="content_filter"), "withheld by a content filter", False),
        (Reply("Answer:", finish_reason="error"), "ended in an error of the endpoint", True),
        (Reply("", refusal="I would rather not"), "was refused by the model", False),
        (Reply("", finish_reason="length"), "has no text", True),
    ],
)
async def test_a_withheld_reply_is_an_error(
    model: Connect, reply: Reply, said: str, retryable: bool, stream: bool
) -> None:
    with Endpoint(reply) as endpoint:
        error = await failure(model(endpoint, max_retries=1), ask(), stream=stream)
        # A stream is not restarted after its first piece.
        assert len(endpoint.seen) == (2 if retryable and not (stream and reply.text) else 1)
    assert isinstance(error, BadReply)
    assert said in error.message
    assert error.retryable is retryable


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (400, "The decoder prompt (length 2000) is longer than the maximum model length of 1024.", ContextTooLong),
        (400, "the request exceeds the available context size, try increasing it", ContextTooLong),
        (400, "The input (5000 tokens) is longer than the model's context length (4096 tokens).", ContextTooLong),
        (400, "prompt is too long: 210000 tokens > 200000 maximum", ContextTooLong),
        (500, "input length exceeds the context length", ContextTooLong),
        (400, "At most 4 image(s) may be provided in one prompt.", Unsupported),
        (400, "m is not a multimodal model", Unsupported),
        (500, "image input is not supported - hint: you may need to provide the mmproj", Unsupported),
        (422, "messages[0]: unknown variant `image_url`, expected `text`", Unsupported),
        (413, "Request Entity Too Large", Unsupported),
        (400, "invalid model ID", ModelNotFound),
        (400, "max_tokens must be at least 1", BackendError),
        (400, "'temperature' must be at most 1", BackendError),
        (401, "no", Refused),
        (402, "Insufficient credits", Refused),
        (403, "no", Refused),
        (404, "The model `m` does not exist.", ModelNotFound),
        (408, "too slow", TimedOut),
        (429, "You exceeded your current quota (insufficient_quota)", Refused),
        (502, "<html>Bad Gateway</html>", Unavailable),
        (503, "Loading model", Unavailable),
    ],
)
async def test_refusals_have_different_errors(
    model: Connect, status: int, message: str, expected: type[BackendError]
) -> None:
    with Endpoint(Fault("status", status=status, message=message)) as endpoint:
        error = await failure(model(endpoint, max_retries=0), ask())
    assert type(error) is expected
    assert error.status == status
    assert (message in error.message) is ("<" not in message)
    assert len(endpoint.seen) == 1


async def test_the_error_for_an_unknown_model_lists_the_known_ones(model: Connect) -> None:
    with Endpoint(models={"qwen": {}, "llava": {}}) as endpoint:
        error = await failure(model(endpoint), ask())
    assert isinstance(error, ModelNotFound)
    assert error.hint == "set model to one of: qwen, llava"


async def test_the_error_for_a_wrong_path_suggests_the_usual_one(model: Connect) -> None:
    with Endpoint() as endpoint:
        error = await failure(model(endpoint.base_url.removesuffix("/v1")), ask())
    assert isinstance(error, ModelNotFound)
    assert "/v1" in error.hint


async def test_a_closed_port_is_unreachable(model: Connect) -> None:
    with Endpoint() as endpoint:
        pass
    error = await failure(model(endpoint, max_retries=1), ask())
    assert isinstance(error, Unreachable)
    assert "connection refused" in error.message


async def test_an_unknown_host_is_unreachable(model: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    error = await failure(model("http://no-such-host.invalid/v1", max_retries=0), ask())
    assert isinstance(error, Unreachable)
    assert "unknown host" in error.message


async def test_a_server_that_does_not_take_connections_is_unreachable(model: Connect) -> None:
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # more than the backlog allows
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        base_url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        error = await failure(model(base_url, max_retries=0, timeout_connect=0.3), ask())
    assert isinstance(error, Unreachable)
    assert "did not accept the connection in time" in error.message


async def test_an_unreachable_proxy_is_reported(model: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    with Endpoint() as gone:
        pass
    monkeypatch.setenv("HTTP_PROXY", gone.base_url)
    monkeypatch.setenv("NO_PROXY", "")
    error = await failure(model("http://no-such-host.invalid/v1", max_retries=0), ask())
    assert isinstance(error, Unreachable)
    assert "the proxy does not answer" in error.message


async def test_a_redirect_is_not_followed(model: Connect) -> None:
    with (
        Endpoint() as elsewhere,
        Endpoint(Fault("redirect", location=f"{elsewhere.base_url}/chat/completions")) as first,
    ):
        error = await failure(model(first), ask())
        assert f"redirects to {elsewhere.base_url}/chat/completions" in error.hint
        assert not elsewhere.seen


# --- retries ---


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["rate_limited", "server_error", "reset", "half_way", "truncated", "empty", "html"])
async def test_temporary_failures_are_retried(model: Connect, kind: FaultKind, stream: bool) -> None:
    # A stream is not restarted after its first piece. With two words, there is no piece before the break.
    with Endpoint([Fault(kind, text=""), Fault(kind, text=""), "fine"]) as endpoint:
        backend = model(endpoint)
        generation = (await drain(backend, ask()))[-1] if stream else await backend.generate(ask())
    assert isinstance(generation, Generation)
    assert (generation.text, generation.attempts) == ("fine", 3)


async def test_a_stream_is_not_retried_after_its_first_piece(model: Connect) -> None:
    with Endpoint([Fault("stream_error", text="one two three four"), "fine"]) as endpoint:
        stream = model(endpoint).stream(ask())
        assert await anext(stream) == "one"
        assert await anext(stream) == " two"
        with pytest.raises(BadReply):
            await anext(stream)
        assert len(endpoint.seen) == 1


async def test_the_number_of_retries_is_limited(model: Connect) -> None:
    with Endpoint(Fault("server_error")) as endpoint:
        await failure(model(endpoint, max_retries=2), ask())
        assert len(endpoint.seen) == 3


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_respected_without_holding_a_slot(model: Connect, status: int) -> None:
    def script(seen: Seen) -> Reply | Fault:
        return Fault("status", status=status, retry_after="0.3") if seen.number == 0 else Reply("fine")

    with Endpoint(script) as endpoint:
        backend = model(endpoint, max_concurrency=1)
        first = asyncio.create_task(backend.generate(ask()))
        await asyncio.to_thread(endpoint.wait_for, 1)
        second = await backend.generate(ask())
        assert not first.done()
        assert second.attempts == 1
        waited = await first
    assert waited.attempts == 2
    assert 0.3 <= waited.seconds < 5


@pytest.mark.parametrize(("asked", "within"), [("3600", None), ("5", 1.0)])
async def test_a_retry_after_beyond_the_timeout_is_not_waited_for(
    model: Connect, asked: str, within: float | None
) -> None:
    begun = time.monotonic()
    with Endpoint(Fault("rate_limited", retry_after=asked)) as endpoint:
        error = await failure(model(endpoint), ask(within))
        assert len(endpoint.seen) == 1
    assert isinstance(error, RateLimited)
    assert error.retry_after == float(asked)
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("2", 2.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("Mon, 23 Nov 2026 10:00:30 GMT", 30.0),
        ("Mon, 23 Nov 2026 09:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": header}, datetime(2026, 11, 23, 10, tzinfo=UTC)) == seconds


def test_a_missing_retry_after_gives_no_wait() -> None:
    assert retry_after({}) is None


# --- hostile replies ---


@pytest.mark.parametrize("stream", [False, True])
async def test_lone_surrogates_are_replaced(model: Connect, stream: bool) -> None:
    with Endpoint("Answer: \ud800 blue") as endpoint:
        backend = model(endpoint)
        reply = (await drain(backend, ask()))[-1] if stream else await backend.generate(ask())
    assert isinstance(reply, Generation)
    assert reply.text == "Answer: \N{REPLACEMENT CHARACTER} blue"
    assert "".join(token.token for token in reply.logprobs or ()) == reply.text


async def test_an_impossible_probability_is_ignored(model: Connect) -> None:
    with Endpoint(Reply("Answer: blue", probability=1e300)) as endpoint:
        assert (await model(endpoint).generate(ask())).logprobs is None


@pytest.mark.parametrize("stream", [False, True])
async def test_an_endless_reply_is_an_error(model: Connect, stream: bool) -> None:
    with Endpoint(200_000 * "x" + " and so on") as endpoint:
        error = await failure(model(endpoint), ask(), stream=stream)
    assert isinstance(error, BadReply)
    assert "exceeds the size limit" in error.message
    assert len(endpoint.seen) == 1  # a retry would be as long again


async def test_a_connection_that_cannot_be_set_up_is_reported(model: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "gopher://user:hunter2@127.0.0.1:9")
    error = await failure(model("http://127.0.0.1:9/v1"), ask())
    assert "cannot be called" in error.message
    assert "proxies" in error.hint
    assert "hunter2" not in error.message + error.hint


# --- secrets ---

ECHO = f"you sent Authorization: Bearer {KEY} and data:image/png;base64,{'iVBOR' * 400} to me"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", status=400, message=ECHO),
        Fault("status", status=401, message=ECHO),
        Fault("status", status=500, message=ECHO),
        Fault("status", status=400, message="x" * 230 + ECHO),
        Fault("rate_limited", message=ECHO),
        Fault("error_body", message=ECHO),
        Fault("stream_error", message=ECHO),
        Fault("html"),
        Fault("reset"),
        Fault("half_way"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}-{len(fault.message)}",
)
async def test_errors_contain_neither_key_nor_pictures(
    model: Connect, caplog: pytest.LogCaptureFixture, fault: Fault, stream: bool
) -> None:
    caplog.set_level(logging.DEBUG)
    request = ask()
    with Endpoint(fault) as endpoint:
        backend = model(endpoint, max_retries=1)
        error = await failure(backend, request, stream=stream)
    told = "\n".join(
        [
            *traceback.format_exception(error),
            repr(error),
            error.hint,
            repr(vars(error)),
            repr(backend),
            repr(vars(backend)),
            caplog.text,
            *(repr(vars(record)) for record in caplog.records),
        ]
    )
    assert KEY not in told
    assert KEY[:12] not in told
    assert "base64" not in told
    assert len(error.message) < 400
    assert endpoint.seen[0].headers["Authorization"] == f"Bearer {KEY}"


async def test_logs_and_results_contain_neither_key_nor_pictures(
    model: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Endpoint(models={"m": {}}) as endpoint:
        backend = model(endpoint)
        generation = await backend.generate(ask())
        found = await backend.capabilities()
    assert KEY not in caplog.text + repr(generation) + repr(found)
    assert "base64" not in caplog.text
