"""Your own questions as a benchmark: graded by metrics, asked row by row as in `colm-vl batch`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from colm_vl.batch.questions import Questions, Row
from colm_vl.errors import InputError
from colm_vl.types import Query

from .benchmarks.base import Benchmark
from .dataset import Source
from .labelled import Labelled, metric_counts
from .metrics.base import Answered, Gold
from .metrics.registry import find
from .types import UNPARSED, Item, ParsedAnswer, ParsedReply, Rule, Score, whole_reply


class OwnQuestions(Benchmark):
    """`name` is that of the file. Without `labelled` and `rows`, only existing answers can be scored. `kept` is where
    metrics keep what they need to give the same grades again."""

    splits: ClassVar[tuple[str, ...]] = ("",)
    requires_image: ClassVar[bool] = False
    rules: ClassVar[tuple[Rule, ...]] = (Rule.STRICT,)

    def __init__(
        self, name: str, labelled: Labelled | None = None, rows: Questions | None = None, kept: Path | None = None
    ) -> None:
        self.name = self.title = name
        self._labelled = labelled
        self._rows = rows
        self._kept = kept

    @override
    def source(self, path: Path | None, split: str, subjects: Sequence[str] = ()) -> Source:
        if path or split or subjects:
            raise InputError(
                "--data, --split and --subjects are for published benchmarks", hint=f"leave them out for {self.name}"
            )
        if self._rows is None:
            return Source(None, "", self.name)
        return Source(self._rows.path, "", self.name, columns=self._rows.columns)

    @override
    def load(self, source: Source) -> Iterator[Item]:
        return iter(self._labelled.items if self._labelled else ())

    @override
    def questions(self, source: Source, ids: Collection[str]) -> Iterator[Query | Row]:
        """A row whose picture cannot be opened becomes a failed question of the batch."""
        return (row for row in self._rows or () if row.id in ids)

    @override
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        return whole_reply(reply)

    @override
    def lenient(self, item: Item, reply: str) -> ParsedAnswer:
        return self.official(item, reply)

    @override
    def scores(self, answers: Iterable[ParsedReply]) -> list[Score | None]:
        given = list(answers)
        by_metric: dict[str, list[int]] = {}
        for place, answer in enumerate(given):
            if answer.parsed.how != UNPARSED:
                by_metric.setdefault(answer.item.metric, []).append(place)
        grades: list[float | None] = [0.0] * len(given)
        for name, places in by_metric.items():
            found = find(name).grade_all([_answered(given[place]) for place in places], self._kept)
            for place, grade in zip(places, found, strict=True):
                grades[place] = grade
        return [
            None if grade is None else Score(one.item.id, grade, one.parsed.value, one.parsed.how)
            for one, grade in zip(given, grades, strict=True)
        ]

    @override
    def notes(self, items: Sequence[Item]) -> list[str]:
        return [f"Metric: {metric_counts(items)}."]


def _answered(answer: ParsedReply) -> Answered:
    item = answer.item
    return Answered(item.question, Gold(item.gold, item.options), answer.parsed.value)
