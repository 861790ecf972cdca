"""Benchmarks of pictures that are answered by a letter and published in much the same columns: a base for them.

Rules: open-compass/VLMEvalKit, commit e8e78f05, `vlmeval/utils/matching_util.py` and
`vlmeval/dataset/utils/multiple_choice.py` (exact matching). Published figures are often made with a judge model that
reads what the matching cannot: compare under rule `lenient` too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from typing_extensions import override

from ..data import Row, Source, open_rows, options_in
from ..items import Item, Reading
from ..scoring import matching
from .base import Benchmark, first_pictures, letter_of

_EMPTY_TO_PANDAS = frozenset({"None", "NA", "N/A", "n/a", "nan", "NaN", "-nan", "-NaN", "null", "NULL", "<NA>", "#N/A"})


class MultipleChoiceBenchmark(Benchmark):
    """`group_columns` say in which columns the groups of an item may stand, the first that is there counts."""

    required: ClassVar[tuple[str, ...]] = ("question", "answer", "options|choices|A|choice_a")
    picture_columns: ClassVar[tuple[str, ...]] = ("image", "image_path", "images")
    group_columns: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
    id_columns: ClassVar[tuple[str, ...]] = ("index", "question_id", "id")

    @override
    def load(self, source: Source) -> Iterator[Item]:
        for number, row in enumerate(open_rows(source, self.required, picture_columns=self.picture_columns)):
            if self.wanted(row):
                yield from self.items(row, self.row_id(row, number), source)

    def wanted(self, row: Row) -> bool:
        return True

    def items(self, row: Row, id_: str, source: Source) -> Iterator[Item]:
        """The items that a row stands for; here one."""
        yield self.item(row, id_, source)

    def item(self, row: Row, id_: str, source: Source) -> Item:
        options = options_in(row)
        hint = str(row.get("hint") or "")
        question = str(row["question"])
        return Item(
            id=id_,
            question=f"{hint}\n{question}" if hint else question,
            gold=(letter_of(row.get("answer", ""), options, where=f"{source.label}: question {id_}"),),
            options=options,
            pictures=self.pictures(row, source) if source.pictures else (),
            groups=self.groups(row),
        )

    def pictures(self, row: Row, source: Source) -> tuple[bytes | Path, ...]:
        return first_pictures(row, self.picture_columns, folder=source.folder)

    def groups(self, row: Row) -> dict[str, str]:
        found = {
            group: next((str(row[name]) for name in names if row.get(name)), "")
            for group, names in self.group_columns.items()
        }
        return {group: value for group, value in found.items() if value}

    def row_id(self, row: Row, number: int) -> str:
        return next((str(row[name]) for name in self.id_columns if row.get(name) not in (None, "")), str(number))

    @override
    def notes(self, items: Sequence[Item]) -> list[str]:
        count = sum(not _EMPTY_TO_PANDAS.isdisjoint(item.options) for item in items)
        if not count:
            return []
        return [
            f"{count} of the questions have an option spelled None, NA, nan or the like. It counts here; VLMEvalKit"
            " loses it on reading the file, so that its figures may differ."
        ]

    @override
    def official(self, item: Item, reply: str) -> Reading:
        return matching.read_option(reply, item.options)
