"""The endpoint backend against a running vLLM: `make test-vllm COLM_VL_VLLM_URL=http://127.0.0.1:8123/v1`.

The server needs a vision-language model, and `--enable-prompt-tokens-details` to report the tokens that were read from
its prefix cache. A pocket model also needs
`--structured-outputs-config '{"backend": "xgrammar", "disable_any_whitespace": true}'`. Without it, the model writes
line breaks between the fields of a JSON reply until it reaches `max_tokens`. The tests of prefetch need a context of
4096 tokens: `python -m eval.bench model FOLDER` writes a model for them.
"""

from __future__ import annotations

import json
import math
import os
import re
import urllib.request
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import PIL.Image
import pytest

from colm_vl import AsyncCoLM, Query, Team, prompts
from colm_vl.backends import base, registry
from colm_vl.backends.base import Backend, Generation, Message, Request, Sampling
from colm_vl.backends.openai import Options, connect
from colm_vl.errors import ContextTooLong, ModelNotFound, Unsupported
from colm_vl.pocket import team_file, world
from colm_vl.pocket.roster import MEMBERS, Member
from colm_vl.pocket.world import Sample
from colm_vl.prompts import ReplyFormat
from eval.bench import prefetch
from processors.images import Image
from tests.endpoint import Endpoint

POCKET_LINES = prompts.LabelledLines(prompts.load_profile("pocket"))
POCKET_JSON = prompts.JsonObject(prompts.load_profile("pocket"))
URL = os.environ.get("COLM_VL_VLLM_URL", "").rstrip("/")

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(not URL, reason="COLM_VL_VLLM_URL is not set to the address of a running vLLM"),
]


def read(address: str) -> str:
    with urllib.request.urlopen(address, timeout=10) as response:
        return str(response.read().decode())


@pytest.fixture(scope="module")
def name() -> str:
    return str(json.loads(read(f"{URL}/models"))["data"][0]["id"])


@pytest.fixture(scope="module")
def block() -> int:
    """Tokens in a block of its prefix cache."""
    found = re.search(
        r'vllm:cache_config_info\{(?:[^}]*,)?block_size="(\d+)"', read(f"{URL.removesuffix('/v1')}/metrics")
    )
    assert found
    return int(found.group(1))


@pytest.fixture
async def model(name: str) -> AsyncIterator[Backend]:
    backend = connect(Options(model=name, base_url=URL))
    yield backend
    await backend.aclose()


def ask(*messages: Message, max_tokens: int = 8) -> Request:
    return Request(messages, Sampling(max_tokens=max_tokens), timeout=250)


@pytest.fixture
def question(dots: Query) -> Query:
    """A new question that starts with new words, so that nothing of it is in the cache."""
    return Query(f"{uuid.uuid4()}: {dots.question}", images=dots.images)


async def test_a_picture_is_answered_with_log_probabilities(model: Backend, question: Query) -> None:
    generation = await model.generate(ask(*prompts.draft_messages(question)))
    assert generation.usage.completion_tokens == 8
    assert generation.logprobs is not None
    assert len(generation.logprobs) == 8
    assert all(0 < math.exp(token.logprob) <= 1 for token in generation.logprobs)
    assert (await model.capabilities()).logprobs is True


async def test_a_stream_ends_in_what_a_plain_call_gives(model: Backend, question: Query) -> None:
    request = ask(*prompts.draft_messages(question))
    plain = await model.generate(request)
    *pieces, last = [piece async for piece in model.stream(request)]
    assert isinstance(last, Generation)
    assert "".join(str(piece) for piece in pieces) == last.text == plain.text
    assert last.usage.completion_tokens == plain.usage.completion_tokens


async def test_a_picture_is_sent_once_and_sent_again_if_it_is_not_kept(name: str, question: Query) -> None:
    backend = connect(Options(model=name, base_url=URL, engine="vllm"))
    fresh = replace(question, images=(Image.open(PIL.Image.effect_noise((84, 84), 50).convert("RGB")),))
    messages = prompts.draft_messages(fresh)
    try:
        first, second = [await backend.generate(ask(*messages)) for _ in range(2)]
        assert second.text == first.text
        assert [generation.sent.images for generation in (first, second)] == [1, 0]
        assert second.sent.bytes < first.sent.bytes - len(fresh.images[0].data_uri())
        # A picture of which only this client thinks that the engine has it.
        other = ask(*prompts.draft_messages(question))
        assert backend._kept is not None
        backend._kept.learn(backend._kept.names(other, None).values())
        third = await backend.generate(other)
        assert (third.attempts, third.sent.images) == (2, 1)
    finally:
        await backend.aclose()


async def test_refining_computes_nothing_of_the_draft_again(model: Backend, question: Query, block: int) -> None:
    system, user = prompts.draft_messages(question)
    # A draft of several blocks, different from its first tokens on.
    conversation = (Message("system", (f"{uuid.uuid4()} {system.text} " * 4,)), user)
    draft = await model.generate(ask(*conversation))
    refined = await model.generate(ask(*prompts.refine_messages(conversation, draft.text, question, "Count again.")))
    whole_blocks = draft.usage.prompt_tokens // block * block
    assert whole_blocks > 0
    assert draft.usage.cached_tokens == 0
    assert refined.usage.cached_tokens >= whole_blocks


class _Recorded:
    """The backend of a server, with the requests that it gets."""

    keeps_time = True

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.requests: list[Request] = []

    async def generate(self, request: Request) -> Generation:
        self.requests.append(request)
        return await self._inner.generate(request)

    def stream(self, request: Request) -> AsyncIterator[base.Piece]:
        return self._inner.stream(request)

    async def capabilities(self) -> base.Capabilities:
        return await self._inner.capabilities()

    async def aclose(self) -> None:
        await self._inner.aclose()


