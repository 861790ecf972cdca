from __future__ import annotations

import asyncio
import json
import math
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from pydantic import ValidationError

from colm_vl import Image
from colm_vl.backends import _loading, registry
from colm_vl.backends._batch import conversation_of
from colm_vl.backends._decoding import Detokenizer
from colm_vl.backends.base import Generation, Message, Request, Sampling
from colm_vl.backends.transformers import Options, TransformersBackend
from colm_vl.errors import (
    BackendError,
    ContextTooLong,
    InputError,
    LoadFailed,
    MissingPackage,
    ModelNotFound,
    TimedOut,
    Unsupported,
)

Tiny = Callable[[str], Path]
Connect = Callable[..., TransformersBackend]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def endless(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that never ends its reply."""
    folder = shutil.copytree(tiny("qwen2_5_vl"), tmp_path_factory.mktemp("endless") / "model")
    file = folder / "generation_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"suppress_tokens": [config["eos_token_id"]]}))
    return folder


@pytest.fixture
async def connect(tiny: Tiny) -> AsyncIterator[Connect]:
    """Connects to a tiny model by its kind, or to a folder; closes it in the end."""
    connected: list[TransformersBackend] = []

    def connect(model: str | Path, **options: Any) -> TransformersBackend:
        folder = tiny(model) if isinstance(model, str) else model
        backend = registry.connect("transformers", Options(model=str(folder), **{"dtype": "float32"} | options))
        assert isinstance(backend, TransformersBackend)
        connected.append(backend)
        return backend

    yield connect
    for backend in connected:
        await backend.aclose()


def picture(width: int = 84, height: int = 56, colour: str = "red") -> Image:
    return Image.open(PIL.Image.new("RGB", (width, height), colour))


def ask(*parts: str | Image, timeout: float | None = None, **sampling: Any) -> Request:
    return Request((Message("user", parts),), Sampling(**{"max_tokens": 16} | sampling), timeout=timeout)


def mixed() -> list[Request]:
    """No, one and two pictures; prompts and replies of several lengths."""
    return [
        ask("Hi", max_tokens=11),
        ask(picture(), "What is it?", max_tokens=24),
        ask(picture(56, 112, "blue"), "A rather longer question about the picture: what is it?", max_tokens=5),
        ask(picture(), picture(112, 56, "green"), "Which is larger?"),
    ]


async def together(backend: TransformersBackend, requests: list[Request]) -> list[Generation]:
    return await asyncio.gather(*(backend.generate(request) for request in requests))


async def spied(backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the model's `generate` is given from now on, and how many steps it took."""
    await backend.capabilities()
    model = backend._worker._loaded().model
    calls: list[dict[str, Any]] = []
    generate = model.generate

    def spy(**inputs: Any) -> Any:
        calls.append(inputs)
        output = generate(**inputs)
        inputs["steps"] = output.sequences.shape[1] - inputs["input_ids"].shape[1]
        return output

    monkeypatch.setattr(model, "generate", spy)
    return calls


# --- replies ---


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl", "llava"])
async def test_a_batch_says_what_single_requests_say(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    backend = connect(kind, batch_wait=1, max_batch=4)
    single = connect(kind, batch_wait=0)
    calls = await spied(backend, monkeypatch)
    batched = await together(backend, mixed())
    alone = [await single.generate(request) for request in mixed()]
    assert [len(call["input_ids"]) for call in calls] == [4]
    for one, other in zip(batched, alone, strict=True):
        assert one.text == other.text
        assert one.usage == other.usage
        assert one.sent == other.sent
        assert one.logprobs is not None
        assert other.logprobs is not None
        for token, same in zip(one.logprobs, other.logprobs, strict=True):
            assert token.token == same.token
            assert token.logprob == pytest.approx(same.logprob, abs=1e-4)


async def test_a_picture_is_seen(connect: Connect) -> None:
    backend = connect("qwen2_5_vl")
    red, blue = await together(backend, [ask(picture(colour=c), "What is it?") for c in ("red", "blue")])
    assert red.text != blue.text
    assert (red.sent.bytes, red.sent.pictures, red.sent.pixels) == (0, 1, 84 * 56)


async def test_the_processors_whole_dictionary_reaches_the_model(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    backend = connect("qwen2_5_vl")
    model = (await loaded(backend)).model
    seen: list[dict[str, Any]] = []
    # What `generate` hands to the model itself at the first step, where the positions are decided.
    positions = model._prepare_position_ids_for_generation

    def spy(inputs: Any, given: dict[str, Any]) -> Any:
        seen.append(dict(given))
        return positions(inputs, given)

    monkeypatch.setattr(model, "_prepare_position_ids_for_generation", spy)
    request = ask(picture(112, 112), "What is it?")
    reply = await backend.generate(request)
    assert seen[0]["mm_token_type_ids"].any()

    # Without them the model answers all the same, and otherwise: nothing but this test would tell.
    inputs = encoded(await loaded(backend), request)
    whole = model.generate(**inputs, max_new_tokens=16)
    del inputs["mm_token_type_ids"]
    less = model.generate(**inputs, max_new_tokens=16)
    assert reply.text == decoded(await loaded(backend), whole, inputs)
    assert not torch.equal(whole, less)


async def test_logprobs_are_the_models_own(connect: Connect) -> None:
    import torch

    backend = connect("qwen2_5_vl")
    request = ask(picture(), "What is it?")
    reply = await backend.generate(request)
    local = await loaded(backend)
    inputs = encoded(local, request)
    ids = local.model.generate(**inputs, max_new_tokens=16)
    length = inputs["input_ids"].shape[1]
    types = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, ids.shape[1] - length))
    with torch.no_grad():
        logits = local.model(
            **inputs | {"input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": types}
        ).logits
    logprobs = torch.log_softmax(logits[0, length - 1 : -1].float(), dim=-1)
    expected = logprobs.gather(1, ids[0, length:, None]).squeeze(1).tolist()
    assert reply.logprobs is not None
    assert [token.logprob for token in reply.logprobs] == pytest.approx(expected, abs=1e-4)
    assert "".join(token.token for token in reply.logprobs) == reply.text
    assert reply.usage.completion_tokens == len(reply.logprobs) == 16
    assert reply.finish_reason == "length"


async def test_a_reply_ends_where_the_model_ends_it(connect: Connect, tiny: Tiny, tmp_path: Path) -> None:
    backend = connect("qwen2_5_vl")
    request = ask(picture(), "What is it?")
    whole = await backend.generate(request)
    local = await loaded(backend)
    ids = local.model.generate(**encoded(local, request), max_new_tokens=16)[0, -16:].tolist()
    folder = shutil.copytree(tiny("qwen2_5_vl"), tmp_path / "model")
    config = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(config | {"eos_token_id": ids[5]}))
    at = ids.index(ids[5])
    # In company, so that the others go on.
    reply, other = await together(connect(folder), [request, ask("Hi", max_tokens=30)])
    assert reply.finish_reason == "stop"
    assert reply.usage.completion_tokens == at + 1
    assert reply.text == local.family.tokenizer.decode(ids[:at], skip_special_tokens=True)
    assert whole.text.startswith(reply.text.rstrip("\ufffd"))
    assert other.usage.completion_tokens > reply.usage.completion_tokens


