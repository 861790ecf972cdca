"""Measures what a call costs in this process: for a batch with journal and traces, and for two plain loops."""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
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
    """CPU time and throughput with endpoints without latency. All are measured alternately, so that other load on the
    machine affects all of them. The loops send the bodies of a batch whose replies are labelled lines; beside it, the
    same batch under a JSON schema is measured, whose bodies are longer."""
    count = questions * (2 * CLIENTS + 1)
    batches, schemas, plain, sdk = list[_Cost](), list[_Cost](), list[_Cost](), list[_Cost]()
    with (
        ExitStack() as stack,
        endpoints(CLIENTS + 1, latency=0.0, places=1000) as urls,
        CoLM(team_at(urls)) as colm,
        PlainLoop(urls) as plain_loop,
        SdkLoop(urls) as sdk_loop,
    ):
        run_batch(colm, [Query(f"Warm-up {number}?") for number in range(20)])
        # Else each collection would go over all objects of the SDK, during the batch too.
        gc.collect()
        gc.freeze()
        stack.callback(gc.unfreeze)
        for round in range(_ROUNDS):
            asked = [Query(f"How many dots are there in picture {round}-{number}?") for number in range(questions)]
            for reply_format, costs in (("lines", batches), ("json", schemas)):
                with tempfile.TemporaryDirectory() as folder:
                    ask = partial(run_batch, colm, asked, Path(folder), concurrency=_AT_ONCE, reply_format=reply_format)
                    costs.append(_measured(count, ask))
            plain.append(_measured(count, partial(plain_loop.ask, count, at_once=_AT_ONCE)))
            sdk.append(_measured(count, partial(sdk_loop.ask, count, at_once=_AT_ONCE)))
    ours, schema, bare, theirs = (
        statistics.median(cost.cpu for cost in costs) * 1000 for costs in (batches, schemas, plain, sdk)
    )
    faster, faster_with_schema = (
        statistics.median(other.wall / own.wall for own, other in zip(costs, sdk, strict=True))
        for costs in (batches, schemas)
    )
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
            f"{how}; a batch with journal and traces, {schema:.2f} ms if under a JSON schema; a plain aiohttp loop "
            f"takes {bare:.2f} ms, a loop over the openai SDK {theirs:.2f} ms",
        ),
        Figure(
            "calls per second, compared with a loop over the openai SDK",
            f"{faster:.1f} times",
            "≥ 3 times",
            faster >= 3,
            f"{how}; batch {per_second['batch']:,.0f} per second, plain aiohttp loop {per_second['aiohttp']:,.0f}, "
            f"loop over the SDK {per_second['sdk']:,.0f}; under a JSON schema {faster_with_schema:.1f} times",
        ),
    ]


def _measured(count: int, work: Callable[[], None]) -> _Cost:
    gc.collect()
    wall, cpu = time.monotonic(), time.process_time()
    work()
    return _Cost((time.process_time() - cpu) / count, (time.monotonic() - wall) / count)
