"""OpenAI-compatible endpoints: requests, replies, concurrency. Faults are in test_openai_faults.py."""

from __future__ import annotations

import asyncio
import base64
import io
import math
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import PIL.Image
import pytest
from pydantic import ValidationError

from colm_vl.backends.base import Backend, Generation, Message, Part, Request, Sampling
from colm_vl.backends.openai import Options, connect
from colm_vl.errors import BackendError, ConfigError, Refused, TimedOut, Unreachable, Unsupported
from colm_vl.types import Sent, Usage
from processors.images import Image
from tests.endpoint import Endpoint, Fault, Reply, Seen

Connect = Callable[..., Backend]


def ask(*parts: Part, timeout: float | None = 20, **sampling: float) -> Request:
    return Request((Message("user", parts),), Sampling(**sampling), timeout=timeout)  # type: ignore[arg-type]


def picture(colour: str = "red", size: tuple[int, int] = (60, 40)) -> Image:
    return Image.open(PIL.Image.new("RGB", size, colour))


async def drain(backend: Backend, request: Request) -> list[str | Generation]:
    return [piece async for piece in backend.stream(request)]


# --- what is sent ---


async def test_a_conversation_is_sent_unchanged(model: Connect) -> None:
    request = Request(
        (
            Message("system", ("Be brief.",)),
            Message("user", ("Picture 1:", picture("red"), "Picture 2:", picture("blue"), "Which is red?")),
            Message("assistant", ("Answer: 1",)),
            Message("user", ("Look again.", "Keep it or change it.")),
        )
    )
    with Endpoint() as endpoint:
        await model(endpoint).generate(request)
    system, user, assistant, last = endpoint.seen[0].body["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert [part.get("text", part["type"]) for part in user["content"]] == [
        "Picture 1:",
        "image_url",
        "Picture 2:",
        "image_url",
        "Which is red?",
    ]
    assert [part["image_url"] for part in user["content"] if part["type"] == "image_url"] == [
        {"url": picture("red").data_uri()},
        {"url": picture("blue").data_uri()},
    ]
    assert assistant == {"role": "assistant", "content": "Answer: 1"}
    assert last == {"role": "user", "content": "Look again.\nKeep it or change it."}


async def test_pictures_are_sent_within_the_pixel_budget(model: Connect) -> None:
    with Endpoint() as endpoint:
        generation = await model(endpoint, max_pixels=1000, detail="low").generate(ask(picture(size=(100, 100)), "?"))
    encoded = endpoint.seen[0].pictures[0].partition("base64,")[2]
    sent = PIL.Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert sent.width * sent.height <= 1000
    assert endpoint.seen[0].parts[0]["image_url"]["detail"] == "low"
    assert generation.sent == Sent(endpoint.seen[0].size, 1, sent.width * sent.height)


async def test_sampling_is_sent(model: Connect) -> None:
    with Endpoint() as endpoint:
        backend = model(endpoint, extra_body={"chat_template_kwargs": {"enable_thinking": False}})
        await backend.generate(ask("?", max_tokens=7, temperature=0.5, top_p=0.9, seed=3))
        await backend.generate(ask("?"))
    full, plain = (seen.body for seen in endpoint.seen)
    assert (full["model"], full["max_tokens"], full["temperature"]) == ("m", 7, 0.5)
    assert (full["top_p"], full["seed"]) == (0.9, 3)
    assert full["chat_template_kwargs"] == {"enable_thinking": False}
    assert plain["temperature"] == 0
    assert not {"top_p", "seed"} & plain.keys()


async def test_more_pictures_than_the_model_takes_are_not_sent(model: Connect) -> None:
    with Endpoint() as endpoint:
        with pytest.raises(Unsupported, match="takes at most 1 picture, got 2"):
            await model(endpoint, max_images=1).generate(ask(picture(), picture(), "?"))
        assert not endpoint.seen


# --- what is read ---


async def test_a_reply_is_read_with_its_usage_and_log_probabilities(model: Connect) -> None:
    reply = Reply("Answer: blue", probability=0.25, prompt_tokens=40, cached_tokens=32)
    with Endpoint(reply) as endpoint:
        generation = await model(endpoint).generate(ask("Which colour?"))
    assert (generation.text, generation.finish_reason, generation.attempts) == ("Answer: blue", "stop", 1)
    assert generation.usage == Usage(prompt_tokens=40, cached_tokens=32, completion_tokens=2)
    assert generation.logprobs is not None
    assert [token.token for token in generation.logprobs] == ["Answer:", " blue"]
    assert math.exp(generation.logprobs[0].logprob) == pytest.approx(0.25)
    assert generation.seconds > 0


