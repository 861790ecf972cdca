"""MMBench: twenty abilities, one question each way or in every rotation of its options (arXiv 2307.06281)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar

from typing_extensions import override

from eval.benchmarks.letters import LetterBenchmark
from eval.data import Row, Source
from eval.items import Figure, Item, Score, letters, share

ROTATION = 1_000_000
"""VLMEvalKit numbers the k-th rotation of a question by its index plus k million."""


class MMBench(LetterBenchmark):
    name = "mmbench"
    title = "MMBench"
    hub = "lmms-lab/MMBench"
    config = "en"
    splits: ClassVar[tuple[str, ...]] = ("dev",)
    group_columns = MappingProxyType({"ability": ("l2-category", "L2-category"), "category": ("category",)})
    note = "the dev split, each question once; the test split's answers are not public"

    @override
    def wanted(self, row: Row) -> bool:
        return int(row.get("index", 0)) < ROTATION


class MMBenchCircular(MMBench):
    """A question is right if it is right in every rotation of its options (CircularEval, Section 4.3 of the paper)."""

    name = "mmbench_circular"
    title = "MMBench, circular"
    note = "every rotation of a question's options must be answered right; rotations are made where a file has none"

    @override
    def wanted(self, row: Row) -> bool:
        # Rotations that a file brings are the ones made here, under the same numbers: making them all covers both.
        return int(row.get("index", 0)) < ROTATION

    @override
    def items(self, row: Row, id_: str, source: Source) -> Iterator[Item]:
        yield from rotations(self.item(row, id_, source))

    @override
    def units(self, items: Sequence[Item], scores: Sequence[Score]) -> Mapping[str, bool]:
        units: dict[str, bool] = {}
        for item, score in zip(items, scores, strict=True):
            units[item.unit] = units.get(item.unit, True) and score.right
        return units

    @override
    def figures(self, items: Sequence[Item], scores: Sequence[Score]) -> list[Figure]:
        """Over questions, not rotations; `each way` is what the share would be without the circle."""
        firsts = {item.unit: item for item in reversed(items)}
        units = self.units(items, scores)
        whole = [Score(unit, right, "", "") for unit, right in units.items()]
        figures = super().figures([firsts[unit] for unit in units], whole)
        return [*figures, share("each way", "rotations", scores)]


def rotations(item: Item) -> Iterator[Item]:
    """The item, and its options moved on by one place until they are back where they were."""
    count = len(item.options)
    position = item.letters.index(item.gold[0])
    for step in range(count):
        moved = item.options[step:] + item.options[:step]
        gold = letters(count)[(position - step) % count]
        number = str(int(item.id) + step * ROTATION) if item.id.isdecimal() else f"{item.id}#{step}"
        yield replace(item, id=number, options=moved, gold=(gold,), unit=item.id)
