"""Local models that are stopped, closed, given too long prompts, or out of memory."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from colm_vl.backends.base import Generation
from colm_vl.backends.transformers import Options, TransformersBackend
from colm_vl.errors import BackendError, ContextTooLong, InputError, LoadFailed, TimedOut, Unsupported
from tests.backends.local import Connect, Tiny, ask, loaded, mixed, picture, settled, spied, together

# --- being stopped ---


async def test_a_cancelled_request_does_not_affect_its_batch(
    connect: Connect, endless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = connect(endless, batch_wait=0.5)
    alone = await backend.generate(ask(picture(), "What is it?", max_tokens=40))
    calls = await spied(backend, monkeypatch)
    begun = asyncio.Event()

    async def talk() -> None:
        async for _ in backend.stream(ask("Hi", max_tokens=3000)):
            begun.set()

    doomed = asyncio.create_task(talk())
    other = asyncio.create_task(backend.generate(ask(picture(), "What is it?", max_tokens=40)))
    await begun.wait()
    doomed.cancel()
    assert (await other).text == alone.text
    with pytest.raises(asyncio.CancelledError):
        await doomed
    assert (await backend.generate(ask("Hi"))).text
    await settled(backend)
    # The batch ended with the last row that was not cancelled, long before the cancelled one would have.
    assert [(len(call["input_ids"]), call["steps"]) for call in calls] == [(2, 40), (1, 16)]


async def test_a_timeout_does_not_affect_the_batch(connect: Connect, endless: Path) -> None:
    backend = connect(endless, batch_wait=0.2)
    alone = await backend.generate(ask(picture(), "What is it?", max_tokens=40))
    hasty = ask("Hi", max_tokens=3000, timeout=0.6)
    late, other = await asyncio.gather(
        backend.generate(hasty),
        backend.generate(ask(picture(), "What is it?", max_tokens=40)),
        return_exceptions=True,
    )
    assert isinstance(late, TimedOut)
    assert "within 0.6 s" in str(late)
    assert late.retryable
    assert isinstance(other, Generation)
    assert other.text == alone.text


async def test_closing_fails_running_and_later_requests(connect: Connect, endless: Path) -> None:
    backend = connect(endless, batch_wait=0)
    begun = asyncio.Event()

    async def talk() -> None:
        async for _ in backend.stream(ask("Hi", max_tokens=3000)):
            begun.set()

    running = asyncio.create_task(talk())
    await begun.wait()
    waiting = asyncio.create_task(backend.generate(ask("Hi")))
    await asyncio.sleep(0)
    await backend.aclose()
    for task in (running, waiting):
        with pytest.raises(BackendError, match="closed"):
            await task
    with pytest.raises(BackendError, match="was closed"):
        await backend.generate(ask("Hi"))


def test_one_backend_serves_several_event_loops(tiny: Tiny) -> None:
    backend = TransformersBackend(Options(model=str(tiny("llama")), dtype="float32"))
    first = asyncio.run(backend.generate(ask("Hi")))
    second = asyncio.run(backend.generate(ask("Hi")))
    assert first.text == second.text
    asyncio.run(backend.aclose())


# --- limits ---


async def test_too_many_pictures(connect: Connect) -> None:
    backend = connect("qwen2_5_vl", max_images=4)
    with pytest.raises(Unsupported, match="takes at most 4 pictures, got 40"):
        await backend.generate(ask(*[picture()] * 40, "Which?"))
    assert (await backend.capabilities()).images == 4


async def test_a_prompt_beyond_the_context_fails_alone(connect: Connect) -> None:
    backend = connect("qwen2_5_vl", context=100, batch_wait=0.2)
    long, short = await asyncio.gather(
        backend.generate(ask("one two three " * 50)), backend.generate(ask("Hi")), return_exceptions=True
    )
    assert isinstance(long, ContextTooLong)
    assert "100" in str(long)
    assert isinstance(short, Generation)
    # Prompt and reply together fill the context, whatever was asked for.
    cut = await backend.generate(ask("Hi", max_tokens=1000))
    assert cut.usage.prompt_tokens + cut.usage.completion_tokens == 100
    assert cut.finish_reason == "length"


async def test_a_picture_that_cannot_be_used_fails_alone(connect: Connect) -> None:
    backend = connect("qwen2_5_vl", batch_wait=0.2)
    ribbon, fine = await asyncio.gather(
        backend.generate(ask(picture(2010, 10), "What is it?")),
        backend.generate(ask(picture(), "What is it?")),
        return_exceptions=True,
    )
    assert isinstance(ribbon, InputError)
    assert isinstance(fine, Generation)


async def test_out_of_memory_halves_the_batch(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    backend = connect("qwen2_5_vl", batch_wait=0.5, max_batch=4)
    alone = [await backend.generate(request) for request in mixed()]
    model = (await loaded(backend)).model
    sizes: list[int] = []
    generate = model.generate

    def small(**inputs: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return generate(**inputs)

    monkeypatch.setattr(model, "generate", small)
    replies = await together(backend, mixed())
    assert sizes == [4, 2, 1, 1, 2, 1, 1]
    assert [reply.text for reply in replies] == [reply.text for reply in alone]

    monkeypatch.setattr(model, "generate", lambda **inputs: torch.empty(0).new_empty((2**60,)))
    with pytest.raises(LoadFailed, match="ran out of memory") as caught:
        await backend.generate(ask("Hi"))
    assert "max_pixels" in caught.value.hint
    assert "nf4" in caught.value.hint
