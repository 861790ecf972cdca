"""Hostile and broken endpoints: memory and time are limited, whatever they send."""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from colm_vl.backends._http_errors import StatusError, Target, of_status, retry_after
from colm_vl.backends._http_events import EventReader
from colm_vl.backends.base import Backend, Generation, Message, Request
from colm_vl.backends.openai import Options
from colm_vl.errors import BackendError, BadReply, Unavailable, Unsupported
from tests.endpoint import Endpoint, Fault
from tests.endpoint.raw import raw_server, response

Connect = Callable[..., Backend]

MEGABYTE = bytes(1 << 20)


@pytest.fixture
def model(model: Connect) -> Connect:
    """Connect to a port on loopback, without retries."""
    return lambda port, **options: model(f"http://127.0.0.1:{port}/v1", **({"max_retries": 0} | options))


def ask(timeout: float = 30) -> Request:
    return Request((Message("user", ("Which colour?",)),), timeout=timeout)


async def reply_of(backend: Backend, *, stream: bool = False) -> Generation:
    if not stream:
        return await backend.generate(ask())
    last = [piece async for piece in backend.stream(ask())][-1]
    assert isinstance(last, Generation)
    return last


async def failure(backend: Backend, *, stream: bool = False) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await reply_of(backend, stream=stream)
    return caught.value


def completion(text: str = "Answer: red", **choice: object) -> bytes:
    whole = {"index": 0, "message": {"content": text}, "finish_reason": "stop"} | choice
    return json.dumps({"choices": [whole]}).encode()


def event(text: str, **choice: object) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}} | choice]}).encode() + b"\n\n"


# --- endless bodies ---


def repeat(head: bytes, piece: bytes, times: int) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    """Answer with the head, then with the piece repeatedly until the client disconnects."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for _ in range(times):
            writer.write(piece)
            await writer.drain()

    return answer


def bomb() -> tuple[bytes, bytes]:
    """The start of a gzip stream, and 16 kB that unpack to 16 MB and may be repeated."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    piece = b"".join([deflate.compress(MEGABYTE) for _ in range(16)]) + deflate.flush(zlib.Z_FULL_FLUSH)
    return gzip.compress(b"")[:10], piece


@asynccontextmanager
async def bounded(*, megabytes: int, pause: float) -> AsyncIterator[None]:
    """Assert limits of memory and of the time for which the event loop is blocked."""
    pauses = []

    async def watch() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            pauses.append(time.monotonic() - before)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < megabytes, f"{grown:.0f} MB"
    assert max(pauses, default=0) < pause


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [200, 500])
async def test_a_gzip_bomb_is_not_unpacked(model: Connect, status: int, stream: bool) -> None:
    start, piece = bomb()
    head = f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n\r\n".encode()
    async with raw_server(repeat(head + start, piece, 256)) as (port, _), bounded(megabytes=60, pause=1):
        error = await failure(model(port), stream=stream)
    assert type(error) is (BadReply if status == 200 else Unavailable)
    assert "exceeds the size limit" in error.message or "HTTP 500" in error.message


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("status", [200, 500])
async def test_a_body_of_a_gigabyte_is_not_read(model: Connect, status: int, kind: str) -> None:
    head = f"HTTP/1.1 {status} OK\r\nContent-Type: {kind}\r\nContent-Length: {1 << 30}\r\n\r\n".encode()
    async with raw_server(repeat(head, MEGABYTE, 1024)) as (port, _), bounded(megabytes=60, pause=1):
        error = await failure(model(port), stream=kind == "text/event-stream")
    assert type(error) is (BadReply if status == 200 else Unavailable)
    assert not (status == 200 and error.retryable)


async def test_an_endless_list_of_models_is_ignored(model: Connect) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {1 << 30}\r\n\r\n".encode()
    async with raw_server(repeat(head, MEGABYTE, 1024)) as (port, _), bounded(megabytes=60, pause=1):
        assert (await model(port).capabilities()).context is None


async def test_endless_events_are_an_error(model: Connect) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    piece = 1000 * b'data: {"choices": [{"index": 0, "delta": {"content": ""}}]}\n\n'
    async with raw_server(repeat(head, piece, 20_000)) as (port, _), bounded(megabytes=60, pause=1):
        error = await failure(model(port), stream=True)
    assert "exceeds the size limit" in error.message


async def test_many_small_lists_are_parsed_quickly(model: Connect) -> None:
    body = b"[" + b"[]," * 1_300_000 + b"[]]"
    async with raw_server(response(body)) as (port, _), bounded(megabytes=200, pause=2):
        assert "not a completion" in (await failure(model(port))).message


