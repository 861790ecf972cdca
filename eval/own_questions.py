"""Your own questions as a benchmark: graded by metrics, asked row by row as in `colm-vl batch`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from colm_vl.batch.questions import Questions, Row
from colm_vl.errors import InputError
from colm_vl.types import Query

from .benchmarks.base import Benchmark
from .dataset import Source
from .labelled import Labelled, metric_counts
from .metrics.base import Gold
from .metrics.registry import find
from .types import Item, ParsedAnswer, Rule, whole_reply


class OwnQuestions(Benchmark):
    """`name` is that of the file. Without `labelled` and `rows`, only existing answers can be scored."""

    splits: ClassVar[tuple[str, ...]] = ("",)
    requires_image: ClassVar[bool] = False
    rules: ClassVar[tuple[Rule, ...]] = (Rule.STRICT,)

    def __init__(self, name: str, labelled: Labelled | None = None, rows: Questions | None = None) -> None:
        self.name = self.title = name
        self._labelled = labelled
        self._rows = rows

    @override
    def source(self, path: Path | None, split: str, subjects: Sequence[str] = ()) -> Source:
        if path or split or subjects:
            raise InputError(
                "--data, --split and --subjects are for published benchmarks", hint=f"leave them out for {self.name}"
            )
        return Source(None, "", self.name)

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
    def grade(self, item: Item, parsed: ParsedAnswer) -> float:
        return find(item.metric).grade(parsed.value, Gold(item.gold, item.options))

    @override
    def notes(self, items: Sequence[Item]) -> list[str]:
        return [f"Metric: {metric_counts(items)}."]
