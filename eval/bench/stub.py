"""Stub endpoints with a fixed latency and a limit of concurrent requests: `python -m eval.bench.stub`.

They run in a separate process, because the measured code must not share its interpreter with them. The process prints
one port per line, and ends when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import PIPE, Popen

from aiohttp import web

REPLY = "Caption: five dots in two rows, all of them red, on a white ground.\nAnswer: 5\nConfidence: 90"


@contextmanager
def endpoints(count: int, *, latency: float, places: int) -> Iterator[Sequence[str]]:
    """Start `count` endpoints, each with `latency` seconds and `places` concurrent requests. Yields their base URLs."""
    command = [sys.executable, "-m", "eval.bench.stub", str(count), str(latency), str(places)]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:  # noqa: S603 - our own module
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield [f"http://127.0.0.1:{int(process.stdout.readline())}/v1" for _ in range(count)]
        finally:
            process.stdin.close()
            process.wait(10)


_COMPLETION = {
    "id": "stub",
    "object": "chat.completion",
    "created": 0,
    "model": "stub",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": REPLY}}],
    "usage": {"prompt_tokens": 300, "completion_tokens": 20, "total_tokens": 320},
}


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


async def serve(latency: float, places: int) -> int:
    """Start one endpoint, and return its port. GET returns its load."""
    free = asyncio.Semaphore(places)
    load = _Load()
    body, stream = json.dumps(_COMPLETION).encode(), b"".join(_stream())

    async def complete(request: web.BaseRequest) -> web.Response:
        if request.method == "GET":
            told = {"now": load.now, "peak": load.peak}
            load.peak = load.now
            return web.json_response(told)
        asked = await request.read()
        with load.one_more():
            async with free:
                if latency:
                    await asyncio.sleep(latency)
        if b'"stream":true' in asked:
            return web.Response(body=stream, content_type="text/event-stream")
        return web.Response(body=body, content_type="application/json")

    runner = web.ServerRunner(web.Server(complete, access_log=None, handler_cancellation=True))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    return int(runner.addresses[0][1])


def _stream() -> Iterator[bytes]:
    """The reply as the events of a stream, three words each."""
    words = re.findall(r"(?:\S+\s*){1,3}", REPLY)
    frame = {key: _COMPLETION[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    for number, piece in enumerate(words, 1):
        reason = "stop" if number == len(words) else None
        choice = {"index": 0, "delta": {"content": piece}, "finish_reason": reason}
        yield b"data: " + json.dumps({**frame, "choices": [choice]}).encode() + b"\n\n"
    yield b"data: " + json.dumps({**frame, "choices": [], "usage": _COMPLETION["usage"]}).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


async def _main(count: int, latency: float, places: int) -> None:
    for _ in range(count):
        sys.stdout.write(f"{await serve(latency, places)}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
