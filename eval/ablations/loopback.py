"""An emulated network on loopback: a chat-completions endpoint for any backend, and a proxy that slows traffic."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from colm_vl.backends.base import Generation, Message, Part, Request, Sampling
from colm_vl.errors import ColmError
from processors.images import Image

from .wrappers import SharedBackend

_CHUNK = 16_384
_HOST = "127.0.0.1"
_MAX_HEAD = 65_536


@dataclass(frozen=True, slots=True)
class Link:
    """One-way `latency` in milliseconds, `bandwidth` in Mbit/s in each direction. Unlimited by default."""

    latency: float = 0.0
    bandwidth: float | None = None

    @property
    def name(self) -> str:
        return "direct" if self.bandwidth is None else f"{self.latency:g} ms, {self.bandwidth:g} Mbit/s"


class Endpoint:
    """A chat-completions endpoint for a backend. A repeated request gets the same reply after the same time, so that
    links are compared with equal replies and equal computing time."""

    def __init__(self, model: SharedBackend) -> None:
        self._model = model
        self._known: dict[bytes, Generation] = {}
        self._seconds: dict[bytes, float] = {}
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Returns the port."""
        self._server = await asyncio.start_server(self._serve, _HOST, 0, limit=_MAX_HEAD)
        return _port(self._server)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._model.aclose()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(_length(head))
                writer.write(_response(*await self._answer(body)))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, body: bytes) -> tuple[int, Mapping[str, Any]]:
        if body in self._known:
            await asyncio.sleep(self._seconds[body])
        else:
            loop = asyncio.get_running_loop()
            started = loop.time()
            try:
                self._known[body] = await self._model.backend.generate(_request(json.loads(body)))
            except ColmError as error:
                return 400, {"error": {"message": str(error)}}
            self._seconds[body] = loop.time() - started
        return 200, _completion(self._known[body])


class Proxy:
    """Relays to port `target` on loopback over an emulated link. All connections share its bandwidth."""

    def __init__(self, target: int, link: Link) -> None:
        self._target = target
        self._link = link
        self._free = {"up": 0.0, "down": 0.0}
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._relay, _HOST, 0)
        return _port(self._server)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(_HOST, self._target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pump("up", reader, far_writer), self._pump("down", far_reader, writer))

    async def _pump(self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read ahead, so that later chunks do not wait until delayed ones are sent."""
        arriving: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivering = asyncio.create_task(_deliver(arriving, writer))
        try:
            while chunk := await reader.read(_CHUNK):
                arriving.put_nowait((self._due(way, len(chunk)), chunk))
        except ConnectionError:
            pass
        arriving.put_nowait((0.0, b""))
        await delivering

    def _due(self, way: str, size: int) -> float:
        now = asyncio.get_running_loop().time()
        seconds = 8 * size / (1e6 * self._link.bandwidth) if self._link.bandwidth else 0.0
        self._free[way] = max(now, self._free[way]) + seconds
        return self._free[way] + self._link.latency / 1000


async def _deliver(arriving: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
    """Send each chunk when it is due. An empty one closes the connection."""
    loop = asyncio.get_running_loop()
    try:
        while True:
            due, chunk = await arriving.get()
            if not chunk:
                break
            await asyncio.sleep(max(0.0, due - loop.time()))
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


def _port(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


def _response(status: int, data: Mapping[str, Any]) -> bytes:
    body = json.dumps(data).encode()
    reason = "OK" if status == 200 else "Bad Request"
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _request(body: Mapping[str, Any]) -> Request:
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or Sampling().max_tokens
    sampling = Sampling(
        int(limit), float(body.get("temperature", 0.0)), float(body.get("top_p", 1.0)), body.get("seed")
    )
    messages = tuple(Message(one["role"], _parts(one["content"])) for one in body["messages"])
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    return Request(messages, sampling, schema=schema)


def _parts(content: str | list[Mapping[str, Any]]) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (content,)
    return tuple(part["text"] if part["type"] == "text" else Image.open(part["image_url"]["url"]) for part in content)


def _completion(generation: Generation) -> Mapping[str, Any]:
    usage = generation.usage
    return {
        "id": "loopback",
        "object": "chat.completion",
        "created": 0,
        "model": "loopback",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": generation.text},
                "finish_reason": generation.finish_reason,
            }
        ],
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        },
    }
