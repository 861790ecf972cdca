"""Turn a generation into a client's reply: its answer and its confidence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from colm_vl import answers, prompts
from colm_vl.backends.base import Generation
from colm_vl.events import Note
from colm_vl.prompts import ReplyFormat
from colm_vl.team import Team
from colm_vl.types import ClientReply, Confidence, Draft, Flaw

NO_ANSWER = "no readable answer"
DOES_NOT_KNOW = "says that it does not know"

_FLAWS: Mapping[Flaw, str] = {"copied": "copied its prompt", "repeated": "repeated itself and was cut there"}


def read_draft(
    client: str, generation: Generation, choices: Sequence[str], reply_format: ReplyFormat, sample: int = 0
) -> Draft:
    read = prompts.written_in(generation.text, reply_format).read_answer(generation.text, choices)
    confidence = _confidence(generation, read)
    draft = Draft(client, generation.text, read.answer, read.choice, read.caption, confidence, sample, flaws=read.flaws)
    if answers.abstains(draft) and confidence.value is not None:
        # The probability of these words says how sure the model is that it does not know.
        return replace(draft, confidence=replace(confidence, value=0.0))
    return draft


def missing_in(reply: ClientReply, reply_format: ReplyFormat) -> str:
    """What a user is told if a reply has no answer: that it could not be read, or that the model does not know."""
    if answers.is_answer(reply):
        return ""
    # With choices, an abstention names none of them, and no answer was read.
    said = reply.answer or prompts.written_in(reply.text, reply_format).read_answer(reply.text, ()).answer
    return DOES_NOT_KNOW if answers.is_abstention(said) else "no answer could be read from its reply"


def notes_on(member: str, flaws: Sequence[Flaw], missing: str = "") -> Sequence[Note]:
    """Notes for the user: what was removed from a reply, and what is `missing` in the rest."""
    told = [_FLAWS[flaw] for flaw in flaws]
    return [Note(f"{member}: {'; '.join([*told, missing] if missing else told)}")] if told or missing else []


def shown_to_others(reply: ClientReply) -> str:
    """The text of a reply in the prompts of other models. A reply without own content is replaced by `NO_ANSWER`."""
    is_empty = reply.flaws and not reply.readable and not reply.caption
    return NO_ANSWER if is_empty else reply.text


def by_heading(team: Team, replies: Mapping[str, ClientReply]) -> Mapping[str, str]:
    """The replies' texts by heading. A number makes headings unique if two clients would have the same one."""
    texts: dict[str, str] = {}
    for name, reply in replies.items():
        heading = prompts.draft_heading(name, team.client(name).specialty)
        number = 1
        while (unique := heading if number == 1 else f"{heading} {number}") in texts:
            number += 1
        texts[unique] = shown_to_others(reply)
    return texts


def distinct_answers(replies: Mapping[str, ClientReply]) -> Sequence[str]:
    """The different answers, each in the words of the first client that gave it, without abstentions."""
    first: list[ClientReply] = []
    for reply in replies.values():
        if answers.is_answer(reply) and not any(answers.same_reply(reply, other) for other in first):
            first.append(reply)
    return [f"({reply.choice}) {reply.answer}" if reply.choice else reply.answer for reply in first]


def _confidence(generation: Generation, read: prompts.ParsedReply) -> Confidence:
    probability = _answer_probability(generation, read)
    if probability is not None:
        return Confidence(probability, "logprobs")
    if read.stated_confidence is not None:
        return Confidence(read.stated_confidence, "stated")
    return Confidence()


def _answer_probability(generation: Generation, read: prompts.ParsedReply) -> float | None:
    """For a choice, the probability of its letter relative to all letters, if these are known; otherwise the mean
    probability of the answer's tokens. None without log-probabilities."""
    if not generation.logprobs or read.answer_span is None:
        return None
    written = "".join(token.token for token in generation.logprobs)
    shift = written.find(generation.text)  # backends strip white space that the tokens still have
    if shift < 0:
        return None
    start, end, position, tokens = read.answer_span[0] + shift, read.answer_span[1] + shift, 0, []
    for token in generation.logprobs:
        if position < end and position + len(token.token) > start:
            tokens.append(token)
        position += len(token.token)
    for token in tokens:
        if read.choice and token.letters and read.choice in token.letters:
            masses = {letter: math.exp(logprob) for letter, logprob in token.letters.items()}
            return masses[read.choice] / sum(masses.values())
    return sum(math.exp(token.logprob) for token in tokens) / len(tokens) if tokens else None
