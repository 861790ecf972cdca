"""The viewer of questions in report.html: which questions it holds, and what it shows of each."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from colm_vl.types import Refinement, Trace
from colm_vl.viewer import rows
from colm_vl.viewer.rows import Judged, Mark

from ..client_answers import client_answers
from ..flips import Flip, steps
from ..run_folder import Evaluation
from ..types import Item
from .pictures import Pictures
from .strategy import StrategySummary
from .summary import RunSummary

ITEMS = 1_000
"""By default, a report holds at most this many questions."""
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
            row["images"] = row["images"] or rows.images(trace)
            row["answers"] += [None] * (place - len(row["answers"]))
            score = scores[one.name].get(trace.id)
            judged = _judged(evaluation, summary, trace)
            row["answers"].append(rows.answer(trace, one.marks[trace.id], score.grade if score else None, judged))
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


def _groups(items: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for row in items:
        for group, value in row["groups"].items():
            found.setdefault(group, {})[value] = None
    return {group: list(values) for group, values in found.items() if 1 < len(values) <= _MOST_VALUES}


# --- one question ---


def _item(item: Item, differ: bool) -> dict[str, Any]:
    return rows.item(
        item.id, item.question, kind=item.kind, options=item.options, gold=item.gold, groups=item.groups, differ=differ
    )


def _judged(evaluation: Evaluation, summary: RunSummary, trace: Trace) -> list[Judged]:
    """The clients' replies of a trace, each with its grade and with what changed."""
    replies = (*trace.drafts, *trace.refinements)
    found = client_answers(evaluation.benchmark, evaluation.items, [trace], summary.rule)
    graded = len(found) == len(replies)  # in their order
    rights = [one.correct for one in found] if graded else [None] * len(replies)
    flips = {(step.client, step.round): step.flip for step in steps(found)}
    return [
        Judged(right, _flip(flips.get((reply.client, reply.round))) if isinstance(reply, Refinement) else "")
        for reply, right in zip(replies, rights, strict=True)
    ]


def _flip(flip: Flip | None) -> Literal["corrected", "regressed", ""]:
    return flip if flip in ("corrected", "regressed") else ""
