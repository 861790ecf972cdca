"""Local models under a schema: replies that can be read, in batches and alone."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace
from typing import Any

import pytest

from colm_vl.backends.base import Generation, Request
from colm_vl.errors import InputError
from tests.backends.local import Connect, ask, loaded, mixed, picture, together

LETTER = {
    "type": "object",
    "properties": {
        "caption": {"type": "string", "maxLength": 20},
        "answer": {"enum": ["A", "B", "C"]},
        "confidence": {"type": "integer", "minimum": 0, "maximum": 100},
    },
    "required": ["caption", "answer", "confidence"],
    "additionalProperties": False,
}
WORD = {
    "type": "object",
    "properties": {"answer": {"type": "string", "minLength": 1, "maxLength": 12}},
    "required": ["answer"],
    "additionalProperties": False,
}


def under(schema: dict[str, Any] | None, request: Request, max_tokens: int = 120) -> Request:
    return replace(request, schema=schema, sampling=replace(request.sampling, max_tokens=max_tokens))


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "llava", "llama"])
async def test_a_reply_follows_its_schema(connect: Connect, kind: str) -> None:
    reply = await connect(kind).generate(under(LETTER, ask("Which?")))
    said = json.loads(reply.text)
    assert list(said) == ["caption", "answer", "confidence"]
    assert len(said["caption"]) <= 20
    assert said["answer"] in ("A", "B", "C")
    assert 0 <= said["confidence"] <= 100
    assert reply.finish_reason == "stop"


async def test_a_batch_under_several_schemas_gives_the_replies_of_single_requests(connect: Connect) -> None:
    schemas = [LETTER, None, WORD, LETTER]
    requests = [under(schema, request, 60) for schema, request in zip(schemas, mixed(), strict=True)]
    batched = await together(connect("qwen2_5_vl", batch_wait=1, max_batch=4), requests)
    single = connect("qwen2_5_vl", batch_wait=0)
    alone = [await single.generate(request) for request in requests]
    for one, other in zip(batched, alone, strict=True):
        assert [token.token for token in one.logprobs or ()] == [token.token for token in other.logprobs or ()]
        assert one.text == other.text
        assert one.finish_reason == other.finish_reason
    free = await single.generate(requests[1])
    assert batched[1].text == free.text


async def test_samples_follow_the_schema_too(connect: Connect) -> None:
    backend = connect("qwen2_5_vl", batch_wait=0.2)
    requests = [
        under(LETTER, ask(picture(), "Which?", temperature=1.5, top_p=top_p, seed=seed))
        for seed, top_p in enumerate((1.0, 0.9, 0.5))
    ]
    replies = await together(backend, requests)
    assert all(json.loads(reply.text)["answer"] in ("A", "B", "C") for reply in replies)
    assert (await backend.generate(requests[1])).text == replies[1].text


async def test_a_truncated_reply_is_the_beginning_of_the_whole(connect: Connect) -> None:
    backend = connect("qwen2_5_vl")
    whole = await backend.generate(under(LETTER, ask("Which?")))
    cut = await backend.generate(under(LETTER, ask("Which?"), max_tokens=9))
    assert cut.finish_reason == "length"
    assert whole.text.startswith(cut.text)


async def test_a_grammar_is_prepared_once_for_a_schema(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = connect("qwen2_5_vl")
    grammars = (await loaded(backend)).grammars
    prepared: list[str] = []
    prepare = grammars._matcher
    monkeypatch.setattr(grammars, "_matcher", lambda schema: (prepared.append(schema), prepare(schema))[1])
    for _ in range(3):
        await backend.generate(under(WORD, ask("Which?")))
    assert len(prepared) == 1


async def test_logprobs_under_a_schema_are_the_models_own(connect: Connect) -> None:
    """Random weights spread over the whole vocabulary; after masking, a brace that must come would be certain."""
    reply = await connect("qwen2_5_vl").generate(under(WORD, ask("Which?")))
    assert reply.logprobs is not None
    assert math.exp(reply.logprobs[0].logprob) < 0.5


async def test_a_schema_that_cannot_be_followed_fails_alone(connect: Connect) -> None:
    backend = connect("qwen2_5_vl", batch_wait=0.2)
    requests = [under({"type": "object", "properties": {"a": {"type": "colour"}}}, ask("Which?")), ask("Hi")]
    bad, good = await asyncio.gather(*map(backend.generate, requests), return_exceptions=True)
    assert isinstance(bad, InputError)
    assert "unsupported schema" in str(bad)
    assert isinstance(good, Generation)


async def test_letter_probabilities_are_returned_where_a_letter_was_drawn(connect: Connect) -> None:
    backend = connect("qwen2_5_vl")
    request = replace(under(LETTER, ask("Which?")), letters=("A", "B", "C"))
    reply = await backend.generate(request)
    answer = json.loads(reply.text)["answer"]
    drawn = [token for token in reply.logprobs or () if token.letters and token.token.strip(' "') == answer]
    letters = drawn[-1].letters
    assert letters is not None
    assert letters.keys() == {"A", "B", "C"}
    # The schema left only letters in this place, and the likeliest was drawn.
    assert max(letters, key=lambda letter: letters[letter]) == answer
    assert (await backend.generate(under(LETTER, ask("Which?")))).text == reply.text
