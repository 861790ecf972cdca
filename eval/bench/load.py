"""What a service costs under load: dropped streams, memory, and CPU time beside the same questions in process."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import aiohttp

from colm_vl import AsyncCoLM, Trace
from colm_vl.service.keys import QuotaTable

from .endpoints import team_at
from .figures import Figure
from .hosting import Hosted, hosted
from .stub import endpoints

LATENCY = 0.2
CLIENTS = 2
_PLACES = 1000
_CALLER = "load"
_numbers = count()


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is asked of the service, and the strategy that makes the same calls in process. A complete stream has the
    text `answer` and ends with a line that has `end`."""

    name: str
    path: str
    body: Callable[[], dict[str, Any]]
    answer: bytes
    end: bytes
    strategy: str
    rounds: int
    """Calls one after the other."""


def _verdict() -> dict[str, Any]:
    return {"question": _question(), "stream": True}


def _chat() -> dict[str, Any]:
    turn = {"role": "user", "content": _question()}
    return {"model": "colm", "messages": [turn], "stream": True, "stream_options": {"include_usage": True}}


_KINDS = (
    _Kind("chat completions", "/v1/chat/completions", _chat, b'"content":"5"', b"[DONE]", "colm", 3),
    _Kind("verdicts", "/v1/verdict", _verdict, b'"answer":"5"', b'"type":"reply"', "server", 1),
)


@dataclass(frozen=True, slots=True)
class _Wave:
    """`complete` is the number of streams that ended as they should; `cpu` is in seconds for each question, `memory` in
    bytes, `first` and `whole` are the median seconds to the first piece and to the end of a stream."""

    complete: int
    cpu: float
    memory: int
    first: float
    whole: float


def load(clients: int, waves: int) -> Sequence[Figure]:
    """`clients` at once, `waves` times."""
    figures: list[Figure] = []
    for kind in _KINDS:
        with (
            endpoints(CLIENTS + 1, latency=LATENCY, places=_PLACES) as urls,
            hosted(urls, {_CALLER: QuotaTable()}, places=_PLACES) as service,
        ):
            asyncio.run(_wave(service, kind, min(clients, 50)))  # warm up
            served = [asyncio.run(_wave(service, kind, clients)) for _ in range(waves)]
            inside = asyncio.run(_in_process(urls, kind, clients, waves))
        figures += _figures(kind, served, inside, clients)
    return figures


def _figures(kind: _Kind, served: Sequence[_Wave], inside: float, clients: int) -> Sequence[Figure]:
    asked, complete = clients * len(served), sum(wave.complete for wave in served)
    cpu, growth = statistics.median(wave.cpu for wave in served), served[-1].memory - served[0].memory
    first, whole = (statistics.median(getattr(wave, name) for wave in served) for name in ("first", "whole"))
    how = f"{clients} clients at once, {len(served)} times; stub members at {LATENCY * 1000:.0f} ms"
    return [
        Figure(
            f"dropped streams of {kind.name}",
            f"{asked - complete} of {asked:,}",
            "0",
            complete == asked,
            f"{how}; medians: {first:.2f} s to the first piece, {whole:.2f} s to the end, of which the members take "
            f"{kind.rounds * LATENCY:.1f} s",
        ),
        Figure(
            f"growth of the service's memory over streams of {kind.name}",
            f"{growth / 1e6:.0f} MB",
            "≤ 30 MB",
            growth <= 30e6,
            f"{how}; resident memory after the first time and after the last one, {served[-1].memory / 1e6:.0f} MB",
        ),
        Figure(
            f"CPU time of the service for streams of {kind.name}, beyond the same question in process",
            f"{1000 * (cpu - inside):.1f} ms",
            "≤ 4 ms",
            cpu - inside <= 0.004,
            f"{how}; per question {1000 * cpu:.1f} ms in the service (median), and {1000 * inside:.1f} ms with "
            f"AsyncCoLM.stream and the strategy {kind.strategy}",
        ),
    ]


async def _wave(service: Hosted, kind: _Kind, clients: int) -> _Wave:
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        before = service.cpu()
        ended = await asyncio.gather(*(_stream(service, session, kind) for _ in range(clients)))
        cpu = (service.cpu() - before) / clients
    complete = [times for times in ended if times is not None]
    first, whole = ([getattr(times, name) for times in complete] or [0.0] for name in ("first", "whole"))
    return _Wave(len(complete), cpu, service.memory(), statistics.median(first), statistics.median(whole))


@dataclass(frozen=True, slots=True)
class _Times:
    first: float
    whole: float


async def _stream(service: Hosted, session: aiohttp.ClientSession, kind: _Kind) -> _Times | None:
    """None if the stream does not end as it should."""
    begun, first, last, answered = time.monotonic(), 0.0, b"", False
    try:
        address, headers = f"{service.url}{kind.path}", service.headers(_CALLER)
        async with session.post(address, json=kind.body(), headers=headers) as response:
            async for line in response.content:
                if line.startswith(b"data: "):
                    first, last = first or time.monotonic() - begun, line
                    answered = answered or kind.answer in line
    except aiohttp.ClientError:
        return None
    return _Times(first, time.monotonic() - begun) if answered and kind.end in last else None


async def _in_process(urls: Sequence[str], kind: _Kind, clients: int, waves: int) -> float:
    """CPU seconds for each question, with the same number of questions at once."""
    async with AsyncCoLM(team_at(urls, places=_PLACES).with_policy(strategy=kind.strategy)) as colm:
        await _ask_at_once(colm, min(clients, 50))
        begun = time.process_time()
        for _ in range(waves):
            await _ask_at_once(colm, clients)
        return (time.process_time() - begun) / (clients * waves)


async def _ask_at_once(colm: AsyncCoLM, clients: int) -> None:
    async def one() -> None:
        *_, trace = [event async for event in colm.stream(_question())]
        assert isinstance(trace, Trace)
        assert trace.answer, trace.failures

    await asyncio.gather(*(one() for _ in range(clients)))


def _question() -> str:
    """Never the same, because equal calls at the same time are made once."""
    return f"How many dots are there in picture {next(_numbers)}?"
