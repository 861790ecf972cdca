"""Measure whether the pocket team doubts what it does not know: `python -m colm_vl.pocket.measure --doubt 300`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from colm_vl import CoLM
from colm_vl.answers import abstains
from colm_vl.extras import require
from colm_vl.pocket import outside, team_file, world
from colm_vl.pocket.wordings import reworded
from colm_vl.replies import DOES_NOT_KNOW
from colm_vl.types import Query, Trace
from processors.images import Image

OWN = "its world"


@dataclass(frozen=True, slots=True)
class Doubt:
    """The doubt about one group of questions. `confidence` has that of each final answer, 0 if there is none; `noted`
    is the number of questions with a note that a model does not know, `declined` of those that no model answers."""

    confidence: Sequence[float]
    noted: int
    declined: int

    @classmethod
    def of(cls, traces: Sequence[Trace]) -> Doubt:
        return cls(
            [confidence(trace) for trace in traces],
            sum(any(DOES_NOT_KNOW in note for note in trace.notes) for trace in traces),
            sum(trace.settlement is None or abstains(trace.settlement) for trace in traces),
        )


def confidence(trace: Trace) -> float:
    """The mean confidence of the clients that give the final answer; 0 if no model answers."""
    if trace.settlement is None or abstains(trace.settlement):
        return 0.0
    values = [trace.final[name].confidence.value or 0.0 for name in trace.settlement.by if name in trace.final]
    return sum(values) / len(values) if values else 0.0


def auroc(inside: Sequence[float], outside: Sequence[float]) -> float:
    """The probability that a question of `inside` has the greater confidence; ties count half."""
    test = require("scipy.stats", "eval").mannwhitneyu(inside, outside)
    return float(test.statistic) / (len(inside) * len(outside))


def groups(n: int) -> Mapping[str, Sequence[Query]]:
    """`n` questions of each kind: of the world, the same in held-out wordings, about pictures and with questions that
    are held out of training, of the test split of easy-VQA, and the same in wordings that easy-VQA does not have."""
    samples = list(world.split("test", n))
    own = [
        Query(one.question, tuple(map(Image.open, one.pictures)), one.choices, f"own-{index}")
        for index, one in enumerate(samples)
    ]
    rng, easy = Random("colm-vl/doubt"), _easy(n)
    return {
        OWN: own,
        "held-out wordings": [
            Query(reworded(one.question, rng, "held out"), query.images, one.choices, f"reworded-{index}")
            for index, (one, query) in enumerate(zip(samples, own, strict=True))
        ],
        "outside": [_outside(index, rng) for index in range(n)],
        "easy-VQA": easy,
        "easy-VQA, other wordings": [
            replace(query, question=reworded(query.question, rng, "held out"), id=f"reworded-{query.id}")
            for query in easy
        ],
    }


def measure(n: int, team: Path | None = None, concurrency: int = 64) -> Mapping[str, Doubt]:
    with CoLM.from_team(team or team_file()) as colm:
        return {
            name: Doubt.of(list(colm.batch(queries, strategy="colm", concurrency=concurrency)))
            for name, queries in groups(n).items()
        }


def table(measured: Mapping[str, Doubt]) -> Iterator[str]:
    """A Markdown table. The AUROC is that of the confidence between the world and the group."""
    yield "| | questions | mean confidence | noted | declined | AUROC |"
    yield "|---|---|---|---|---|---|"
    for name, doubt in measured.items():
        count = len(doubt.confidence)
        apart = "–" if name == OWN else f"{auroc(measured[OWN].confidence, doubt.confidence):.3f}"
        mean = sum(doubt.confidence) / count
        yield f"| {name} | {count} | {mean:.2f} | {doubt.noted / count:.1%} | {doubt.declined / count:.1%} | {apart} |"


def _outside(index: int, rng: Random) -> Query:
    drawn = outside.scene(f"test/{index}", "held out")
    asked = rng.choice(drawn.questions)
    return Query(asked.question, tuple(map(Image.open, drawn.pictures)), id=f"outside-{index}")


def _easy(n: int) -> Sequence[Query]:
    package = require("easy_vqa", "easy-vqa")
    asked, _, numbers = package.get_test_questions()
    paths = package.get_test_image_paths()
    chosen = Random("colm-vl/easy").sample(range(len(asked)), n)
    return [
        Query(asked[index][:1].upper() + asked[index][1:], (Image.open(paths[numbers[index]]),), id=f"easy-{index}")
        for index in chosen
    ]
