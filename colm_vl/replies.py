"""Turn a generation into a client's reply: its answer and its confidence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from colm_vl import prompts
from colm_vl.backends.base import Generation
from colm_vl.prompts import ReplyFormat
from colm_vl.team import Team
from colm_vl.types import ClientReply, Confidence, Draft


def read_draft(
    client: str, generation: Generation, choices: Sequence[str], reply_format: ReplyFormat, sample: int = 0
) -> Draft:
    read = reply_format.read_answer(generation.text, choices)
    confidence = _confidence(generation, read)
    return Draft(client, generation.text, read.answer, read.choice, read.caption, confidence, sample)


def by_heading(team: Team, replies: Mapping[str, ClientReply]) -> Mapping[str, str]:
    """The replies' texts by heading. A number makes headings unique if two clients would have the same one."""
    texts: dict[str, str] = {}
    for name, reply in replies.items():
        heading = prompts.draft_heading(name, team.client(name).specialty)
        number = 1
        while (unique := heading if number == 1 else f"{heading} {number}") in texts:
            number += 1
        texts[unique] = reply.text
    return texts


def _confidence(generation: Generation, read: prompts.ParsedReply) -> Confidence:
    probability = _answer_probability(generation, read.answer_span)
    if probability is not None:
        return Confidence(probability, "logprobs")
    if read.stated_confidence is not None:
        return Confidence(read.stated_confidence, "stated")
    return Confidence()


def _answer_probability(generation: Generation, span: tuple[int, int] | None) -> float | None:
    """Mean probability of the tokens of the answer. None if there are no log-probabilities."""
    if not generation.logprobs or span is None:
        return None
    written = "".join(token.token for token in generation.logprobs)
    shift = written.find(generation.text)  # backends strip white space from the text, but not from the tokens
    if shift < 0:
        return None
    start, end, position, probabilities = span[0] + shift, span[1] + shift, 0, []
    for token in generation.logprobs:
        if position < end and position + len(token.token) > start:
            probabilities.append(math.exp(token.logprob))
        position += len(token.token)
    return sum(probabilities) / len(probabilities) if probabilities else None