async def test_a_text_only_model_answers(connect: Connect) -> None:
    backend = connect("llama")
    replies = await together(backend, [ask("Hi"), ask("What is one and two?")])
    assert all(reply.text for reply in replies)
    assert (await backend.capabilities()).pictures == 0
    with pytest.raises(Unsupported, match="takes text only, got 1 picture"):
        await backend.generate(ask(picture(), "What is it?"))


# --- sampling ---


async def test_a_seed_gives_the_same_reply_whatever_else_is_in_the_batch(connect: Connect) -> None:
    backend = connect("qwen2_5_vl", batch_wait=0.2)
    seeded = ask(picture(), "What is it?", temperature=1.0, top_p=0.9, seed=7)
    alone = await backend.generate(seeded)
    first, *_, last = await together(
        backend, [seeded, *mixed(), ask("Hi", temperature=1.0, seed=8), ask(picture(), "What is it?")]
    )
    assert first.text == alone.text
    assert last.text != alone.text
    other = ask(picture(), "What is it?", temperature=1.0, top_p=0.9, seed=8)
    assert (await backend.generate(other)).text != alone.text


async def test_sampling_follows_temperature_and_top_p(connect: Connect) -> None:
    backend = connect("llama", max_batch=64, batch_wait=0.2)
    greedy = await backend.generate(ask("Hi", max_tokens=1))
    assert greedy.logprobs is not None
    likeliest = greedy.logprobs[0].logprob

    async def share_of_the_likeliest(count: int, **sampling: Any) -> float:
        requests = [ask("Hi", max_tokens=1, seed=seed, **sampling) for seed in range(count)]
        tokens = [reply.logprobs[0] for reply in await together(backend, requests) if reply.logprobs]
        return sum(token.logprob == pytest.approx(likeliest, abs=1e-4) for token in tokens) / count

    assert await share_of_the_likeliest(20, temperature=0.01) == 1
    assert await share_of_the_likeliest(20, temperature=1.0, top_p=1e-6) == 1
    assert await share_of_the_likeliest(400, temperature=1.0) == pytest.approx(math.exp(likeliest), abs=0.04)
    unseeded = await together(backend, [ask("Hi", temperature=1.5) for _ in range(4)])
    assert len({reply.text for reply in unseeded}) == 4


