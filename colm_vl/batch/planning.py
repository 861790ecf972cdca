"""Counts the calls and estimates the tokens of a batch, without calling any model."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import NamedTuple

from colm_vl.backend_pool import BackendPool
from colm_vl.backends.base import Capabilities, Generation, Request
from colm_vl.batch.pictures import Pictures
from colm_vl.batch.questions import Questions, Row, Survey
from colm_vl.errors import InputError
from colm_vl.run import Run
from colm_vl.store import MemoryStore
from colm_vl.strategies import Choice
from colm_vl.team import Member
from colm_vl.types import Call, Query, Stage, Usage
from processors.errors import ImageError

_SAMPLE = 20  # questions whose pictures are opened for the estimate
_CHARACTERS_PER_TOKEN = 4.0
_PIXELS_PER_TOKEN = 28 * 28
_REPLY_TOKENS = 80


class PlannedCall(NamedTuple):
    stage: Stage
    member: str


@dataclass(frozen=True, slots=True)
class Plan:
    """An upper bound: `calls` includes those that a gate may skip and those that an earlier run has finished. `usage`
    is estimated from the first questions and their pictures."""

    questions: int
    unusable: int
    strategies: tuple[str, ...]
    calls: Mapping[PlannedCall, int]
    usage: Usage

    @property
    def total(self) -> int:
        return sum(self.calls.values())

    def of_stage(self, stage: Stage) -> int:
        return sum(count for call, count in self.calls.items() if call.stage == stage)


async def plan(questions: Questions, choices: Sequence[Choice]) -> Plan:
    """Run the strategies on the first questions with artificial replies, and extrapolate to all questions.

    Raises `InputError` if the source can be read only once, or if an id occurs twice in it.
    """
    survey = await asyncio.to_thread(_survey, questions)
    calls: Counter[PlannedCall] = Counter()
    usage, sampled = Usage(), 0
    pictures = Pictures()
    for row in await asyncio.to_thread(_sample, questions):
        try:
            query = row.query([await pictures.open(picture) for picture in row.pictures])
        except (InputError, ImageError):
            continue
        for call in await _rehearsed(query, choices):
            calls[PlannedCall(call.stage, call.member)] += 1
            usage += call.usage
        sampled += 1
    usable = survey.total - survey.unusable
    factor = usable / sampled if sampled else 0
    return Plan(
        survey.total,
        survey.unusable,
        tuple(choice.team.policy.strategy for choice in choices),
        {call: round(count * factor) for call, count in calls.items()},
        Usage(round(usage.prompt_tokens * factor), 0, round(usage.completion_tokens * factor)),
    )


async def _rehearsed(query: Query, choices: Sequence[Choice]) -> Sequence[Call]:
    """The calls that the strategies would make for one question. Calls that they have in common are counted once."""
    store, numbers, calls = MemoryStore(), count(), list[Call]()
    for choice in choices:
        names = [client.name for client in choice.team.clients]
        pool = BackendPool({member.name: _Rehearsal(member, names, numbers) for member in choice.team.members})
        run = Run(query, choice.team, pool, store=store)
        await choice.strategy.run(run)
        calls += [call for call in run.trace().calls if not call.reused]
    return calls


def _sample(questions: Questions) -> Sequence[Row]:
    return list(islice((row for row in questions if not row.problem), _SAMPLE))


def _survey(questions: Questions) -> Survey:
    survey = questions.survey()
    if survey is not None:
        return survey
    if not questions.is_repeatable:
        raise InputError("an iterator can be read only once, so it cannot be planned", hint="pass a list")
    return Survey(sum(1 for _ in questions), 0)


class _Rehearsal:
    """A backend that replaces one member, and answers every request with artificial text and an estimate of its tokens.

    Replies differ from call to call, so that no gate skips the server. They can be parsed as an answer and, since they
    contain the `names` of the clients, as a selection.
    """

    def __init__(self, member: Member, names: Sequence[str], numbers: Iterator[int]) -> None:
        self._member = member
        self._names = names
        self._numbers = numbers

    async def generate(self, request: Request) -> Generation:
        number = next(self._numbers)
        filler = " ".join(["word"] * (_REPLY_TOKENS - 20))
        answer = f"Answer: ({chr(ord('A') + number % 2)}) {number}"
        text = "\n".join([*self._names, f"Caption: {filler}", answer, "Confidence: 50"])
        reply_tokens = min(_REPLY_TOKENS, request.sampling.max_tokens)
        return Generation(text, usage=Usage(self._prompt_tokens(request), 0, reply_tokens))

    async def stream(self, request: Request) -> AsyncIterator[str | Generation]:
        yield await self.generate(request)

    async def capabilities(self) -> Capabilities:
        return Capabilities()

    async def aclose(self) -> None:
        pass

    def _prompt_tokens(self, request: Request) -> int:
        text = sum(len(message.text) for message in request.messages) / _CHARACTERS_PER_TOKEN
        limit = self._member.options.max_pixels or math.inf
        return round(text + sum(min(image.pixels, limit) for image in request.images) / _PIXELS_PER_TOKEN)
