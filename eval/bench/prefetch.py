"""Measures how much sooner guidance comes if the server reads the pictures and the question while the clients draft."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image

from colm_vl import AsyncCoLM, Call, Delta, Draft, Image, Query, Team
from colm_vl.errors import InputError

from . import random_model
from .figures import Figure
from .stub import endpoints

SIDE = 784
CLIENTS = 2
_NAME = "random"
_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class _Guided:
    """How guidance was given for one question. `first` and `whole` are the seconds from the last draft to the first
    piece of guidance and to its end. `calls` are those of the server, by stage."""

    text: str
    first: float
    whole: float
    calls: Mapping[str, Call]


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two questions with pictures of the same size. `same`: each of the two got the same guidance when it was asked in
    the other way."""

    ahead: _Guided
    plain: _Guided
    same: int


@dataclass(frozen=True, slots=True)
class _Measured:
    """`unused` is the number of prompt tokens of a prefetch after which the gate skips the server."""

    pairs: Sequence[_Pair]
    unused: int


def at_vllm(url: str, pairs: int, drafting: float, tokens: int) -> Sequence[Figure]:
    """The server is the first model of a running vLLM. Raises `InputError` if there is none at this address."""
    server = {"backend": "openai", "model": _served_at(url), "base_url": url}
    return _figures("vLLM", asyncio.run(_measured(server, pairs, drafting, tokens)), drafting, tokens)


def in_process(model: Path | None, pairs: int, drafting: float, tokens: int) -> Sequence[Figure]:
    """The server is a model in this process: the one in a folder, or one with random weights."""
    with tempfile.TemporaryDirectory() as scratch:
        if model is None:
            random_model.write(Path(scratch))
        server = {"backend": "transformers", "model": str(model or scratch), "offline": True}
        return _figures("in process", asyncio.run(_measured(server, pairs, drafting, tokens)), drafting, tokens)


async def _measured(server: Mapping[str, Any], pairs: int, drafting: float, tokens: int) -> _Measured:
    with endpoints(CLIENTS, latency=drafting, places=CLIENTS) as urls:
        async with AsyncExitStack() as stack:
            asked = await stack.enter_async_context(AsyncCoLM(_team(urls, server, tokens)))
            again = asked
            if server["backend"] == "openai":  # vLLM would have the pictures of the first time in its cache
                salted = {**server, "extra_body": {"cache_salt": uuid.uuid4().hex}}
                again = await stack.enter_async_context(AsyncCoLM(_team(urls, salted, tokens)))
            for ahead in (True, False):
                await _guided(asked, _question(), ahead)  # warms up
            found = [await _pair(asked, again, first=number % 2 == 0) for number in range(pairs)]
            skipped = await asked.ask(_question(), prefetch=True, gate="disagreement")
    assert not any(call.stage == "guide" for call in skipped.calls), "the clients of this measurement agree"
    unused = sum(call.usage.prompt_tokens for call in skipped.calls if call.stage == "prefetch")
    return _Measured(found, unused)


async def _pair(asked: AsyncCoLM, again: AsyncCoLM, *, first: bool) -> _Pair:
    """Ask one question with prefetch and one without, in the order given by `first`; then each the other way."""
    queries = {ahead: _question() for ahead in (first, not first)}
    timed = {ahead: await _guided(asked, query, ahead) for ahead, query in queries.items()}
    others = [(await _guided(again, query, not ahead)).text == timed[ahead].text for ahead, query in queries.items()]
    return _Pair(timed[True], timed[False], sum(others))


async def _guided(colm: AsyncCoLM, query: Query, ahead: bool) -> _Guided:
    """Ask a question until there is guidance."""
    drafted, first, pieces, calls = 0.0, 0.0, list[str](), dict[str, Call]()
    async with aclosing(colm.stream(query, prefetch=ahead)) as events:
        async for event in events:
            if isinstance(event, Draft):
                drafted = time.monotonic()
            elif isinstance(event, Delta) and event.stage == "guide":
                first = first or time.monotonic()
                pieces.append(event.text)
            elif isinstance(event, Call) and event.stage in ("prefetch", "guide"):
                calls[event.stage] = event
                if event.stage == "guide":
                    return _Guided("".join(pieces), first - drafted, time.monotonic() - drafted, calls)
    raise AssertionError("the server gave no guidance")