# --- streams ---


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "llava"])
async def test_streams_of_a_batch_each_join_to_their_text(connect: Connect, kind: str) -> None:
    backend = connect(kind, batch_wait=0.2)

    async def streamed(request: Request) -> list[str | Generation]:
        return [event async for event in backend.stream(request)]

    for events, reply in zip(
        await asyncio.gather(*(streamed(request) for request in mixed())),
        await together(backend, mixed()),
        strict=True,
    ):
        *pieces, last = events
        assert isinstance(last, Generation)
        assert len(pieces) > 1
        assert "".join(str(piece) for piece in pieces) == last.text == reply.text


async def test_a_stream_that_is_closed_stops_the_work(connect: Connect, endless: Path) -> None:
    backend = connect(endless)
    stream = backend.stream(ask("Hi", max_tokens=3000))
    async for _ in stream:
        break
    await stream.aclose()  # type: ignore[attr-defined]
    assert (await backend.generate(ask("Hi", timeout=20))).text


def test_characters_come_whole(tiny: Tiny) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny("qwen2_5_vl"))
    for text in ("naïve Zürich – 東京 🙂!", "", "a", "\ufffd broken", "  spaces  between "):
        detokenizer = Detokenizer(tokenizer)
        pieces = [detokenizer.push(token) for token in tokenizer.encode(text)]
        assert "".join(pieces) + detokenizer.flush() == text
        if "broken" not in text:
            assert not any("\ufffd" in piece for piece in pieces)
    incomplete = tokenizer.encode("🙂")[:2]
    detokenizer = Detokenizer(tokenizer)
    assert [detokenizer.push(token) for token in incomplete] == ["", ""]
    assert detokenizer.flush() == tokenizer.decode(incomplete)


# --- being stopped ---


