"""Stub endpoints with a fixed latency and a limit of concurrent requests: `python -m eval.bench.stub`.

They run in a separate process, because the measured code must not share its interpreter with them. The process prints
one port per line, and ends when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import PIPE, Popen

from aiohttp import web

REPLY = "Caption: five dots in two rows, all of them red, on a white ground.\nAnswer: 5\nConfidence: 90"
_OTHER = REPLY.replace("Answer: 5", "Answer: 4")


@contextmanager
def endpoints(
    count: int, *, latency: float | Sequence[float], places: int, differ: float = 0.0, spread: float = 0.0
) -> Iterator[Sequence[str]]:
    """Start `count` endpoints, each with `latency` seconds (or one of several latencies) and `places` concurrent
    requests. Yields their base URLs.

    A share `differ` of the requests gets another answer, and latencies differ by up to the share `spread` of them. Both
    depend on the body of the request and on the endpoint, and on nothing else.
    """
    latencies = [latency] * count if isinstance(latency, float) else latency
    command = [sys.executable, "-m", "eval.bench.stub", str(places), str(differ), str(spread), *map(str, latencies)]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:  # noqa: S603 - our own module
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield [f"http://127.0.0.1:{int(process.stdout.readline())}/v1" for _ in range(count)]
        finally:
            process.stdin.close()
            process.wait(10)


_HEAD = {"id": "stub", "created": 0, "model": "stub"}
_USAGE = {"prompt_tokens": 300, "completion_tokens": 20, "total_tokens": 320}


@dataclass
class _Load:
    """The requests that an endpoint is answering, and how many at most at the same time."""

    now: int = 0
    peak: int = 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            yield
        finally:
            self.now -= 1


@dataclass(frozen=True, slots=True)
class _Kind:
    """`salt` makes endpoints answer different requests differently."""

    latency: float
    places: int
    differ: float
    spread: float
    salt: int

    def draw(self, asked: bytes) -> tuple[float, bool]:
        """The latency of a request, and whether it gets the other answer."""
        digest = hashlib.blake2b(asked, digest_size=16, key=bytes([self.salt + 1])).digest()
        first, second = (int.from_bytes(half, "big") / 2**64 for half in (digest[:8], digest[8:]))
        return self.latency * (1 + self.spread * (2 * first - 1)), second < self.differ


class _Replies:
    """The two replies, each as a body and as a stream."""

    def __init__(self) -> None:
        self._bodies = [_body(reply) for reply in (REPLY, _OTHER)]
        self._streams = [b"".join(_stream(reply)) for reply in (REPLY, _OTHER)]

    def to(self, asked: bytes, other: bool) -> web.Response:
        if b'"stream":true' in asked:
            return web.Response(body=self._streams[other], content_type="text/event-stream")
        return web.Response(body=self._bodies[other], content_type="application/json")


async def serve(kind: _Kind) -> int:
    """Start one endpoint, and return its port. GET returns its load."""
    free = asyncio.Semaphore(kind.places)
    load = _Load()
    replies = _Replies()

    async def complete(request: web.BaseRequest) -> web.Response:
        if request.method == "GET":
            told = {"now": load.now, "peak": load.peak}
            load.peak = load.now
            return web.json_response(told)
        asked = await request.read()
        latency, other = kind.draw(asked)
        with load.one_more():
            async with free:
                if latency:
                    await asyncio.sleep(latency)
        return replies.to(asked, other)

    runner = web.ServerRunner(web.Server(complete, access_log=None, handler_cancellation=True))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    return int(runner.addresses[0][1])


def _body(reply: str) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": reply}}
    return json.dumps({**_HEAD, "object": "chat.completion", "choices": [choice], "usage": _USAGE}).encode()


def _stream(reply: str) -> Iterator[bytes]:
    """The reply as the events of a stream, three words each."""
    words = re.findall(r"(?:\S+\s*){1,3}", reply)
    frame = {**_HEAD, "object": "chat.completion.chunk"}
    for number, piece in enumerate(words, 1):
        reason = "stop" if number == len(words) else None
        choice = {"index": 0, "delta": {"content": piece}, "finish_reason": reason}
        yield b"data: " + json.dumps({**frame, "choices": [choice]}).encode() + b"\n\n"
    yield b"data: " + json.dumps({**frame, "choices": [], "usage": _USAGE}).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


async def _main(places: int, differ: float, spread: float, latencies: Sequence[float]) -> None:
    for number, latency in enumerate(latencies):
        sys.stdout.write(f"{await serve(_Kind(latency, places, differ, spread, number))}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    places, differ, spread, *latencies = sys.argv[1:]
    asyncio.run(_main(int(places), float(differ), float(spread), list(map(float, latencies))))
