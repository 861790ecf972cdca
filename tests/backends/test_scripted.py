"""The scripted backend."""

from __future__ import annotations

import math
import time
import tomllib

import PIL.Image
import pytest
from pydantic import ValidationError

from colm_vl.backends.base import Generation, Message, Part, Request, Sampling
from colm_vl.backends.scripted import Options, Reply, ScriptedBackend, connect
from colm_vl.errors import (
    BadReply,
    ColmError,
    ContextTooLong,
    InputError,
    ModelNotFound,
    RateLimited,
    TimedOut,
    Unreachable,
    Unsupported,
)
from colm_vl.types import Sent, Usage
from processors.images import Image


def ask(*parts: Part, timeout: float | None = None, max_tokens: int = 512) -> Request:
    sampling = Sampling(max_tokens=max_tokens)
    return Request((Message("system", ("Be brief.",)), Message("user", parts)), sampling, timeout=timeout)


def picture(width: int = 40, height: int = 30) -> Image:
    return Image.open(PIL.Image.new("RGB", (width, height), "red"))


async def test_replies_come_in_order_and_the_last_is_repeated() -> None:
    backend = ScriptedBackend(["one", Reply(text="two", times=2), "three"])
    said = [(await backend.generate(ask("?"))).text for _ in range(6)]
    assert said == ["one", "two", "two", "three", "three", "three"]


async def test_the_first_entry_whose_texts_all_occur_answers() -> None:
    backend = ScriptedBackend(
        [
            "no idea",
            Reply(when=("colour", "Look again"), text="red"),
            Reply(when="colour", text="blue"),
            Reply(when="Be brief", text="system"),
        ]
    )
    first = ask("Which colour?")
    again = Request((*first.messages, Message("assistant", ("blue",)), Message("user", ("Look again.",))))
    assert (await backend.generate(first)).text == "blue"
    assert (await backend.generate(again)).text == "red"
    assert (await backend.generate(ask("How many?"))).text == "system"
    assert (await backend.generate(Request((Message("user", ("How many?",)),)))).text == "no idea"


async def test_an_entry_can_be_used_up() -> None:
    backend = ScriptedBackend([Reply(when="hello", error="rate_limited", retry_after=3, times=1), "fine"])
    with pytest.raises(RateLimited) as caught:
        await backend.generate(ask("hello"))
    assert caught.value.retry_after == 3
    assert (await backend.generate(ask("hello"))).text == "fine"


async def test_equal_entries_are_counted_separately() -> None:
    once = Reply(when="x", text="once", times=1)
    backend = ScriptedBackend([once, once, "rest"])
    assert [(await backend.generate(ask("x"))).text for _ in range(3)] == ["once", "once", "rest"]


