"""Second requests to an endpoint whose replies are sometimes slow."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from colm_vl.backends.base import Backend, Message, Request
from colm_vl.backends.openai import Options, connect
from colm_vl.errors import BackendError
from tests.endpoint import Answer, Endpoint, Fault, Seen


def backend(endpoint: Endpoint, **options: object) -> Backend:
    settings = {"model": "m", "base_url": endpoint.base_url, "hedge": True, "max_retries": 0}
    return connect(Options.model_validate(settings | options))


def ask(text: str) -> Request:
    return Request((Message("user", (text,)),), timeout=20, stage="draft")


class _SlowOnce:
    """The first request for a text that begins with "slow" is not answered."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, seen: Seen) -> Answer:
        with self._lock:
            first = seen.text not in self.texts
            self.texts.append(seen.text)
        return Fault("stall") if first and seen.text.startswith("slow") else f"Answer: {seen.text}"


async def test_a_slow_reply_is_overtaken_by_a_second_request() -> None:
    script = _SlowOnce()
    with Endpoint(script) as endpoint:
        model = backend(endpoint)
        for number in range(20):
            assert (await model.generate(ask(f"quick {number}"))).attempts == 1
        begun = time.monotonic()
        generation = await model.generate(ask("slow"))
        await model.aclose()
    assert (generation.text, generation.attempts) == ("Answer: slow", 2)
    assert time.monotonic() - begun < 5
    assert script.texts.count("slow") == 2


async def test_at_most_a_tenth_of_the_calls_is_made_twice() -> None:
    script = _SlowOnce()
    with Endpoint(script) as endpoint:
        model = backend(endpoint, max_concurrency=50)
        for number in range(20):
            await model.generate(ask(f"quick {number}"))
        slow = [asyncio.create_task(model.generate(ask(f"slow {number}"))) for number in range(20)]
        done, pending = await asyncio.wait(slow, timeout=1)
        for task in pending:
            task.cancel()
        await asyncio.wait(slow)
        await model.aclose()
    assert 1 <= len(done) <= 4
    assert len(pending) == 20 - len(done)


async def test_without_a_usual_duration_nothing_is_asked_twice() -> None:
    with Endpoint("Answer: yes", latency=0.05) as endpoint:
        model = backend(endpoint)
        for number in range(19):
            await model.generate(ask(str(number)))
        await model.aclose()
    assert len(endpoint.seen) == 19


async def test_a_failure_is_raised_if_both_fail() -> None:
    answers: list[Answer] = ["Answer: yes"]
    with Endpoint(lambda _: answers[-1]) as endpoint:
        model = backend(endpoint)
        for number in range(20):
            await model.generate(ask(str(number)))
        answers.append(Fault("server_error"))
        with pytest.raises(BackendError, match="500"):
            await model.generate(ask("Which colour?"))
        await model.aclose()
