"""The base class of multiple-choice benchmarks with images, which are published with similar columns.

Rules: open-compass/VLMEvalKit, commit e8e78f05, `vlmeval/utils/matching_util.py` and
`vlmeval/dataset/utils/multiple_choice.py` (exact matching). Published figures often use a judge model for replies that
exact matching cannot parse, so also compare under rule `lenient`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from typing_extensions import override

from ..dataset import Row, Source, open_rows, options_in
from ..scoring import matching
from ..types import Item, ParsedAnswer
from .base import Benchmark, first_images, letter_of

_EMPTY_TO_PANDAS = frozenset({"None", "NA", "N/A", "n/a", "nan", "NaN", "-nan", "-NaN", "null", "NULL", "<NA>", "#N/A"})


class MultipleChoiceBenchmark(Benchmark):
    """`group_columns` maps each group to the columns that may hold it; the first one present counts."""

    required: ClassVar[tuple[str, ...]] = ("question", "answer", "options|choices|A|choice_a")
    image_columns: ClassVar[tuple[str, ...]] = ("image", "image_path", "images")
    group_columns: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
    id_columns: ClassVar[tuple[str, ...]] = ("index", "question_id", "id")

    @override
    def load(self, source: Source) -> Iterator[Item]:
        for number, row in enumerate(open_rows(source, self.required, image_columns=self.image_columns)):
            if self.wanted(row):
                yield from self.items(row, self.row_id(row, number), source)

    def wanted(self, row: Row) -> bool:
        return True

    def items(self, row: Row, id_: str, source: Source) -> Iterator[Item]:
        """The items of a row; one by default."""
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
            images=self.images(row, source) if source.images else (),
            groups=self.groups(row),
        )

    def images(self, row: Row, source: Source) -> tuple[bytes | Path, ...]:
        return first_images(row, self.image_columns, folder=source.folder)

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
            f"{count} of the questions have an option spelled None, NA, nan or similar. It counts here; VLMEvalKit"
            " drops it when it reads the file, so its figures may differ."
        ]

    @override
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        return matching.parse_option(reply, item.options)