async def test_a_cancelled_request_does_not_spoil_its_batch(
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
    # The batch ended with its last living row, thousands of tokens before the doomed one would have.
    assert [(len(call["input_ids"]), call["steps"]) for call in calls] == [(2, 40), (1, 16)]


async def test_a_time_out_ends_one_request_and_not_its_company(connect: Connect, endless: Path) -> None:
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


async def test_closing_fails_what_is_under_way_and_what_comes_after(connect: Connect, endless: Path) -> None:
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


# --- continuing a conversation ---


def next_turn(request: Request, reply: Generation, text: str, *, reuse: bool = True) -> Request:
    messages = (*request.messages, Message("assistant", (reply.text,)), Message("user", (text,)))
    return Request(messages, Sampling(max_tokens=24), reply if reuse else None)


def first_turns() -> list[Request]:
    return [
        ask(picture(112, 56), "What is it, and is there one like it?", max_tokens=9),
        ask(picture(56, 112, "blue"), picture(), "A rather longer question about pictures: what is it?", max_tokens=20),
        ask(picture(140, 140, "green"), "And what is this, how many, and which colour are they?", max_tokens=4),
    ]


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl", "llava", "llama"])
async def test_a_continued_conversation_spares_its_beginning_and_says_the_same(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    backend = connect(kind, batch_wait=0)
    calls = await spied(backend, monkeypatch)
    first = ask("What is it?") if kind == "llama" else first_turns()[0]
    between = ask("Hi") if kind == "llama" else first_turns()[1]
    draft = await backend.generate(first)
    refine = next_turn(first, draft, "Look again.")
    await backend.generate(between)  # with positions of its own
    reused = await backend.generate(refine)
    assert "pixel_values" not in calls[-1]
    await backend.generate(between)
    computed = await backend.generate(next_turn(first, draft, "Look again.", reuse=False))
    assert reused.text == computed.text
    assert reused.usage.prompt_tokens == computed.usage.prompt_tokens
    assert computed.usage.cached_tokens == 0
    assert draft.usage.prompt_tokens <= reused.usage.cached_tokens < reused.usage.prompt_tokens
    # And on: what was reused before is reused again, unharmed by having been used.
    third = next_turn(refine, reused, "Sure?")
    once, twice = await backend.generate(third), await backend.generate(third)
    computed = await backend.generate(next_turn(refine, reused, "Sure?", reuse=False))
    assert once.text == twice.text == computed.text
    assert once.usage.cached_tokens == twice.usage.cached_tokens >= reused.usage.prompt_tokens
    if kind != "llama":
        assert (await backend.generate(between)).text == (await backend.generate(between)).text


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "llava"])
async def test_conversations_of_different_lengths_continue_in_one_batch(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    backend = connect(kind, batch_wait=0.3)
    calls = await spied(backend, monkeypatch)
    drafts = await together(backend, first_turns())
    texts = ["Look again.", "Sure?", "Guidance from a larger model follows: look again."]
    pairs = list(zip(first_turns(), drafts, texts, strict=True))
    reused = await together(backend, [next_turn(*pair) for pair in pairs])
    computed = await together(backend, [next_turn(*pair, reuse=False) for pair in pairs])
    await settled(backend)
    assert [("pixel_values" in call, len(call["input_ids"])) for call in calls] == [(True, 3), (False, 3), (True, 3)]
    assert [reply.text for reply in reused] == [reply.text for reply in computed]
    assert all(reply.usage.cached_tokens > 0 for reply in reused)


async def test_nothing_is_reused_for_other_pictures_or_another_model(connect: Connect) -> None:
    backend, other = connect("qwen2_5_vl"), connect("qwen2_5_vl")
    first = ask(picture(), "What is it?")
    draft = await backend.generate(first)
    swapped = next_turn(ask(picture(colour="blue"), "What is it?"), draft, "Look again.")
    assert (await backend.generate(swapped)).usage.cached_tokens == 0
    added = next_turn(first, draft, "Look again.")
    added = Request((*added.messages[:-1], Message("user", (picture(), "And this?"))), added.sampling, draft)
    assert (await backend.generate(added)).usage.cached_tokens == 0
    assert (await other.generate(next_turn(first, draft, "Look again."))).usage.cached_tokens == 0
    rewritten = next_turn(ask(picture(), "Which is it?"), draft, "Look again.")
    reply = await backend.generate(rewritten)
    plain = await backend.generate(Request(rewritten.messages, rewritten.sampling))
    assert reply.text == plain.text


async def test_what_is_kept_is_bounded(connect: Connect) -> None:
    off = connect("qwen2_5_vl", keep_mb=0)
    first = ask(picture(), "What is it?")
    draft = await off.generate(first)
    assert (await off.generate(next_turn(first, draft, "Look again."))).usage.cached_tokens == 0

    backend = connect("qwen2_5_vl")
    store = backend._worker._store
    drafts = [await backend.generate(first)]
    await settled(backend)
    store.limit = drafts[0].handle.kept.bytes * 3
    drafts += [await backend.generate(first) for _ in range(4)]
    await settled(backend)
    assert [draft.handle.kept is not None for draft in drafts] == [False, False, True, True, True]
    refined = await backend.generate(next_turn(first, drafts[0], "Look again."))
    assert refined.text == (await backend.generate(next_turn(first, drafts[4], "Look again."))).text
    await backend.aclose()
    assert all(draft.handle.kept is None for draft in drafts)


# --- limits ---


async def test_too_many_pictures(connect: Connect) -> None:
    backend = connect("qwen2_5_vl", max_images=4)
    with pytest.raises(Unsupported, match="takes at most 4 pictures, got 40"):
        await backend.generate(ask(*[picture()] * 40, "Which?"))
    assert (await backend.capabilities()).pictures == 4


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


# --- quantization ---


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
async def test_quantized_models_answer_nearly_alike(connect: Connect, quantization: str) -> None:
    pytest.importorskip("bitsandbytes", reason="quantization needs the extra 'quant'", exc_type=ImportError)
    whole, backend = connect("qwen2_5_vl"), connect("qwen2_5_vl", quantization=quantization)
    request = ask(picture(), "What is it?", max_tokens=4)
    exact, reply = await whole.generate(request), await backend.generate(request)
    assert exact.logprobs is not None
    assert reply.logprobs is not None
    assert reply.logprobs[0].logprob == pytest.approx(exact.logprobs[0].logprob, abs=1.5)
    assert quantization in (await backend.capabilities()).detail
    kinds = {type(module).__name__ for module in (await loaded(backend)).model.modules()}
    assert ("Linear4bit" if quantization == "nf4" else "Linear8bitLt") in kinds


# --- loading ---


async def test_loading_is_left_to_the_first_request_and_done_once(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    load = _loading._open
    monkeypatch.setattr(_loading, "_open", lambda options, *rest: opened.append(options.model) or load(options, *rest))
    backend = connect("qwen2_5_vl")
    assert not opened
    await together(backend, mixed())
    assert len(opened) == 1


async def test_a_time_out_while_loading_leaves_the_loading_be(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    go_on = threading.Event()
    load = _loading._open

    def slow(options: Options, *rest: Any) -> Any:
        opened.append(options.model)
        go_on.wait(60)
        return load(options, *rest)

    monkeypatch.setattr(_loading, "_open", slow)
    backend = connect("llama")
    with pytest.raises(TimedOut):
        await backend.generate(ask("Hi", timeout=0.05))
    go_on.set()
    assert (await backend.generate(ask("Hi"))).text
    assert len(opened) == 1


@pytest.mark.parametrize("model", ["/nowhere/at/all", "./nowhere", "a/b/c"])
async def test_a_missing_folder(connect: Connect, model: str) -> None:
    with pytest.raises(ModelNotFound, match=f"model folder '{model}' does not exist"):
        await connect(Path(model)).generate(ask("Hi")) if model.startswith("/") else await TransformersBackend(
            Options(model=model)
        ).generate(ask("Hi"))


async def test_a_folder_without_a_model(connect: Connect, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"has no config\.json"):
        await connect(tmp_path).generate(ask("Hi"))


async def test_a_hub_id_that_is_not_here_while_offline() -> None:
    backend = TransformersBackend(Options(model="nobody/nothing", offline=True))
    with pytest.raises(ModelNotFound, match="'nobody/nothing' is not on this machine, and offline is set") as caught:
        await backend.generate(ask("Hi"))
    assert "hf download nobody/nothing" in caught.value.hint


async def test_damaged_weights(connect: Connect, tiny: Tiny, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny("llama"), tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:1000])
    backend = connect(folder)
    with pytest.raises(LoadFailed, match="weights are damaged or incomplete"):
        await backend.generate(ask("Hi"))
    with pytest.raises(LoadFailed):
        await backend.capabilities()


async def test_a_model_that_writes_no_text(connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(LoadFailed, match="is of type 'clip', expected one that writes text"):
        await connect(tmp_path).generate(ask("Hi"))


@pytest.mark.parametrize(
    ("package", "options", "extra"),
    [("torch", {}, "local"), ("transformers", {}, "local"), ("bitsandbytes", {"quantization": "nf4"}, "quant")],
)
async def test_a_missing_package_is_named_with_the_line_that_installs_it(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, package: str, options: dict[str, Any], extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackage, match=package) as caught:
        await connect("qwen2_5_vl", **options).generate(ask("Hi"))
    assert caught.value.hint == f"pip install 'colm-vl[{extra}]'"


async def test_a_torchvision_that_does_not_fit_is_named(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")\n')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LoadFailed, match=r"torchvision does not fit torch.*nms does not exist") as caught:
        await connect("llava").generate(ask("Hi"))
    assert "pip uninstall torchvision" in caught.value.hint


def test_options_are_checked() -> None:
    with pytest.raises(ValidationError, match="min_pixels 5000 is above max_pixels 4000"):
        Options(model="m", min_pixels=5000, max_pixels=4000)
    with pytest.raises(ValidationError):
        Options(model="m", quantization="int4")  # type: ignore[arg-type]


def test_the_module_loads_neither_torch_nor_transformers() -> None:
    program = "import sys, colm_vl.backends.transformers; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"


async def test_revision_and_offline_choose_from_the_hubs_cache(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two revisions of a model as the hub's client keeps them, and no network."""
    from huggingface_hub import constants

    repository = tmp_path / "models--someone--tiny"
    for name, commit, kind in (("main", "a" * 40, "qwen2_5_vl"), ("text", "b" * 40, "llama")):
        shutil.copytree(tiny(kind), repository / "snapshots" / commit)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / name).write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    details = {}
    for revision in (None, "text", "absent"):
        backend = TransformersBackend(Options(model="someone/tiny", revision=revision, offline=True))
        with suppress(ModelNotFound):
            details[revision] = (await backend.capabilities()).detail
        await backend.aclose()
    assert details == {None: "qwen2_5_vl, cpu", "text": "llama, cpu"}


async def settled(backend: TransformersBackend) -> None:
    """A reply is delivered before its conversation is put away; this returns after that."""
    backend._capabilities = None
    await backend.capabilities()


async def loaded(backend: TransformersBackend) -> Any:
    await backend.capabilities()
    return backend._worker._loaded()


def encoded(local: Any, request: Request) -> dict[str, Any]:
    inputs: dict[str, Any] = local.family.encode([conversation_of(request)])
    return inputs


def decoded(local: Any, ids: Any, inputs: dict[str, Any]) -> str:
    detokenizer = Detokenizer(local.family.tokenizer)
    pieces = [detokenizer.push(token) for token in ids[0, inputs["input_ids"].shape[1] :].tolist()]
    return "".join(pieces) + detokenizer.flush()
