"""Endpoints that take a fixed time for each request and so many at once: `python -m eval.bench.stub`.

They run in a process of their own, so that they do not share an interpreter with what is measured. The ports are
written to standard output, one a line; closing standard input ends them.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from subprocess import PIPE, Popen

REPLY = "Caption: five dots in two rows, all of them red, on a white ground.\nAnswer: 5\nConfidence: 90"


@contextmanager
def endpoints(count: int, *, latency: float, places: int) -> Iterator[Sequence[str]]:
    """Start `count` endpoints, each with `places` and `latency` seconds, and give their base URLs."""
    command = [sys.executable, "-m", "eval.bench.stub", str(count), str(latency), str(places)]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:  # noqa: S603 - our own module
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield [f"http://127.0.0.1:{int(process.stdout.readline())}/v1" for _ in range(count)]
        finally:
            process.stdin.close()
            process.wait(10)


class Stub:
    """One endpoint. It reads requests as far as it must to answer them."""

    def __init__(self, latency: float, places: int) -> None:
        self._latency = latency
        self._places = asyncio.Semaphore(places)
        body = json.dumps(
            {
                "id": "stub",
                "object": "chat.completion",
                "created": 0,
                "model": "stub",
                "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": REPLY}}],
                "usage": {"prompt_tokens": 300, "completion_tokens": 20, "total_tokens": 320},
            }
        ).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._response = head.encode() + body

    async def serve(self) -> int:
        """Begin to listen; returns the port."""
        server = await asyncio.start_server(self._converse, "127.0.0.1", 0, backlog=512)
        return int(server.sockets[0].getsockname()[1])

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
                async with self._places:
                    await asyncio.sleep(self._latency)
                writer.write(self._response)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):  # the other side, or this, ends
            writer.close()


async def _main(count: int, latency: float, places: int) -> None:
    stubs = [Stub(latency, places) for _ in range(count)]
    for stub in stubs:
        sys.stdout.write(f"{await stub.serve()}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
