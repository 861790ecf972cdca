"""What a batch would cost: its calls counted, its tokens estimated, without calling anything."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from colm_vl.backends.base import Generation
from colm_vl.batch.questions import Questions, Row, Survey
from colm_vl.errors import InputError
from colm_vl.pool import Pool
from colm_vl.run import CallKey, Run
from colm_vl.strategies import Choice
from colm_vl.types import Query, Stage, Usage
from processors.errors import ImageError
from processors.images import Image

_SAMPLE = 20  # questions whose pictures are opened for the estimate
_CHARACTERS_PER_TOKEN = 4.0
_PIXELS_PER_TOKEN = 28 * 28
_REPLY_TOKENS = 80


class PlannedCall(NamedTuple):
    stage: Stage
    member: str


@dataclass(frozen=True, slots=True)
class Plan:
    """At most so many calls: where a gate may skip the server, it is counted all the same, and so is what an earlier
    run has finished. `usage` is an estimate, from the text and the pictures of the first questions."""

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
    """Go through the strategies with made-up replies for the first questions, and reckon from them to all.

    Raises `InputError` for a source that can be read only once, or in which an id occurs twice.
    """
    survey = await asyncio.to_thread(_survey, questions)
    calls: Counter[PlannedCall] = Counter()
    usage, sampled = Usage(), 0
    for row in islice((row for row in questions if not row.problem), _SAMPLE):
        query = await asyncio.to_thread(_opened, row)
        if query is None:
            continue
        rehearsal = _Rehearsal()
        for choice in choices:
            await choice.strategy.run(Run(query, choice.team, Pool(), store=rehearsal))
        calls += rehearsal.calls
        usage += rehearsal.usage
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


def _survey(questions: Questions) -> Survey:
    survey = questions.survey()
    if survey is not None:
        return survey
    if questions.repeatable() is not questions:
        raise InputError("questions that can be read only once cannot be planned for", hint="pass them as a list")
    return Survey(sum(1 for _ in questions), 0)


def _opened(row: Row) -> Query | None:
    try:
        return row.query(Image.open(picture) for picture in row.pictures)
    except (InputError, ImageError):
        return None


class _Rehearsal:
    """A `CallStore` that has a reply to everything, and counts what was asked; each thing once, as a batch asks it.

    The replies differ from member to member, so that no gate finds them agreed.
    """

    def __init__(self) -> None:
        self.calls: Counter[PlannedCall] = Counter()
        self.usage = Usage()
        self._seen: dict[str, Generation] = {}

    async def get(self, key: CallKey) -> Generation:
        known = self._seen.get(key.digest)
        if known is None:
            usage = Usage(_prompt_tokens(key), 0, min(_REPLY_TOKENS, key.sampling.max_tokens))
            known = self._seen[key.digest] = Generation(_reply(key, len(self._seen)), usage=usage)
            self.calls[PlannedCall(key.stage, key.member.name)] += 1
            self.usage += usage
        return known

    async def put(self, key: CallKey, outcome: object) -> None:
        """Never happens: there is a reply to everything."""


def _reply(key: CallKey, number: int) -> str:
    if key.stage == "select":
        roster = key.messages[-1].text.splitlines()
        return "\n".join(line.partition(":")[0] for line in roster if ":" in line)
    filler = " ".join(["word"] * (_REPLY_TOKENS - 20))
    return f"Caption: {filler}\nAnswer: ({chr(ord('A') + number % 2)}) {number}\nConfidence: 50"


def _prompt_tokens(key: CallKey) -> int:
    text = sum(len(message.text) for message in key.messages) / _CHARACTERS_PER_TOKEN
    limit = key.member.options.max_pixels or math.inf
    pixels = sum(min(image.pixels, limit) for message in key.messages for image in message.images)
    return round(text + pixels / _PIXELS_PER_TOKEN)