async def test_a_script_from_a_team_file() -> None:
    table = tomllib.loads("""
        model = "harbour"
        max_images = 1
        replies = ["Answer: boat", { when = "sky", text = "Answer: blue", delay = 0.01, prompt_tokens = 7 }]
    """)
    backend = connect(Options.model_validate(table))
    reply = await backend.generate(ask("What of the sky?"))
    assert (reply.text, reply.usage.prompt_tokens, reply.seconds) == ("Answer: blue", 7, 0.01)
    assert (await backend.capabilities()).images == 1


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"when": "x"}, "an entry needs a text or an error"),
        ({"error": "hiccup"}, "unknown error 'hiccup', expected one of: .*rate_limited"),
        ({"text": "x", "sleep": 1}, "Extra inputs"),
    ],
)
def test_an_invalid_entry_is_refused(entry: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Options.model_validate({"model": "m", "replies": [entry]})


def test_a_script_needs_an_entry() -> None:
    with pytest.raises(ValidationError, match="at least 1"):
        Options(model="m", replies=())


@pytest.mark.parametrize("kind", [RateLimited, TimedOut, Unreachable, ModelNotFound, BadReply, InputError])
async def test_errors_have_the_class_of_their_kind(kind: type[ColmError]) -> None:
    backend = ScriptedBackend([Reply(error=kind.kind, text="out of order")])
    with pytest.raises(kind, match="out of order") as caught:
        await backend.generate(ask("?"))
    assert type(caught.value) is kind


async def test_no_entry_for_a_request_is_an_error() -> None:
    with pytest.raises(BadReply, match="no reply"):
        await ScriptedBackend([Reply(when="x", text="y")]).generate(ask("z"))


async def test_a_function_can_answer() -> None:
    backend = ScriptedBackend(lambda request: request.messages[-1].text.upper())
    assert (await backend.generate(ask("hello"))).text == "HELLO"


async def test_requests_are_kept_for_inspection() -> None:
    backend = ScriptedBackend(["one"])
    request = ask("Which colour?", picture())
    await backend.generate(request)
    assert backend.requests == [request]
    assert not backend.closed
    await backend.aclose()
    assert backend.closed


async def test_a_stream_gives_the_text_in_pieces_and_then_the_whole() -> None:
    backend = ScriptedBackend(["Caption: a red boat\nAnswer: red \n"])
    *pieces, last = [piece async for piece in backend.stream(ask("?"))]
    assert len(pieces) > 3
    assert isinstance(last, Generation)
    assert "".join(str(piece) for piece in pieces) == last.text == "Caption: a red boat\nAnswer: red \n"


async def test_words_are_tokens() -> None:
    generation = await ScriptedBackend(["a b c"]).generate(ask("Which colour?"))
    assert generation.usage == Usage(prompt_tokens=4, completion_tokens=3)
    told = Reply(text="a b c", prompt_tokens=100, cached_tokens=64, completion_tokens=9)
    assert (await ScriptedBackend([told]).generate(ask("?"))).usage == Usage(100, 64, 9)


async def test_a_reply_is_cut_at_max_tokens() -> None:
    generation = await ScriptedBackend(["a b c d"]).generate(ask("?", max_tokens=2))
    assert (generation.text, generation.finish_reason, generation.usage.completion_tokens) == ("a b", "length", 2)


async def test_log_probabilities_are_returned_if_the_script_has_them() -> None:
    options = Options(model="m", replies=("-",), probability=0.5)
    generation = await ScriptedBackend([Reply(text="a b", probability=0.25)], options).generate(ask("?"))
    assert generation.logprobs is not None
    assert [token.token for token in generation.logprobs] == ["a", " b"]
    assert math.exp(generation.logprobs[0].logprob) == pytest.approx(0.25)
    default = await ScriptedBackend(["a"], options).generate(ask("?"))
    assert default.logprobs is not None
    assert math.exp(default.logprobs[0].logprob) == pytest.approx(0.5)
    assert (await ScriptedBackend(["a"]).generate(ask("?"))).logprobs is None
    assert (await ScriptedBackend(["a"], options).capabilities()).logprobs is True


async def test_pictures_are_counted_within_the_pixel_budget() -> None:
    options = Options(model="m", replies=("-",), max_pixels=28 * 28)
    large, small = picture(100, 100), picture(10, 10)
    generation = await ScriptedBackend(["a"], options).generate(ask(large, small, "?"))
    assert generation.sent == Sent(bytes=0, images=2, pixels=large.thumbnail(28 * 28).pixels + 100)
    assert generation.sent.pixels <= 28 * 28 + 100


@pytest.mark.parametrize(
    ("limit", "said"), [(0, "takes text only, got 2 pictures"), (1, "takes at most 1 picture, got 2")]
)
async def test_more_pictures_than_the_model_takes_are_refused(limit: int, said: str) -> None:
    backend = ScriptedBackend(["a"], Options(model="m", replies=("-",), max_images=limit))
    with pytest.raises(Unsupported, match=said):
        await backend.generate(ask(picture(), picture(), "?"))


async def test_a_prompt_longer_than_the_context_is_refused() -> None:
    backend = ScriptedBackend(["a"], Options(model="m", replies=("-",), context=64))
    with pytest.raises(ContextTooLong, match="takes 64 tokens, got 102"):
        await backend.generate(ask("word " * 100))


async def test_a_delay_ends_at_the_timeout() -> None:
    backend = ScriptedBackend([Reply(text="late", delay=60)])
    begun = time.monotonic()
    with pytest.raises(TimedOut, match=r"within 0\.01 s"):
        await backend.generate(ask("?", timeout=0.01))
    assert time.monotonic() - begun < 5