async def test_a_stream_gives_pieces_and_then_the_whole_reply(model: Connect) -> None:
    reply = Reply("Answer: a blue boat", finish_reason="length", prompt_tokens=40, cached_tokens=32)
    with Endpoint(reply) as endpoint:
        backend = model(endpoint)
        *pieces, last = await drain(backend, ask("?"))
        plain = await backend.generate(ask("?"))
    assert pieces == ["Answer:", " a", " blue", " boat"]
    assert isinstance(last, Generation)
    assert (last.text, last.finish_reason, last.usage, last.logprobs) == (
        plain.text,
        "length",
        plain.usage,
        plain.logprobs,
    )
    assert last.sent.bytes == endpoint.seen[0].size


async def test_a_reply_made_of_parts_is_read(model: Connect) -> None:
    with Endpoint(Reply("Answer: yes", as_parts=True)) as endpoint:
        assert (await model(endpoint).generate(ask("?"))).text == "Answer: yes"


# --- refused parameters ---


async def test_logprobs_are_still_requested_after_one_reply_without_them(model: Connect) -> None:
    with Endpoint(["Answer: yes", Reply("Answer: yes", probability=None), "Answer: yes"]) as endpoint:
        backend = model(endpoint)
        given = [(await backend.generate(ask("?"))).logprobs is not None for _ in range(3)]
    assert given == [True, False, True]


