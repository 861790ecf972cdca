"""The endpoint backend against a real server: `transformers serve` with a tiny Qwen2.5-VL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from colm_vl import Query, prompts
from colm_vl.backends import registry
from colm_vl.backends.base import Backend, Generation, Message, Request, Sampling
from colm_vl.backends.openai import Options, connect
from colm_vl.errors import BackendError
from tests.serving.transformers_serve import Served


@pytest.fixture
async def model(served: Served) -> AsyncIterator[Backend]:
    backend = connect(Options(model=served.model, base_url=served.base_url))
    yield backend
    await backend.aclose()


def ask(*messages: Message) -> Request:
    return Request(messages, Sampling(max_tokens=8), timeout=120)


async def test_a_picture_is_answered(model: Backend, dots: Query) -> None:
    (picture,) = dots.images
    generation = await model.generate(ask(*prompts.draft_messages(dots)))
    text_only = await model.generate(ask(*prompts.draft_messages(Query(dots.question))))
    assert generation.text
    assert generation.finish_reason == "length"
    assert generation.usage.completion_tokens == 8
    assert generation.usage.prompt_tokens > text_only.usage.prompt_tokens
    assert (generation.sent.images, generation.sent.pixels) == (1, picture.pixels)


async def test_the_answer_depends_on_the_pictures_and_their_order(model: Backend, dots: Query) -> None:
    (first,) = dots.images
    second = first.thumbnail(first.pixels // 2)
    replies = [
        (await model.generate(ask(Message("user", (*pictures, "How many dots?"))))).text
        for pictures in ((first,), (second,), (first, second), (second, first))
    ]
    assert len(set(replies)) == 4


async def test_replies_equal_those_of_the_model_in_process(model: Backend, served: Served, dots: Query) -> None:
    request = ask(*prompts.draft_messages(dots))
    local = registry.connect("transformers", registry.options_class("transformers")(model=served.model))
    here, there = await local.generate(request), await model.generate(request)
    await local.aclose()
    assert here.text == there.text
    assert here.usage == there.usage


async def test_a_stream_ends_in_what_a_plain_call_gives(model: Backend, dots: Query) -> None:
    request = ask(*prompts.draft_messages(dots))
    plain = await model.generate(request)
    *pieces, last = [piece async for piece in model.stream(request)]
    assert isinstance(last, Generation)
    assert "".join(str(piece) for piece in pieces) == last.text == plain.text
    assert last.usage == plain.usage


async def test_a_draft_is_refined(model: Backend, dots: Query) -> None:
    conversation = prompts.draft_messages(dots)
    draft = await model.generate(ask(*conversation))
    refined = await model.generate(ask(*prompts.refine_messages(conversation, draft.text, dots, "Count again.")))
    assert refined.text
    assert refined.usage.prompt_tokens > draft.usage.prompt_tokens


async def test_missing_log_probabilities_are_reported(model: Backend) -> None:
    assert (await model.generate(ask(Message("user", ("Hello",))))).logprobs is None
    assert (await model.capabilities()).logprobs is False


async def test_another_model_is_refused(served: Served) -> None:
    backend = connect(Options(model="another", base_url=served.base_url))
    with pytest.raises(BackendError, match=r"'another' at .*: HTTP 400: Server is pinned to"):
        await backend.generate(ask(Message("user", ("Hello",))))
    await backend.aclose()