def test_a_line_that_comes_byte_by_byte_takes_linear_time() -> None:
    reader = EventReader()
    begun = time.process_time()
    for _ in range(500_000):
        assert reader.feed(b"x") == []
    assert time.process_time() - begun < 5
    assert reader.feed(b"\n\ndata: 1\n\n") == [b"1"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_events_are_read_from_any_pieces(end: bytes, size: int) -> None:
    lines = [
        b": hello",
        b"data: one",
        b"data:two",
        b"",
        b"event: x",
        b"id: 7",
        b"data",
        b"",
        b"",
        b"data: three",
        b"",
        b"data: cut",
    ]
    data = end.join(lines)
    reader = EventReader()
    events = [event for start in range(0, len(data), size) for event in reader.feed(data[start : start + size])]
    assert events == [b"one\ntwo", b"", b"three"]


# --- unrequested compression ---


@pytest.mark.parametrize("encode", [gzip.compress, zlib.compress])
async def test_a_compressed_reply_is_read(model: Connect, encode: Callable[[bytes], bytes]) -> None:
    encoding = "GZIP" if encode is gzip.compress else "deflate"
    body = encode(completion("Answer: red " + "x" * 70_000))
    async with raw_server(response(body, Content_Encoding=encoding)) as (port, heads):
        assert (await reply_of(model(port))).text.startswith("Answer: red")
    assert b"Accept-Encoding: identity" in heads[0]


@pytest.mark.parametrize(
    ("body", "encoding", "said"),
    [
        (completion(), "br", "compressed in a way"),
        (completion(), "gzip", "compressed in a way"),
        (gzip.compress(completion(), mtime=0)[:-20], "gzip", "before its reply was complete"),
    ],
)
async def test_damaged_compressed_replies_are_reported(model: Connect, body: bytes, encoding: str, said: str) -> None:
    async with raw_server(response(body, Content_Encoding=encoding)) as (port, _):
        assert said in (await failure(model(port))).message


# --- malformed replies ---


@pytest.mark.parametrize("stream", [False, True])
async def test_deeply_nested_json_is_an_error(model: Connect, stream: bool) -> None:
    deep = 100_000 * b"[" + 100_000 * b"]"
    answer = response(b"data: " + deep + b"\n\n", Content_Type="text/event-stream") if stream else response(deep)
    async with raw_server(answer) as (port, _):
        assert isinstance(await failure(model(port), stream=stream), BadReply)


async def test_a_deeply_nested_error_is_reported_without_its_message(model: Connect) -> None:
    deep = b'{"error":' * 300 + b'"x"' + b"}" * 300
    async with raw_server(response(deep, status=400)) as (port, _):
        assert (await failure(model(port))).message.endswith("HTTP 400")


async def test_a_reply_that_is_not_http_is_reported(model: Connect) -> None:
    async with raw_server(b"SSH-2.0-OpenSSH_9.6\r\n") as (port, _):
        error = await failure(model(port))
    assert isinstance(error, BadReply)
    assert "not valid HTTP" in error.message


async def test_a_redirect_without_a_location_is_reported(model: Connect) -> None:
    async with raw_server(response(b"", status=307, Location="http://[::1")) as (port, _):
        error = await failure(model(port))
    assert error.message.endswith("HTTP 307")
    assert "redirects" in error.hint


@pytest.mark.parametrize("header", ["Mon, 23 Nov 2026 10:00:30 +99999999999999", "1e999", "nan", "9" * 400])
def test_an_impossible_retry_after_is_ignored(header: str) -> None:
    assert retry_after({"retry-after": header}) is None


async def test_choices_of_other_indices_do_not_mix_into_the_reply(model: Connect) -> None:
    events = [event("Answer:"), event("Never", index=1), event(" red"), event("mind", index=1, finish_reason="length")]
    body = b"".join([*events, event("", finish_reason="stop"), b"data: [DONE]\n\n"])
    async with raw_server(response(body, Content_Type="Text/Event-Stream; charset=utf-8")) as (port, _):
        generation = await reply_of(model(port), stream=True)
    assert (generation.text, generation.finish_reason) == ("Answer: red", "stop")


async def test_impossible_token_counts_are_ignored(model: Connect) -> None:
    body = completion()[:-1] + b', "usage": {"prompt_tokens": ' + b"9" * 4000 + b"}}"
    async with raw_server(response(body)) as (port, _):
        assert (await reply_of(model(port))).usage.prompt_tokens == 0


def test_any_error_message_is_searched_quickly() -> None:
    place = Target("'m'", "http://host/v1", "sk-key", None)
    begun = time.process_time()
    for word in ("image ", "not support ", "image", "model ", "data:image/png;base64,"):
        text = word * (200_000 // len(word))
        for body in ({"error": {"message": text}}, {"error": {"message": "no", "code": text, "type": text}}):
            of_status(StatusError.of(400, {}, json.dumps(body).encode()), place)
    assert time.process_time() - begun < 2


async def test_a_picture_to_a_text_only_llama_cpp_is_unsupported(model: Connect) -> None:
    said = "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"
    with Endpoint(Fault("status", status=500, message=said)) as endpoint:
        backend = model(0, base_url=endpoint.base_url, max_retries=3)
        assert isinstance(await failure(backend), Unsupported)
        assert len(endpoint.seen) == 1


async def test_a_truncated_error_does_not_contain_the_key(model: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOX_KEY", "sk-a-very-secret-key")
    for length in range(3_970, 4_001):
        echo = f"data:image/png;base64,{'A' * length} sk-a-very-secret-key and more"
        error = of_status(
            StatusError.of(400, {}, echo.encode()), Target("'m'", "http://host/v1", "sk-a-very-secret-key", "BOX_KEY")
        )
        assert "sk-a" not in error.message


# --- options ---


@pytest.mark.parametrize("name", ["timeout_connect", "retry_delay", "queue_timeout"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), 0])
def test_seconds_are_finite(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Options.model_validate({"model": "m", "base_url": "http://host/v1", name: value})


@pytest.mark.parametrize("value", [time.gmtime, {1, 2}, float("nan"), {"deep": [float("inf")]}])
def test_extra_fields_must_be_json(value: object) -> None:
    with pytest.raises(ValueError, match="when is not valid JSON"):
        Options.model_validate({"model": "m", "base_url": "http://host/v1", "extra_body": {"when": value}})
