"""Measures what a call costs in this process: for a batch with journal and traces, and for two plain loops."""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from colm_vl import CoLM, Query

from .endpoints import CLIENTS, run_batch, team_at
from .figures import Figure
from .loops import PlainLoop, SdkLoop
from .stub import endpoints

_AT_ONCE = 16
_ROUNDS = 5


class _Cost(NamedTuple):
    """The cost of one call, in seconds."""

    cpu: float
    wall: float


def calls(questions: int) -> Sequence[Figure]:
    """CPU time and throughput with endpoints without latency. The three are measured alternately, so that other load
    on the machine affects all of them."""
    count = questions * (2 * CLIENTS + 1)
    batches, plain, sdk = list[_Cost](), list[_Cost](), list[_Cost]()
    with (
        endpoints(CLIENTS + 1, latency=0.0, places=1000) as urls,
        CoLM(team_at(urls)) as colm,
        PlainLoop(urls) as plain_loop,
        SdkLoop(urls) as sdk_loop,
    ):
        run_batch(colm, [Query(f"Warm-up {number}?") for number in range(20)])
        for round in range(_ROUNDS):
            asked = [Query(f"How many dots are there in picture {round}-{number}?") for number in range(questions)]
            with tempfile.TemporaryDirectory() as folder:
                batches.append(_measured(count, partial(run_batch, colm, asked, Path(folder), concurrency=_AT_ONCE)))
            plain.append(_measured(count, partial(plain_loop.ask, count, at_once=_AT_ONCE)))
            sdk.append(_measured(count, partial(sdk_loop.ask, count, at_once=_AT_ONCE)))
    ours, bare, theirs = (statistics.median(cost.cpu for cost in costs) * 1000 for costs in (batches, plain, sdk))
    faster = statistics.median(other.wall / own.wall for own, other in zip(batches, sdk, strict=True))
    per_second = {
        name: 1 / statistics.median(cost.wall for cost in costs)
        for name, costs in (("batch", batches), ("aiohttp", plain), ("sdk", sdk))
    }
    how = f"median of {_ROUNDS} rounds of {count:,} calls, {_AT_ONCE} concurrent questions or calls, no latency"
    return [
        Figure(
            "CPU time per call",
            f"{ours:.2f} ms",
            "≤ 0.5 ms",
            ours <= 0.5,
            f"{how}; a batch with journal and traces; a plain aiohttp loop takes {bare:.2f} ms, a loop over the openai "
            f"SDK {theirs:.2f} ms",
        ),
        Figure(
            "calls per second, compared with a loop over the openai SDK",
            f"{faster:.1f} times",
            "≥ 3 times",
            faster >= 3,
            f"{how}; batch {per_second['batch']:,.0f} per second, plain aiohttp loop {per_second['aiohttp']:,.0f}, "
            f"loop over the SDK {per_second['sdk']:,.0f}",
        ),
    ]


def _measured(count: int, work: Callable[[], None]) -> _Cost:
    gc.collect()
    wall, cpu = time.monotonic(), time.process_time()
    work()
    return _Cost((time.process_time() - cpu) / count, (time.monotonic() - wall) / count)
