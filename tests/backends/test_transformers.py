"""Replies of local models: in batches and alone, sampled, streamed, quantized."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from colm_vl.backends._decoding import Detokenizer
from colm_vl.backends.base import Generation, Request
from colm_vl.errors import Unsupported
from colm_vl.pocket import team_file
from tests.backends.local import Connect, Tiny, ask, decoded, encoded, loaded, mixed, picture, spied, together

# --- replies ---


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl", "llava"])
async def test_a_batch_gives_the_replies_of_single_requests(
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


async def test_the_parts_of_a_calls_time_are_measured(connect: Connect) -> None:
    backend = connect("qwen2_5_vl", max_batch=1, batch_wait=0)
    await backend.capabilities()
    requests = [ask(picture(), "What is it?", max_tokens=8), ask("Hi", max_tokens=1)]
    first, second = await together(backend, requests)
    for generation in (first, second):
        parts = generation.timing
        assert parts.known == pytest.approx(generation.seconds)
        assert (parts.queued or 0) >= 0
        assert (parts.prefill or 0) > 0
    assert (first.timing.decode or 0) > (second.timing.decode or 0)
    assert (second.timing.queued or 0) >= (first.timing.prefill or 0) + (first.timing.decode or 0)


async def test_a_picture_is_seen(connect: Connect) -> None:
    backend = connect("qwen2_5_vl")
    red, blue = await together(backend, [ask(picture(colour=c), "What is it?") for c in ("red", "blue")])
    assert red.text != blue.text
    assert (red.sent.bytes, red.sent.images, red.sent.pixels) == (0, 1, 84 * 56)


async def test_all_outputs_of_the_processor_reach_the_model(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
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

    # Without them the model gives other answers, which only this test detects.
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
    # With other requests in the batch, which must continue.
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
    assert (await backend.capabilities()).images == 0
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


async def test_closing_a_stream_stops_generation(connect: Connect, endless: Path) -> None:
    backend = connect(endless)
    stream = backend.stream(ask("Hi", max_tokens=3000))
    async for _ in stream:
        break
    await stream.aclose()  # type: ignore[attr-defined]
    assert (await backend.generate(ask("Hi", timeout=20))).text


def test_streams_contain_complete_characters(tiny: Tiny) -> None:
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


# --- quantization ---


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
async def test_quantized_models_give_similar_logprobs(connect: Connect, quantization: str) -> None:
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


async def test_layers_that_cannot_be_packed_are_not_quantized(connect: Connect) -> None:
    """bitsandbytes' fastest CPU kernels cannot pack sides of 160, and failed at the first call."""
    pytest.importorskip("bitsandbytes", reason="quantization needs the extra 'quant'", exc_type=ImportError)
    backend = connect(team_file().parent / "weights" / "shapes", quantization="nf4")
    assert (await backend.generate(ask(picture(), "What is it?", max_tokens=4))).text
    layers = {name: type(module).__name__ for name, module in (await loaded(backend)).model.named_modules()}
    assert layers["model.visual.blocks.0.attn.qkv"] == "Linear"
    assert layers["model.language_model.layers.0.self_attn.q_proj"] == "Linear4bit"
    assert layers["lm_head"] == "Linear"
