"""Calls that are cancelled at random moments leave nothing behind: no place, no task, no request."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from colm_vl.backends import openai
from colm_vl.backends.base import Backend, Message, Request, Sampling
from colm_vl.backends.transformers import Options, TransformersBackend
from tests.backends.local import spied, together
from tests.endpoint import Answer, Endpoint, Fault, Seen

CALLS = 1000
AT_ONCE = 40
PLACES = 8


def ask(number: int, **sampling: Any) -> Request:
    return Request((Message("user", (f"Question {number}",)),), Sampling(**sampling), timeout=60, stage="draft")


async def call(backend: Backend, request: Request, *, streamed: bool) -> None:
    if not streamed:
        await backend.generate(request)
        return
    async with aclosing(backend.stream(request)) as pieces:  # type: ignore[type-var]
        async for _ in pieces:
            await asyncio.sleep(0)


async def cancelled_of(begin: Callable[[int], Coroutine[Any, Any, None]], longest: float) -> int:
    """Begin all calls, AT_ONCE at a time, and cancel each after at most `longest` seconds. Returns how many had not yet
    ended."""
    dice, numbers, cancelled = random.Random(0), iter(range(CALLS)), 0

    async def work() -> None:
        nonlocal cancelled
        for number in numbers:
            task = asyncio.create_task(begin(number))
            await asyncio.sleep(dice.uniform(0, longest))
            task.cancel()
            await asyncio.wait([task])
            cancelled += task.cancelled()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
    return cancelled


class _Moody:
    """Unless it is `calm`, only every fifth request is answered."""

    _FAULTS = (
        Fault("stall"),
        Fault("stall_half_way", text="one two three four"),
        Fault("server_error"),
        Fault("reset"),
    )

    def __init__(self) -> None:
        self.calm = True

    def __call__(self, seen: Seen) -> Answer:
        return "Answer: yes" if self.calm or seen.number % 5 == 0 else self._FAULTS[seen.number % 5 - 1]


@pytest.mark.parametrize("hedge", [False, True])
async def test_an_endpoint_keeps_all_its_places(hedge: bool) -> None:
    script = _Moody()
    with Endpoint(script) as endpoint:
        settings = {"model": "m", "base_url": endpoint.base_url, "max_concurrency": PLACES, "hedge": hedge}
        backend = openai.connect(openai.Options.model_validate(settings))
        for number in range(20):  # hedging needs to know how long a call usually takes
            await backend.generate(ask(number))
        before = asyncio.all_tasks()
        script.calm = False
        cancelled = await cancelled_of(lambda number: call(backend, ask(number), streamed=number % 2 == 0), longest=0.1)
        assert cancelled > CALLS / 2
        assert asyncio.all_tasks() == before
        await asyncio.to_thread(endpoint.wait_until_idle)
        script.calm, endpoint.latency, endpoint.peak = True, 1.0, 0
        await asyncio.gather(*(backend.generate(ask(number)) for number in range(PLACES)))
        assert endpoint.peak == PLACES
        await backend.aclose()


async def test_a_local_model_keeps_all_places_of_its_batches(
    tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(tiny("qwen2_5_vl"))
    backend = TransformersBackend(Options(model=model, dtype="float32", max_batch=PLACES, batch_wait=0.2))
    requests = [ask(number, max_tokens=8) for number in range(PLACES)]
    alone = [reply.text for reply in await together(backend, requests)]
    before = asyncio.all_tasks()
    cancelled = await cancelled_of(
        lambda number: call(backend, ask(number, max_tokens=200), streamed=number % 2 == 0), longest=0.2
    )
    assert cancelled > CALLS / 2
    assert asyncio.all_tasks() == before
    calls = await spied(backend, monkeypatch)
    replies = await together(backend, requests)
    assert [reply.text for reply in replies] == alone
    assert [len(call["input_ids"]) for call in calls] == [PLACES]
    await backend.aclose()


async def test_cancelled_requests_take_no_place_in_a_batch(
    tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = TransformersBackend(Options(model=str(tiny("llama")), dtype="float32", max_batch=PLACES, batch_wait=2))
    calls = await spied(backend, monkeypatch)
    # One fewer than a batch, which would begin at once.
    doomed = [asyncio.create_task(backend.generate(ask(number))) for number in range(PLACES - 1)]
    await asyncio.sleep(0)
    for task in doomed:
        task.cancel()
    await asyncio.wait(doomed)
    await together(backend, [ask(number) for number in range(PLACES)])
    assert [len(call["input_ids"]) for call in calls] == [PLACES]
    await backend.aclose()
