"""MMBench: twenty abilities, each question asked once or in every rotation of its options (arXiv 2307.06281).

Rules: open-compass/VLMEvalKit, commit e8e78f05, `vlmeval/dataset/utils/multiple_choice.py` (circular evaluation) and
`vlmeval/tools.py` (how rotations are made and numbered). Columns: VLMEvalKit's TSV and the hub
(EvolvingLMMs-Lab/lmms-eval, commit 75571cfe, `lmms_eval/tasks/mmbench/`); both hold every rotation, 4,329 rows of 1,164
questions in the English dev split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar

from typing_extensions import override

from ..dataset import Row, Source
from ..types import Item, Metric, Score, letters, micro_average
from .multiple_choice import MultipleChoiceBenchmark

ROTATION = 1_000_000
"""The k-th rotation of a question has its index plus k million."""
_NOTHING = "nan"


class MMBench(MultipleChoiceBenchmark):
    name = "mmbench"
    title = "MMBench"
    hub = "lmms-lab-encoder/MMBench"
    config = "en"
    splits: ClassVar[tuple[str, ...]] = ("dev",)
    split_names = MappingProxyType({"dev": ("validation", "val")})
    group_columns = MappingProxyType({"ability": ("l2-category", "L2-category"), "category": ("category",)})
    note = "the dev split, each question once; the test split's answers are not public"

    @override
    def wanted(self, row: Row) -> bool:
        index = str(row.get("index", ""))
        return _question(index) == index

    @override
    def item(self, row: Row, id_: str, source: Source) -> Item:
        # On the hub, missing values (a hint, options C and D) are the word "nan". A real option "nan" has other options
        # after it, or is the answer.
        last = max(
            (name for name, value in row.items() if len(name) == 1 and value not in (None, "", _NOTHING)), default=""
        )
        kept = max(last, str(row.get("answer", "")))
        return super().item(
            {
                name: None if value == _NOTHING and (len(name) > 1 or name > kept) else value
                for name, value in row.items()
            },
            id_,
            source,
        )


class MMBenchCircular(MMBench):
    """A question counts as correct if every rotation of its options is (CircularEval, Section 4.3 of the paper)."""

    name = "mmbench_circular"
    title = "MMBench, circular"
    note = (
        "every rotation of a question's options must be answered correctly; rotations are generated if a file has none"
    )

    @override
    def load(self, source: Source) -> Iterator[Item]:
        ids = [item.id for item in super().load(replace(source, images=False))]
        sizes = Counter(map(_question, ids))
        given = any(_question(id_) != id_ for id_ in ids)
        for item in super().load(source):
            if given:
                unit = _question(item.id)
                yield replace(item, unit=unit, unit_size=sizes[unit])
            else:
                yield from rotations(item)

    @override
    def wanted(self, row: Row) -> bool:
        return True

    @override
    def units(self, items: Sequence[Item], scores: Sequence[Score]) -> Mapping[str, float]:
        """With `--partial`, a question with an unanswered rotation is not correct."""
        answered = Counter(item.unit for item in items)
        correct = Counter(item.unit for item, score in zip(items, scores, strict=True) if score.correct)
        return {item.unit: float(correct[item.unit] == max(item.unit_size, answered[item.unit])) for item in items}

    @override
    def metrics(self, items: Sequence[Item], scores: Sequence[Score]) -> list[Metric]:
        """Over questions, not rotations; `each way` is the accuracy over single rotations."""
        firsts = {item.unit: item for item in reversed(items)}
        units = self.units(items, scores)
        whole = [Score(unit, grade, "", "") for unit, grade in units.items()]
        metrics = super().metrics([firsts[unit] for unit in units], whole)
        return [*metrics, micro_average("each way", "rotations", scores)]


def rotations(item: Item) -> Iterator[Item]:
    """The item with its options in every rotation, the original first."""
    count = len(item.options)
    position = item.letters.index(item.gold[0])
    for step in range(count):
        moved = item.options[step:] + item.options[:step]
        gold = letters(count)[(position - step) % count]
        number = str(int(item.id) + step * ROTATION) if item.id.isdecimal() else f"{item.id}#{step}"
        yield replace(item, id=number, options=moved, gold=(gold,), unit=item.id, unit_size=count)


def _question(index: str) -> str:
    """The index of the question, without its rotation."""
    return str(int(index) % ROTATION) if index.isdecimal() else index


BENCHMARKS = (MMBench(), MMBenchCircular())