def tokens(name: str, messages: Sequence[Message]) -> list[int]:
    """The tokens of a prompt, with one for each picture."""
    turns = [{"role": message.role, "content": [_part(part) for part in message.parts]} for message in messages]
    body = json.dumps({"model": name, "messages": turns}).encode()
    request = urllib.request.Request(f"{URL.removesuffix('/v1')}/tokenize", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return list(json.load(response)["tokens"])


def _part(part: str | Image) -> dict[str, object]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image_url", "image_url": {"url": part.data_uri()}}


@pytest.fixture
def roomy() -> None:
    """Prompts with large pictures fit into the context."""
    context = json.loads(read(f"{URL}/models"))["data"][0]["max_model_len"]
    if context < 4096:
        pytest.skip(f"the model's context is {context} tokens, and 4096 are needed: vllm serve --max-model-len 4096")


@pytest.mark.usefixtures("roomy")
@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("reply_format", ["lines", "auto"])
@pytest.mark.parametrize("engine", [None, "vllm"])
async def test_guidance_computes_nothing_again_that_was_prefetched(
    name: str, block: int, engine: str | None, reply_format: str, pictures: int
) -> None:
    noise = [PIL.Image.effect_noise((28, 28), 100).resize((784, 784)).convert("RGB") for _ in range(pictures)]
    query = Query(f"{uuid.uuid4()}: which is darker?", tuple(map(Image.open, noise)), ("this", "that"))
    options = Options.model_validate({"model": name, "base_url": URL, "engine": engine})
    server = _Recorded(connect(options))
    with Endpoint("Caption: noise\nAnswer: this\nConfidence: 90", latency=8 * pictures) as clients:
        member = {"name": "near", "backend": "openai", "model": "m", "base_url": clients.base_url}
        table = {"backend": "openai", "model": name, "base_url": URL}
        policy = {"prefetch": True, "reply_format": reply_format, "sampling": {"guide": {"max_tokens": 8}}}
        team = Team.from_dict({"clients": [member], "server": table, "policy": policy})
        async with AsyncCoLM(team, backends={"server": server}) as colm:
            trace = await colm.ask(query)
    ahead, guide = [call for call in trace.calls if call.member == "server"]
    assert (ahead.stage, guide.stage) == ("prefetch", "guide")
    assert guide.sent.images == (0 if engine == "vllm" else pictures)
    begun, whole = [tokens(name, request.messages) for request in server.requests]
    common = next(index for index, (one, other) in enumerate(zip(begun, whole, strict=False)) if one != other)
    common += guide.usage.prompt_tokens - len(whole)  # those of the pictures, which come first
    assert common > 500 * pictures
    assert guide.usage.cached_tokens >= common // block * block


@pytest.mark.usefixtures("roomy")
def test_prefetch_brings_guidance_sooner_and_changes_no_reply() -> None:
    for figure in prefetch.at_vllm(URL, pairs=2, drafting=8.0, tokens=16):
        assert not figure.missed, f"{figure.name}: {figure.value}; {figure.how}"


@pytest.fixture
def member(name: str) -> Member:
    """Serve one of colm_vl/pocket/weights for tests of the pocket team."""
    served = MEMBERS.get(Path(name).name)
    if served is None:
        pytest.skip(f"the server has {name!r}, which is no model of the pocket team")
    return served


async def test_a_pocket_model_replies_as_in_transformers(model: Backend, member: Member) -> None:
    folder = team_file().parent / "weights" / member.name
    local = registry.connect("transformers", _in_process(str(folder)))
    requests = [_draft_request(member, sample, POCKET_LINES) for sample in world.split("validation", 100)]
    try:
        here = [(await local.generate(request)).text for request in requests]
        there = [(await model.generate(request)).text for request in requests]
    finally:
        await local.aclose()
    same = sum(one.strip() == other.strip() for one, other in zip(here, there, strict=True))
    assert same >= 95, f"{same} of 100 replies are the same"


async def test_a_pocket_model_can_be_read_under_a_schema(model: Backend, member: Member) -> None:
    samples = list(world.split("validation", 100))
    replies = [(await model.generate(_draft_request(member, sample, POCKET_JSON))).text for sample in samples]
    read = [POCKET_JSON.read_answer(text, sample.choices) for text, sample in zip(replies, samples, strict=True)]
    assert sum(bool(one.answer) for one in read) >= 99


def _draft_request(member: Member, sample: Sample, reply_format: ReplyFormat) -> Request:
    query = _query(sample)
    messages = prompts.draft_messages(query, member.specialty, reply_format=reply_format)
    schema = reply_format.answer_schema(query)
    return Request(messages, Sampling(max_tokens=512 if schema else 80), timeout=250, schema=schema)


def _in_process(folder: str) -> base.Options:
    return registry.options_class("transformers").model_validate({"model": folder, "dtype": "float32"})


def _query(sample: Sample) -> Query:
    return Query(sample.question, tuple(map(Image.open, sample.pictures)), sample.choices)


async def test_refusals_of_vllm_have_different_errors(model: Backend, name: str, question: Query) -> None:
    context = (await model.capabilities()).context
    assert context is not None
    with pytest.raises(ContextTooLong):
        await model.generate(ask(Message("user", ("word " * context,))))
    absent = connect(Options(model="absent", base_url=URL))
    with pytest.raises(ModelNotFound) as caught:
        await absent.generate(ask(Message("user", ("Hello",))))
    await absent.aclose()
    assert name in caught.value.hint


async def test_too_many_pictures_are_reported(model: Backend, question: Query) -> None:
    with pytest.raises(Unsupported, match="HTTP 400"):
        await model.generate(ask(Message("user", (*question.images * 5, "How many?"))))
