"""Hedged requests: a second one if the first takes longer than usual (Dean and Barroso, "The Tail at Scale", 2013)."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from colm_vl.backends.base import Generation
from colm_vl.types import Stage

_QUANTILE = 0.95
_NEEDED, _KEPT = 20, 200
"""Calls of a stage before the first hedge, and calls of which durations are kept."""
_MOST = 0.1
"""Share of calls that are hedged at most: an endpoint that becomes slow as a whole must not get twice the requests."""


class Hedging:
    """Belongs to one model at one endpoint. Durations include waiting in the queue of this process."""

    def __init__(self) -> None:
        self._seconds: defaultdict[Stage | None, deque[float]] = defaultdict(lambda: deque(maxlen=_KEPT))
        self._calls = 0
        self._hedged = 0

    async def first(self, stage: Stage | None, ask: Callable[[], Awaitable[Generation]]) -> Generation:
        """The reply to the first of two equal calls that succeeds. The second is made only if the first takes longer
        than 95 % of earlier calls. Raises what the first raised if neither succeeds."""
        clock, usual = asyncio.get_running_loop().time, self._usual(stage)
        begun = clock()
        self._calls += 1
        tasks = [asyncio.ensure_future(ask())]
        try:
            _, late = await asyncio.wait(tasks, timeout=usual)
            if late and self._hedged < _MOST * self._calls:
                self._hedged += 1
                tasks.append(asyncio.ensure_future(ask()))
            generation = await _first_success(tasks)
        finally:
            await _cancel(tasks)
        self._seconds[stage].append(clock() - begun)
        return replace(generation, attempts=generation.attempts + len(tasks) - 1)

    def _usual(self, stage: Stage | None) -> float | None:
        """Seconds after which a call is late, or None if too few are known."""
        known = sorted(self._seconds[stage])
        return known[int(_QUANTILE * len(known))] if len(known) >= _NEEDED else None


async def _first_success(tasks: Sequence[asyncio.Future[Generation]]) -> Generation:
    pending = set(tasks)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        succeeded = next((task for task in done if task.exception() is None), None)
        if succeeded is not None:
            return succeeded.result()
    return tasks[0].result()


async def _cancel(tasks: Sequence[asyncio.Future[Generation]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not report it
