"""How fairly a service shares its server: waits beside a busy caller, quotas, and clients that go away."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import statistics
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from urllib.parse import urlsplit

import aiohttp

from colm_vl.service.keys import QuotaTable

from .figures import Figure
from .hosting import Hosted, hosted
from .stub import endpoints

PLACES = 4
LATENCY = 0.25
WAITING = 200
_A_MINUTE = 30
_AT_ONCE = 2
_A_DAY = 8_000
_CALLERS = {
    "busy": QuotaTable(),
    "other": QuotaTable(),
    "minute": QuotaTable(requests_per_minute=_A_MINUTE),
    "two": QuotaTable(at_once=_AT_ONCE),
    "day": QuotaTable(tokens_per_day=_A_DAY),
}
_numbers = count()


def fairness(seconds: int, disconnects: int, latency: float = LATENCY) -> Sequence[Figure]:
    """`latency` is the time of one call in seconds."""
    with endpoints(2, latency=latency, places=1000) as urls, hosted(urls, _CALLERS, places=PLACES) as service:
        return asyncio.run(_Fairness(service, seconds, disconnects, latency).figures())


@dataclass(frozen=True, slots=True)
class _Fairness:
    service: Hosted
    seconds: int
    disconnects: int
    latency: float

    async def figures(self) -> Sequence[Figure]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=300)) as session:
            ask = _Asking(self.service, session)
            return [
                await self._wait_beside_a_busy_caller(ask),
                await _requests_a_minute(ask),
                await _calls_at_once(ask),
                await _tokens_a_day(ask),
                await self._disconnects(ask),
            ]

    async def _wait_beside_a_busy_caller(self, ask: _Asking) -> Figure:
        alone = statistics.median([await ask.timed("other") for _ in range(8)])
        async with _busy(ask, WAITING + PLACES):
            await asyncio.sleep(4 * self.latency)  # until its calls wait
            begun = asyncio.get_running_loop().time()
            calls = []
            for number in range(self.seconds):
                await asyncio.sleep(begun + number - asyncio.get_running_loop().time())
                calls.append(asyncio.create_task(ask.timed("other")))
            waits = [took - alone for took in await asyncio.gather(*calls)]
        median, longest = statistics.median(waits), max(waits)
        return Figure(
            "wait of a caller with one request a second, beside one with 200 waiting",
            f"{median / self.latency:.2f} service times",
            "< 2 service times",
            median < 2 * self.latency,
            f"median of {self.seconds} requests for guidance; {PLACES} places, {self.latency * 1000:.0f} ms a call; "
            f"{median * 1000:.0f} ms, at most {longest * 1000:.0f} ms, beyond the {alone * 1000:.0f} ms that a request "
            "takes alone",
        )

    async def _disconnects(self, ask: _Asking) -> Figure:
        """Clients break off at a random moment: while they wait, while they are served, or before."""
        at_once = asyncio.Semaphore(100)

        async def one() -> None:
            async with at_once:
                await ask.break_off("busy", random.uniform(0, 8 * self.latency))

        await asyncio.gather(*(one() for _ in range(self.disconnects)))
        await asyncio.sleep(2 * self.latency)
        left = (await ask.load())["now"]
        begun = time.monotonic()
        statuses = await ask.at_once("other", PLACES)
        took = time.monotonic() - begun
        free = statuses[200] == PLACES and took < 2 * self.latency
        return Figure(
            "places lost to disconnected clients",
            f"{left} calls go on, {PLACES} further ones take {took / self.latency:.1f} service times together",
            "0, and < 2",
            left == 0 and free,
            f"{self.disconnects:,} streaming clients, of guidance and of chat completions, reset their connections at "
            "random moments, 100 at the same time",
        )


@dataclass(frozen=True, slots=True)
class _Asking:
    service: Hosted
    session: aiohttp.ClientSession

    async def __call__(self, caller: str) -> int:
        """The status of the response."""
        address, headers = f"{self.service.url}/v1/guidance", self.service.headers(caller)
        async with self.session.post(address, json=_body(), headers=headers) as response:
            await response.read()
            return response.status

    async def at_once(self, caller: str, count: int) -> Counter[int]:
        return Counter(await asyncio.gather(*(self(caller) for _ in range(count))))

    async def timed(self, caller: str) -> float:
        begun = time.monotonic()
        status = await self(caller)
        assert status == 200, status
        return time.monotonic() - begun

    async def load(self) -> Mapping[str, int]:
        """Of the server's endpoint, as `stub` tells it."""
        async with self.session.get(f"{self.service.stub}/load") as response:
            told: Mapping[str, int] = await response.json()
            return told

    async def break_off(self, caller: str, after: float) -> None:
        """Reset the connection of a stream, of guidance or of a chat completion, after so many seconds."""
        address = urlsplit(self.service.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        path, asked = random.choice((("/v1/guidance", _body(stream=True)), ("/v1/chat/completions", _chat())))
        body = json.dumps(asked).encode()
        headers = {
            "Host": address.netloc,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **self.service.headers(caller),
        }
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        with suppress(TimeoutError):
            async with asyncio.timeout(after):
                await reader.read()  # all of it, unless the time is over before
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


@asynccontextmanager
async def _busy(ask: _Asking, at_once: int) -> AsyncIterator[None]:
    """One caller with so many requests under way all the time."""

    async def ask_on() -> None:
        while True:
            await ask("busy")

    tasks = [asyncio.create_task(ask_on()) for _ in range(at_once)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _requests_a_minute(ask: _Asking) -> Figure:
    sent = 3 * _A_MINUTE
    statuses = await ask.at_once("minute", sent)
    return Figure(
        "quota of requests a minute",
        f"{statuses[200]} answered, {statuses[429]} refused",
        f"{_A_MINUTE} and {sent - _A_MINUTE}",
        statuses == {200: _A_MINUTE, 429: sent - _A_MINUTE},
        f"{sent} requests at the same time with a quota of {_A_MINUTE} a minute",
    )


async def _calls_at_once(ask: _Asking) -> Figure:
    await ask.load()
    statuses = await ask.at_once("two", 20)
    peak = (await ask.load())["peak"]
    return Figure(
        "quota of calls at the same time",
        f"at most {peak}, {statuses[200]} of 20 answered",
        f"{_AT_ONCE}, all",
        (peak, statuses[200]) == (_AT_ONCE, 20),
        f"20 requests at the same time with a quota of {_AT_ONCE}, counted by the server's endpoint",
    )


async def _tokens_a_day(ask: _Asking) -> Figure:
    """A call of the stub uses 320 tokens. A request is refused if its estimate exceeds what is left."""
    statuses = Counter([await ask("day") for _ in range(40)])
    used = statuses[200] * 320
    return Figure(
        "quota of tokens a day",
        f"{used:,} used, {statuses[429]} of 40 requests refused",
        f"≤ {_A_DAY:,}, with less left than a call's estimate",
        _A_DAY - 1_000 < used <= _A_DAY and statuses[429] > 0,
        f"40 requests, one after the other, with a quota of {_A_DAY:,} a day; each uses 320 tokens and is estimated by "
        "its length and all tokens that may be generated",
    )


def _body(*, stream: bool = False) -> dict[str, object]:
    """Each request asks something else, because equal requests of a key share a call."""
    drafts = [{"heading": f"client {number}", "text": "Caption: five dots\nAnswer: 5"} for number in (1, 2)]
    return {"question": f"How many dots are there in {next(_numbers)}?", "drafts": drafts, "stream": stream}


def _chat() -> dict[str, object]:
    turn = {"role": "user", "content": f"How many dots are there in {next(_numbers)}?"}
    return {"model": "colm", "messages": [turn], "stream": True}
