"""The viewer of questions in report.html: which questions it holds, and what it shows of each."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from colm_vl.types import ClientReply, Draft, Failure, Guidance, Refinement, Trace, Verdict

from ..client_answers import client_answers
from ..flips import steps
from ..run_folder import Evaluation
from ..types import Item, Score
from .pictures import Pictures
from .strategy import Mark, StrategySummary
from .summary import RunSummary

ITEMS = 1_000
"""By default, a report holds at most this many questions."""
_LONGEST = 4_000
"""Characters of a text. A model that repeats itself can write far more."""
_MOST_VALUES = 100
"""A group column with more values, such as an id, is shown with the questions and cannot be filtered by."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The questions of one run as JSON values. `told` says which questions and pictures are missing, if any are."""

    data: Mapping[str, Any]
    told: str


def shown(evaluation: Evaluation, summary: RunSummary, pictures: Pictures, limit: int = ITEMS) -> Shown:
    """At most `limit` questions, in the order of the run: those in which most happened, then a sample of the others."""
    scores = {one.name: {score.id: score for score in one.results[summary.rule].scores} for one in summary.strategies}
    names = list(scores)
    differ = {key for key in evaluation.items if len({one[key].grade for one in scores.values() if key in one}) > 1}
    chosen = _chosen(evaluation.items, summary.strategies, differ, limit)
    items = {key: _item(evaluation.items[key], key in differ) for key in chosen}
    for place, one in enumerate(summary.strategies):
        for trace in _traces(evaluation, one, chosen):
            row = items[trace.id]
            row["images"] = row["images"] or [
                {"digest": image.digest, "width": image.width, "height": image.height, "source": image.source}
                for image in trace.images
            ]
            row["answers"] += [None] * (place - len(row["answers"]))
            row["answers"].append(_answer(evaluation, summary, trace, one.marks[trace.id], scores[one.name]))
    for row in items.values():
        row["answers"] += [None] * (len(names) - len(row["answers"]))
    asked = {image["digest"] for row in items.values() for image in row["images"]}
    found = pictures.of(frozenset(chosen), asked)
    data = {
        "strategies": names,
        "groups": _groups(items.values()),
        "pictures": found.uris,
        "items": list(items.values()),
    }
    answered = {key for one in summary.strategies for key in one.marks}
    return Shown(data, " ".join([*_left_out(len(chosen), len(answered)), *found.told]))


def _chosen(
    items: Iterable[str], found: Sequence[StrategySummary], differ: Collection[str], limit: int
) -> dict[str, None]:
    """The ids in the order of `items`. Of a kind of which not all fit, a random sample, the same every time. `differ`
    are those whose answers have different grades."""
    kinds: list[list[str]] = [[], [], [], []]
    for key in items:
        marks = [one.marks[key] for one in found if key in one.marks]
        if marks:
            kinds[_kind(marks, differ=key in differ)].append(key)
    sampler = random.Random(0)
    ranked = [key for kind in kinds for key in (kind if len(kind) <= limit else sampler.sample(kind, limit))]
    chosen = frozenset(ranked[:limit])
    return {key: None for key in items if key in chosen}


def _kind(marks: Iterable[Mark], *, differ: bool) -> int:
    """How much happened to a question, the most first."""
    every = Mark(0)
    for mark in marks:
        every |= mark
    if every & (Mark.FAILED | Mark.UNREAD | Mark.REGRESSED):
        return 0
    if every & Mark.CORRECTED or differ:
        return 1
    return 2 if every & Mark.CHANGED else 3


def _left_out(chosen: int, answered: int) -> Iterator[str]:
    if chosen < answered:
        yield (
            f"{chosen:,} of {answered:,} questions are in this report (--items): first those with failures, unread "
            "replies or regressed answers, then those with corrected answers or different grades, then those with "
            "changed answers, then the others; a random sample where not all fit."
        )


def _traces(evaluation: Evaluation, one: StrategySummary, chosen: Mapping[str, None]) -> Iterator[Trace]:
    """`marks` are in the order of the traces."""
    traces = evaluation.traces[one.name]
    return (traces[place] for place, key in enumerate(one.marks) if key in chosen)


def _groups(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        for group, value in row["groups"].items():
            found.setdefault(group, {})[value] = None
    return {group: list(values) for group, values in found.items() if 1 < len(values) <= _MOST_VALUES}


# --- one question ---


def _item(item: Item, differ: bool) -> dict[str, Any]:
    return {
        "id": item.id,
        "question": _cut(item.question),
        "kind": item.kind,
        "options": list(map(_cut, item.options)),
        "gold": list(map(_cut, item.gold)),
        "groups": dict(item.groups),
        "differ": differ,
        "images": [],
        "answers": [],
    }


def _answer(
    evaluation: Evaluation, summary: RunSummary, trace: Trace, mark: Mark, scores: Mapping[str, Score]
) -> dict[str, Any]:
    score = scores.get(trace.id)
    replies = _Replies(evaluation, summary, trace)
    return {
        "answer": _cut(trace.choice or trace.answer),
        "grade": score.grade if score else None,
        "marks": [str(one.name).lower() for one in mark],
        "by": _by(trace),
        "drafts": [replies.shown(draft) for draft in trace.drafts],
        "guidance": list(map(_guidance, trace.guidance)),
        "refinements": [replies.shown(refined) | {"round": refined.round} for refined in trace.refinements],
        "verdict": _reply(trace.verdict.server, trace.verdict) if trace.verdict else None,
        "problems": list(map(_problem, trace.failures)),
        "notes": [*trace.notes, *([f"Fallback: {trace.fallback}"] if trace.fallback else [])],
    }


class _Replies:
    """The clients' replies of a trace, each with its grade and with what changed."""

    def __init__(self, evaluation: Evaluation, summary: RunSummary, trace: Trace) -> None:
        found = client_answers(evaluation.benchmark, evaluation.items, [trace], summary.rule)
        graded = len(found) == len(trace.drafts) + len(trace.refinements)  # in their order
        self._right = deque(one.correct for one in found if graded)
        self._flips = {(step.client, step.round): step.flip for step in steps(found)}
        self._latest: dict[str, str] = {}

    def shown(self, reply: Draft | Refinement) -> dict[str, Any]:
        right = self._right.popleft() if self._right else None
        before = self._latest.get(reply.client, "")
        answer = reply.choice or reply.answer
        if answer:
            self._latest[reply.client] = answer
        flip = ""
        if isinstance(reply, Refinement) and reply.changed and reply.readable:
            found = self._flips.get((reply.client, reply.round), "")
            flip = found if found in ("corrected", "regressed") else "changed"
        return _reply(reply.client, reply) | {"right": right, "flip": flip, "before": _cut(before)}


def _reply(member: str, reply: ClientReply | Verdict) -> dict[str, Any]:
    """The whole reply is only shown if something of it could not be read."""
    return {
        "client": member,
        "answer": _cut(f"{reply.choice}: {reply.answer}" if reply.choice else reply.answer),
        "right": None,
        "flip": "",
        "before": "",
        "caption": _cut(reply.caption),
        "text": "" if reply.answer and reply.caption else _cut(reply.text),
        "confidence": reply.confidence.value,
        "source": reply.confidence.source,
    }


def _guidance(one: Guidance) -> dict[str, Any]:
    parts = {"Evidence": one.evidence, "Disagreement": one.disagreement, "Check": one.check}
    known = {name: _cut(text) for name, text in parts.items() if text}
    return {"server": one.server, "round": one.round, "parts": known or {"": _cut(one.shown or one.text)}}


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
    return _cut(f"{who}: {failure.message}")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … ({len(text):,} characters)"