def _question() -> Query:
    """A new question about a new picture, of which nothing is in any cache."""
    picture = PIL.Image.effect_noise((28, 28), 100).resize((SIDE, SIDE)).convert("RGB")
    return Query(f"How many dots are there in picture {uuid.uuid4().hex}?", (Image.open(picture),))


def _team(urls: Sequence[str], server: Mapping[str, Any], tokens: int) -> Team:
    clients = [
        {"name": f"client {number}", "backend": "openai", "model": "stub", "base_url": url}
        for number, url in enumerate(urls, 1)
    ]
    timeouts = {"guide": _SECONDS}
    policy = {"reply_format": "lines", "timeouts": timeouts, "sampling": {"guide": {"max_tokens": tokens}}}
    return Team.from_dict({"clients": clients, "server": server, "policy": policy})


def _served_at(url: str) -> str:
    """The name of the first model."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/models", timeout=10) as reply:  # noqa: S310 - the user's own
            return str(json.load(reply)["data"][0]["id"])
    except (OSError, ValueError, LookupError) as error:
        raise InputError(
            f"{url}: no list of models ({type(error).__name__})",
            hint="start vLLM, and give its address with --url, such as http://127.0.0.1:8000/v1",
        ) from None


def _figures(where: str, measured: _Measured, drafting: float, tokens: int) -> Sequence[Figure]:
    pairs = measured.pairs
    ahead, plain = [pair.ahead for pair in pairs], [pair.plain for pair in pairs]
    with_it, without = (statistics.median(one.first for one in kind) for kind in (ahead, plain))
    whole, whole_without = (statistics.median(one.whole for one in kind) for kind in (ahead, plain))
    sooner = sum(pair.ahead.first < pair.plain.first for pair in pairs)
    prompt, prefetched = (ahead[0].calls[stage].usage.prompt_tokens for stage in ("guide", "prefetch"))
    cached, uncached = (min(one.calls["guide"].usage.cached_tokens for one in kind) for kind in (ahead, plain))
    reading = statistics.median(one.calls["prefetch"].seconds for one in ahead)
    same = sum(pair.same for pair in pairs)
    return [
        Figure(
            f"seconds from the last draft to the first word of guidance, {where}",
            f"{with_it:.2f} with prefetch, {without:.2f} without",
            "shorter in each pair",
            sooner == len(pairs),
            f"medians of {len(pairs)} pairs, shorter in {sooner}; a new picture of {SIDE} x {SIDE} pixels each, drafts "
            f"after {drafting:g} s, the prefetch takes {reading:.2f} s; to the end of {tokens} tokens of guidance "
            f"{whole:.2f} and {whole_without:.2f}",
        ),
        Figure(
            f"tokens of the server's prompt that are read from the cache, {where}",
            f"{cached} with prefetch, {uncached} without",
            "≥ 90 % of the prefetched",
            cached >= 0.9 * prefetched,
            f"the fewest of {len(pairs)}; a prompt has {prompt} tokens, and the prefetch {prefetched}",
        ),
        Figure(
            f"guidance that differs with and without prefetch, {where}",
            f"{2 * len(pairs) - same} of {2 * len(pairs)}",
            "0",
            same == 2 * len(pairs),
            f"the same question with and without prefetch, greedy decoding of {tokens} tokens",
        ),
        Figure(
            f"tokens read in vain if the gate skips the server, {where}",
            f"{measured.unused} per question",
            "",
            None,
            "the prompt of the prefetch, as the trace records it; without prefetch, the server reads nothing",
        ),
    ]
