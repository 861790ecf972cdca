"""MMBench: twenty abilities, one question each way or in every rotation of its options (arXiv 2307.06281).

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

from ..data import Row, Source
from ..items import Figure, Item, Score, letters, share
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
        # What a question does not have (a hint, options C and D) is the word "nan" on the hub. An option of that name
        # has others after it, or is the answer.
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
    """A question is right if it is right in every rotation of its options (CircularEval, Section 4.3 of the paper)."""

    name = "mmbench_circular"
    title = "MMBench, circular"
    note = "every rotation of a question's options must be answered right; rotations are made where a file has none"

    @override
    def load(self, source: Source) -> Iterator[Item]:
        ids = [item.id for item in super().load(replace(source, pictures=False))]
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
    def units(self, items: Sequence[Item], scores: Sequence[Score]) -> Mapping[str, bool]:
        """A question of which not every rotation was answered, as `--partial` allows, is not right in every one."""
        answered = Counter(item.unit for item in items)
        right = Counter(item.unit for item, score in zip(items, scores, strict=True) if score.right)
        return {item.unit: right[item.unit] == max(item.unit_size, answered[item.unit]) for item in items}

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
        yield replace(item, id=number, options=moved, gold=(gold,), unit=item.id, unit_size=count)


def _question(index: str) -> str:
    """The index of the question that a row asks, whichever rotation it is."""
    return str(int(index) % ROTATION) if index.isdecimal() else index


BENCHMARKS = (MMBench(), MMBenchCircular())