async def test_a_socks_proxy_is_refused(model: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with Endpoint() as endpoint:
        monkeypatch.setenv("NO_PROXY", "")
        with pytest.raises(BackendError, match="SOCKS"):
            await model(endpoint).generate(ask("?"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert (await model(endpoint).generate(ask("?"))).text


@pytest.mark.parametrize("stream", [False, True])
async def test_refused_logprobs_are_asked_for_once(model: Connect, stream: bool) -> None:
    with Endpoint(refuses={"logprobs"}) as endpoint:
        backend = model(endpoint, max_retries=0)
        assert (await backend.capabilities()).logprobs is None
        for _ in range(3):
            generation = (await drain(backend, ask("?")))[-1] if stream else await backend.generate(ask("?"))
            assert isinstance(generation, Generation)
            assert generation.logprobs is None
        assert ["logprobs" in seen.body for seen in endpoint.seen] == [True, False, False, False]
        assert (await backend.capabilities()).logprobs is False


async def test_ignored_logprobs_are_asked_for_once(model: Connect) -> None:
    with Endpoint(ignores={"logprobs"}) as endpoint:
        backend = model(endpoint)
        for _ in range(2):
            assert (await backend.generate(ask("?"))).logprobs is None
    assert ["logprobs" in seen.body for seen in endpoint.seen] == [True, False]


async def test_refused_parameters_are_shared_by_members_with_the_same_model(
    model: Connect,
) -> None:
    with Endpoint(refuses={"logprobs"}) as endpoint:
        first, second, other = model(endpoint), model(endpoint), model(endpoint, model="n")
        for backend in (first, second, other):
            await backend.generate(ask("?"))
    asked = [(seen.body["model"], "logprobs" in seen.body) for seen in endpoint.seen]
    assert asked == [("m", True), ("m", False), ("m", False), ("n", True), ("n", False)]


async def test_refused_usage_in_streams_is_not_requested_again(model: Connect) -> None:
    with Endpoint(refuses={"stream_options"}) as endpoint:
        backend = model(endpoint)
        for _ in range(2):
            last = (await drain(backend, ask("?")))[-1]
            assert isinstance(last, Generation)
            assert last.usage == Usage()
    assert ["stream_options" in seen.body for seen in endpoint.seen] == [True, False, False]


async def test_max_tokens_is_renamed_if_it_is_refused(model: Connect) -> None:
    with Endpoint(refuses={"max_tokens"}) as endpoint:
        backend = model(endpoint)
        for _ in range(2):
            await backend.generate(ask("?", max_tokens=9))
    limits = [(seen.body.get("max_tokens"), seen.body.get("max_completion_tokens")) for seen in endpoint.seen]
    assert limits == [(9, None), (None, 9), (None, 9)]


async def test_a_refused_temperature_is_left_out_and_logged_once(
    model: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    with Endpoint(refuses={"temperature", "logprobs"}) as endpoint:
        backend = model(endpoint, max_retries=0)
        for _ in range(2):
            await backend.generate(ask("?"))
    assert len(endpoint.seen) == 4
    assert "temperature" not in endpoint.seen[-1].body
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "refused temperature" in warnings[0]


# --- capabilities ---


async def test_capabilities_come_from_the_list_of_models(model: Connect) -> None:
    with Endpoint(models={"m": {"max_model_len": 4096}, "other": {}}) as endpoint:
        backend = model(endpoint, max_images=4)
        found = await backend.capabilities()
        assert (found.images, found.logprobs, found.context) == (4, None, 4096)
        await backend.generate(ask("?"))
        assert (await backend.capabilities()).logprobs is True
        assert (await model(endpoint, context=512).capabilities()).context == 512
        assert "not among its 2 listed models" in (await model(endpoint, model="absent").capabilities()).detail
        assert len(endpoint.seen) == 1


async def test_an_endpoint_without_a_list_of_models_works(model: Connect) -> None:
    with Endpoint(models=None) as endpoint:
        found = await model(endpoint).capabilities()
    assert (found.images, found.context) == (None, None)


async def test_capabilities_report_an_unreachable_server(model: Connect) -> None:
    with Endpoint() as endpoint:
        backend = model(endpoint)
    with pytest.raises(Unreachable):
        await backend.capabilities()


# --- concurrency ---


async def test_concurrent_requests_are_limited(model: Connect) -> None:
    with Endpoint(latency=0.02) as endpoint:
        backend = model(endpoint, max_concurrency=4)
        await asyncio.gather(
            *(backend.generate(ask("?")) for _ in range(6)), *(drain(backend, ask("?")) for _ in range(6))
        )
        assert len(endpoint.seen) == 12
        assert endpoint.peak == 4


async def test_members_share_the_limit_of_their_endpoint(model: Connect) -> None:
    with Endpoint(latency=0.02) as endpoint:
        wide, narrow = model(endpoint, max_concurrency=8), model(endpoint, model="n", max_concurrency=2)
        await narrow.generate(ask("?"))
        await asyncio.gather(*(backend.generate(ask("?")) for backend in (wide, narrow) for _ in range(5)))
        assert endpoint.peak == 2


async def test_the_timeout_of_a_call_starts_when_it_is_sent(model: Connect) -> None:
    with Endpoint(latency=0.1) as endpoint:
        backend = model(endpoint, max_concurrency=1)
        found = await asyncio.gather(*(backend.generate(ask("?", timeout=0.3)) for _ in range(6)))
    assert all(generation.seconds < 0.3 for generation in found)


async def test_the_time_in_the_queue_and_until_the_first_token_is_measured(model: Connect) -> None:
    with Endpoint(latency=0.1) as endpoint:
        backend = model(endpoint, max_concurrency=1)
        first, second = await asyncio.gather(*(backend.generate(ask("?")) for _ in range(2)))
        streamed = (await drain(backend, ask("?")))[-1]
    assert isinstance(streamed, Generation)
    assert first.timing.queued == pytest.approx(0, abs=0.05)
    assert second.timing.queued >= 0.1
    assert (second.timing.prefill, second.timing.decode) == (None, None)  # the reply came as a whole
    assert streamed.timing.prefill >= 0.1
    assert streamed.timing.decode < 0.1
    assert streamed.timing.known == pytest.approx(streamed.seconds, abs=0.02)


@pytest.mark.parametrize("timings", [{"prompt_ms": 250.5, "predicted_ms": 1500}, {"prompt_ms": "soon"}, [1]])
async def test_the_times_that_an_engine_reports_are_used(model: Connect, timings: Any) -> None:
    with Endpoint(Reply("Answer: 5", timings=timings)) as endpoint:
        generation = await model(endpoint).generate(ask("?"))
    reports = timings == {"prompt_ms": 250.5, "predicted_ms": 1500}
    assert (generation.timing.prefill, generation.timing.decode) == ((0.2505, 1.5) if reports else (None, None))


async def test_waiting_for_a_slot_has_its_own_timeout(model: Connect) -> None:
    with Endpoint(Fault("stall")) as endpoint:
        backend = model(endpoint, max_concurrency=1, queue_timeout=0.05)
        first = asyncio.create_task(backend.generate(ask("?", timeout=None)))
        await asyncio.to_thread(endpoint.wait_for, 1)
        with pytest.raises(TimedOut, match=r"not sent, because the queue did not move for 0\.05 s") as caught:
            await backend.generate(ask("?"))
        assert "queue_timeout" in caught.value.hint
        first.cancel()
        assert len(endpoint.seen) == 1


async def test_an_endpoint_without_concurrency_answers_every_call(model: Connect) -> None:
    with Endpoint(latency=0.2, places=1) as endpoint:
        clients = [model(endpoint), model(endpoint, model="n")]
        calls = [client.generate(ask("?", timeout=15 * 0.2)) for _ in range(30) for client in clients]
        assert len([generation.text for generation in await asyncio.gather(*calls)]) == 60


@pytest.mark.parametrize("status", [429, 503])
async def test_refused_requests_reduce_the_limit(model: Connect, status: int) -> None:
    def script(seen: Seen) -> Fault | str:
        return Fault("status", status=status) if endpoint.in_flight > 3 else "Answer: yes"

    with Endpoint(script, latency=0.01) as endpoint:
        backend = model(endpoint, max_concurrency=32, retry_delay=0.02)
        await asyncio.gather(*(backend.generate(ask("?")) for _ in range(100)))
        refused = len(endpoint.seen) - 100
        # With a fixed limit, 29 of the first 32 requests would be refused repeatedly.
        assert refused < 100
        endpoint.peak = 0
        await asyncio.gather(*(backend.generate(ask("?")) for _ in range(20)))
        assert endpoint.peak <= 8


async def test_answers_raise_the_limit_again(model: Connect) -> None:
    with Endpoint([Fault("rate_limited"), "Answer: yes"], latency=0.01) as endpoint:
        backend = model(endpoint, max_concurrency=4)
        await backend.generate(ask("?"))
        endpoint.peak = 0
        await asyncio.gather(*(backend.generate(ask("?")) for _ in range(60)))
        assert endpoint.peak == 4


async def test_a_cancelled_call_releases_its_slot(model: Connect) -> None:
    with Endpoint([Fault("stall"), "fine"]) as endpoint:
        backend = model(endpoint, max_concurrency=1)
        first = asyncio.create_task(backend.generate(ask("?")))
        await asyncio.to_thread(endpoint.wait_for, 1)
        first.cancel()
        assert (await backend.generate(ask("?"))).text == "fine"


async def test_a_stream_that_is_closed_early_releases_its_slot(model: Connect) -> None:
    with Endpoint([Fault("stall_half_way", text="one two three four"), "fine"]) as endpoint:
        backend = model(endpoint, max_concurrency=1)
        async with aclosing(backend.stream(ask("?"))) as pieces:  # type: ignore[type-var]
            assert await anext(pieces) == "one"
        assert (await backend.generate(ask("?"))).text == "fine"


async def test_closing_twice_is_harmless(model: Connect) -> None:
    with Endpoint() as endpoint:
        backend = model(endpoint)
        await backend.generate(ask("?"))
        await backend.aclose()
        await backend.aclose()


def test_a_backend_can_be_used_in_several_event_loops() -> None:
    with Endpoint() as endpoint:
        backend = connect(Options(model="m", base_url=endpoint.base_url))

        async def once() -> str:
            try:
                return (await backend.generate(ask("?"))).text
            finally:
                await backend.aclose()

        assert [asyncio.run(once()) for _ in range(2)] == ["Answer: yes"] * 2


# --- keys and addresses ---


async def test_the_key_is_sent(model: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOX_KEY", " sk-box\n")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-elsewhere")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-elsewhere")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer sk-elsewhere")
    with Endpoint() as endpoint:
        await model(endpoint, api_key_env="BOX_KEY").generate(ask("?"))
        await model(endpoint).generate(ask("?"))
    assert [seen.headers["Authorization"] for seen in endpoint.seen] == ["Bearer sk-box", "Bearer none"]
    assert "elsewhere" not in str([seen.headers for seen in endpoint.seen])


@pytest.mark.parametrize("value", [None, "", "  \n"])
def test_a_missing_key_is_an_error_that_names_the_variable(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("BOX_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("BOX_KEY", value)
    with pytest.raises(ConfigError, match="'BOX_KEY', named by api_key_env, is not set") as caught:
        connect(Options(model="m", base_url="http://127.0.0.1:1/v1", api_key_env="BOX_KEY"))
    assert "export BOX_KEY" in caught.value.hint


def test_an_invalid_key_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOX_KEY", "schlüssel")
    with pytest.raises(ConfigError, match="contains characters that are invalid in a key") as caught:
        connect(Options(model="m", base_url="http://127.0.0.1:1/v1", api_key_env="BOX_KEY"))
    assert "schl" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["localhost:8000/v1", "ftp://host/v1", "http://", "http://user:sk-1@host/v1", "http://host/v1?key=sk-1", ""],
)
def test_an_invalid_address_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValidationError, match="expected an address") as caught:
        Options(model="m", base_url=url)
    assert "sk-1" not in str(caught.value)


def test_extra_fields_cannot_replace_the_conversation() -> None:
    with pytest.raises(ValidationError, match="messages, stream cannot be set here"):
        Options(model="m", base_url="http://host/v1", extra_body={"stream": True, "messages": []})


async def test_the_error_for_a_refused_key_does_not_contain_it(model: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOX_KEY", "sk-wrong")
    with Endpoint(key="sk-right") as endpoint:
        with pytest.raises(Refused, match=r"HTTP 401: Incorrect API key provided: Bearer \[key\]") as caught:
            await model(endpoint, api_key_env="BOX_KEY").generate(ask("?"))
        assert "BOX_KEY" in caught.value.hint
        assert len(endpoint.seen) == 1
        with pytest.raises(Refused) as caught:
            await model(endpoint).generate(ask("?"))
        assert "api_key_env" in caught.value.hint
