"""What the tool `ask` returns: a text for models and people, and the same as an object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, Field

from colm_vl.types import Confidence, Trace


class ClientAnswer(BaseModel):
    client: str
    answer: str
    confidence: float | None = Field(description="from 0 to 1")
    source: Literal["logprobs", "stated", "unknown"] = Field(description="where the confidence comes from")


class Answer(BaseModel):
    answer: str = Field(description="the team's answer; with choices, the text of the choice")
    choice: str | None = Field(description="the letter of the choice")
    said_by: list[str] = Field(description="the members that gave this answer")
    settled_by: str = Field(description="vote, the client that was asked, or the server")
    strategy: str
    clients: list[ClientAnswer] = Field(description="the last answer of each client")
    notes: list[str]
    failures: list[str] = Field(description="members that failed, and in which way")
    seconds: float


def of(trace: Trace) -> Answer:
    """Of a trace with an answer. The messages of failures are left out: they name addresses and folders."""
    assert trace.settlement is not None
    clients = [
        ClientAnswer(client=name, answer=reply.answer, confidence=_rounded(reply.confidence),
                     source=reply.confidence.source)
        for name, reply in trace.final.items()
    ]  # fmt: skip
    return Answer(
        answer=trace.answer, choice=trace.choice, said_by=list(trace.settlement.by),
        settled_by=trace.settlement.method, strategy=trace.strategy, clients=clients, notes=list(trace.notes),
        failures=list(failures(trace)), seconds=round(trace.seconds, 2),
    )  # fmt: skip


def failures(trace: Trace) -> Iterator[str]:
    """Who failed, and the kind of failure."""
    yield from dict.fromkeys(f"{one.member or 'the question'}: {one.kind}" for one in trace.failures)


def text(answer: Answer) -> str:
    lines = [f"{answer.choice}: {answer.answer}" if answer.choice else answer.answer]
    how = {"vote": "a vote", "asker": "the client that was asked", "server": "the server"}[answer.settled_by]
    lines.append(f"\nSaid by {', '.join(answer.said_by) or 'nobody'}; decided by {how}.")
    for one in answer.clients:
        sure = "" if one.confidence is None else f" (confidence {one.confidence:.0%}, {_SOURCES[one.source]})"
        lines.append(f"- {one.client}: {one.answer or 'no readable answer'}{sure}")
    lines += [f"Note: {note}" for note in answer.notes]
    lines += [f"Failed: {failure}" for failure in answer.failures]
    return "\n".join(lines)


_SOURCES = {"logprobs": "from log-probabilities", "stated": "as the model says", "unknown": "of unknown source"}


def _rounded(confidence: Confidence) -> float | None:
    return None if confidence.value is None else round(confidence.value, 3)
