"""Stub endpoints with a fixed latency and a limit of concurrent requests: `python -m eval.bench.stub`.

They run in a separate process, because the measured code must not share its interpreter with them. The process prints
one port per line, and ends when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


async def serve(latency: float, places: int) -> int:
    """Start one endpoint, and return its port."""
    free = asyncio.Semaphore(places)
    body = json.dumps(_COMPLETION).encode()

    async def complete(request: web.BaseRequest) -> web.Response:
        await request.read()
        async with free:
            if latency:
                await asyncio.sleep(latency)
        return web.Response(body=body, content_type="application/json")

    runner = web.ServerRunner(web.Server(complete, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=512)
    await site.start()
    return int(runner.addresses[0][1])


async def _main(count: int, latency: float, places: int) -> None:
    for _ in range(count):
        sys.stdout.write(f"{await serve(latency, places)}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
