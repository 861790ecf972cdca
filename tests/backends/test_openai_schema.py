"""Schemas and the letters of choices at an OpenAI-compatible endpoint."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest

from colm_vl.backends.base import Backend, Generation, Message, Request
from colm_vl.errors import BackendError, Unsupported
from tests.endpoint import Endpoint, Fault, Reply, Seen

Connect = Callable[..., Backend]
SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
AS_JSON = (Message("user", ("Reply in JSON.",)),)
AS_LINES = (Message("user", ("Reply in lines.",)),)


def ask(plain: tuple[Message, ...] | None = AS_LINES, **more: Any) -> Request:
    return Request(AS_JSON, schema=SCHEMA, plain=plain, timeout=20, **more)


async def streamed(backend: Backend, request: Request) -> Generation:
    last = [piece async for piece in backend.stream(request)][-1]
    assert isinstance(last, Generation)
    return last


def asked(endpoint: Endpoint) -> list[tuple[str, bool]]:
    return [(seen.text, "response_format" in seen.body) for seen in endpoint.seen]


async def test_a_schema_is_sent(model: Connect) -> None:
    with Endpoint('{"answer": "5"}') as endpoint:
        reply = await model(endpoint).generate(ask())
    form = endpoint.seen[0].body["response_format"]
    assert form == {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": SCHEMA}}
    assert (reply.text, reply.plain) == ('{"answer": "5"}', False)


@pytest.mark.parametrize("stream", [False, True])
async def test_after_a_refused_schema_the_plain_messages_are_sent(model: Connect, stream: bool) -> None:
    with Endpoint("Answer: 5", refuses={"response_format"}) as endpoint:
        backend, same = model(endpoint), model(endpoint)
        for each in (backend, backend, same):
            reply = await (streamed(each, ask()) if stream else each.generate(ask()))
            assert reply.plain
        assert asked(endpoint) == [("Reply in JSON.", True), *[("Reply in lines.", False)] * 3]


@pytest.mark.parametrize(
    "message",
    [
        "This response_format type is unavailable now",
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
        "This model does not support response format `json_schema`.",
        "failed to parse grammar",
        "guided_json is not enabled on this server",
    ],
)
async def test_refusals_of_several_servers_are_recognized(model: Connect, message: str) -> None:
    def script(seen: Seen) -> str | Fault:
        return Fault("status", 400, message) if "response_format" in seen.body else "Answer: 5"

    with Endpoint(script) as endpoint:
        assert (await model(endpoint, max_retries=0).generate(ask())).plain


async def test_calls_that_are_refused_at_the_same_time_are_all_answered(model: Connect) -> None:
    with Endpoint("Answer: 5", refuses={"response_format"}, latency=0.05) as endpoint:
        backend = model(endpoint)
        replies = await asyncio.gather(*(backend.generate(ask()) for _ in range(12)))
        assert all(reply.plain for reply in replies)
        assert all(text == ("Reply in JSON." if formed else "Reply in lines.") for text, formed in asked(endpoint))


async def test_without_plain_messages_a_refusal_is_an_error_with_a_hint(model: Connect) -> None:
    with Endpoint(refuses={"response_format"}) as endpoint:
        for _ in range(2):
            with pytest.raises(Unsupported) as caught:
                await model(endpoint, max_retries=0).generate(ask(plain=None))
            assert "reply_format" in caught.value.hint
        assert len(endpoint.seen) == 1


async def test_other_errors_are_no_refusal(model: Connect) -> None:
    with Endpoint([Fault("status", 400, "the image is damaged"), '{"answer": "5"}']) as endpoint:
        backend = model(endpoint, max_retries=0)
        with pytest.raises(BackendError):
            await backend.generate(ask())
        assert not (await backend.generate(ask())).plain


# --- letters ---


@pytest.mark.parametrize("stream", [False, True])
async def test_letter_probabilities_are_returned_where_a_letter_was_drawn(model: Connect, stream: bool) -> None:
    likeliest = {" A": 0.4, " (B)": 0.1, " B": 0.1, " red": 0.2, " C": 0.05}
    with Endpoint(Reply("I say A", likeliest=likeliest)) as endpoint:
        request = ask(letters=("A", "B"))
        backend = model(endpoint)
        reply = await (streamed(backend, request) if stream else backend.generate(request))
        assert reply.logprobs is not None
        *others, last = reply.logprobs
        assert all(token.letters is None for token in others)
        assert last.letters is not None
        assert {letter: math.exp(each) for letter, each in last.letters.items()} == pytest.approx({"A": 0.4, "B": 0.2})
        await backend.generate(ask())
        assert ["top_logprobs" in seen.body for seen in endpoint.seen] == [True, False]


async def test_refused_alternatives_leave_the_log_probabilities(model: Connect) -> None:
    with Endpoint(Reply("A", likeliest={"A": 0.5}), refuses={"top_logprobs"}) as endpoint:
        backend = model(endpoint, max_retries=0)
        for _ in range(2):
            reply = await backend.generate(ask(letters=("A", "B")))
            assert reply.logprobs is not None
            assert reply.logprobs[0].letters is None
        assert ["top_logprobs" in seen.body for seen in endpoint.seen] == [True, False, False]
