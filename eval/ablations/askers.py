"""A closed loop of askers, each of whom asks the next question as soon as the last one is answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from colm_vl import AsyncCoLM, Query, Trace
from colm_vl.errors import NoAnswer

from .wrappers import Bounded

WARM_UP = 0.2
"""The share of the time at the beginning in which nothing is measured. It lasts longer if there are not yet as many
answers as askers."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A question that was answered, or failed, after `seconds`."""

    trace: Trace
    seconds: float


@dataclass(frozen=True, slots=True)
class Loop:
    """What was answered within `window` seconds, and in `warm_up`. `busy` is the share of the server's places that was
    in use."""

    warm_up: tuple[Answered, ...]
    answered: tuple[Answered, ...]
    window: float
    busy: float


async def closed_loop(
    colm: AsyncCoLM,
    queries: Sequence[Query],
    server: Bounded,
    *,
    askers: int,
    seconds: float,
    policy: Mapping[str, Any],
) -> Loop:
    """Let `askers` ask for `seconds`. They go through the questions together, again from the beginning after the last.

    Raises what an asker raised, except that there is no answer.
    """
    following, under_way = cycle(queries), asyncio.Event()
    answered: list[Answered] = []

    async def ask() -> None:
        while True:
            begun = time.monotonic()
            trace = await _ask(colm, next(following), policy)
            answered.append(Answered(trace, time.monotonic() - begun))
            if len(answered) >= askers:
                under_way.set()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask()) for _ in range(askers)]
        await asyncio.sleep(WARM_UP * seconds)
        await under_way.wait()
        begun, used, first = time.monotonic(), server.used(), len(answered)
        await asyncio.sleep((1 - WARM_UP) * seconds)
        window, used = time.monotonic() - begun, server.used() - used
        ended = len(answered)
        for task in tasks:
            task.cancel()
    return Loop(tuple(answered[:first]), tuple(answered[first:ended]), window, used / (server.places * window))


async def _ask(colm: AsyncCoLM, query: Query, policy: Mapping[str, Any]) -> Trace:
    try:
        return await colm.ask(query, **policy)
    except NoAnswer as error:
        if error.trace is None:
            raise
        return error.trace
