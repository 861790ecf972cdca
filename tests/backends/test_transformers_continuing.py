"""Local models continue conversations with a prefix cache."""

from __future__ import annotations

import pytest

from colm_vl.backends.base import Generation, Message, Request, Sampling
from tests.backends.local import Connect, ask, picture, settled, spied, together


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
async def test_a_continued_conversation_reuses_its_beginning(
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
    # A cached conversation can be reused several times.
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


async def test_the_cache_is_limited(connect: Connect) -> None:
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
