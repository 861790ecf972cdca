"""What the viewer is told of a question: JSON values, in the form that `viewer.js` reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag, auto
from typing import Any, Literal

from colm_vl.types import ClientReply, Failure, Guidance, Refinement, Trace, Verdict

_LONGEST = 4_000
"""Characters of a text. A model that repeats itself can write far more."""


class Mark(IntFlag):
    """What happened to a question. `CHANGED`: a client changed its answer. `CORRECTED`, `REGRESSED`: from wrong to
    correct, or back. `UNREAD`: no answer could be read from some client's reply. `FAILED`: some call failed, or there
    is no answer."""

    CHANGED = auto()
    CORRECTED = auto()
    REGRESSED = auto()
    UNREAD = auto()
    FAILED = auto()

    @classmethod
    def of(cls, trace: Trace) -> Mark:
        """Without `CORRECTED` and `REGRESSED`, which need a grade."""
        mark = cls(0)
        if any(refined.changed and refined.readable for refined in trace.refinements):
            mark |= cls.CHANGED
        if not all(reply.readable for reply in (*trace.drafts, *trace.refinements)):
            mark |= cls.UNREAD
        if trace.failures or trace.settlement is None:
            mark |= cls.FAILED
        return mark


@dataclass(frozen=True, slots=True)
class Judged:
    """Whether a reply is right, if that is known, and how its client's answer changed with it, if it is a refinement
    that was graded."""

    right: bool | None = None
    flip: Literal["corrected", "regressed", ""] = ""


def item(
    key: str,
    question: str,
    *,
    kind: str,
    options: Iterable[str],
    gold: Iterable[str],
    groups: Mapping[str, str] | None = None,
    differ: bool = False,
) -> dict[str, Any]:
    """A question, to which pictures and answers are added. `differ`: the strategies' answers have different grades."""
    return {
        "id": key,
        "question": cut(question),
        "kind": kind,
        "options": list(map(cut, options)),
        "gold": list(map(cut, gold)),
        "groups": dict(groups or {}),
        "differ": differ,
        "images": [],
        "answers": [],
    }


def images(trace: Trace) -> list[dict[str, Any]]:
    return [
        {"digest": image.digest, "width": image.width, "height": image.height, "source": image.source}
        for image in trace.images
    ]


def answer(trace: Trace, mark: Mark, grade: float | None, judged: Sequence[Judged]) -> dict[str, Any]:
    """One strategy's answer. `judged` is about its drafts and then its refinements, in their order."""
    replies = _replies(trace, judged)
    return {
        "answer": cut(trace.choice or trace.answer),
        "grade": grade,
        "marks": [str(one.name).lower() for one in mark],
        "by": _by(trace),
        "drafts": replies[: len(trace.drafts)],
        "guidance": list(map(_guidance, trace.guidance)),
        "refinements": [
            row | {"round": refined.round}
            for row, refined in zip(replies[len(trace.drafts) :], trace.refinements, strict=True)
        ],
        "verdict": _reply(trace.verdict.server, trace.verdict) if trace.verdict else None,
        "problems": list(map(_problem, trace.failures)),
        "notes": [*trace.notes, *([f"Fallback: {trace.fallback}"] if trace.fallback else [])],
    }


def _replies(trace: Trace, judged: Sequence[Judged]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    latest: dict[str, str] = {}
    for reply, found in zip((*trace.drafts, *trace.refinements), judged, strict=True):
        before, said = latest.get(reply.client, ""), reply.choice or reply.answer
        if said:
            latest[reply.client] = said
        changed = isinstance(reply, Refinement) and reply.changed and reply.readable
        flip = found.flip or "changed" if changed else ""
        rows.append(_reply(reply.client, reply) | {"right": found.right, "flip": flip, "before": cut(before)})
    return rows


def _reply(member: str, reply: ClientReply | Verdict) -> dict[str, Any]:
    """The whole reply is only shown if something of it could not be read."""
    return {
        "client": member,
        "answer": cut(f"{reply.choice}: {reply.answer}" if reply.choice else reply.answer),
        "right": None,
        "flip": "",
        "before": "",
        "caption": cut(reply.caption),
        "text": "" if reply.answer and reply.caption else cut(reply.text),
        "confidence": reply.confidence.value,
        "source": reply.confidence.source,
    }


def _guidance(one: Guidance) -> dict[str, Any]:
    parts = {"Evidence": one.evidence, "Disagreement": one.disagreement, "Check": one.check}
    known = {name: cut(text) for name, text in parts.items() if text}
    return {"server": one.server, "round": one.round, "parts": known or {"": cut(one.shown or one.text)}}


def _by(trace: Trace) -> str:
    settlement = trace.settlement
    if settlement is None:
        return ""
    names = ", ".join(settlement.by)
    if settlement.method == "vote":
        return "Vote: " + "; ".join(f"{answer} ({', '.join(voters)})" for answer, voters in settlement.votes.items())
    return f"The answer of {names}" if settlement.method == "asker" else f"The server's answer ({names})"


def _problem(failure: Failure) -> str:
    who = f"{failure.member}, {failure.stage}" if failure.member else failure.stage
    return cut(f"{who}: {failure.message}")


def cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … ({len(text):,} characters)"
