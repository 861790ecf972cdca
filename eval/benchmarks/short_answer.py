"""The base class of benchmarks whose answers are words, phrases or numbers that are compared with accepted ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from typing_extensions import override

from ..dataset import Row, Source, beside, listed, official_files, open_rows
from ..scoring import lenient
from ..types import UNPARSED, Item, ParsedAnswer, whole_reply
from .base import SEPARATOR, Benchmark, first_images

_ANSWERS = ("answers", "answer", "label")


class ShortAnswerBenchmark(Benchmark):
    """`files` are the names of the authors' files by split, with wildcards. Their images are in one of `image_folders`,
    inside or beside the folder of the file. `unlabelled` splits are published without answers."""

    splits: ClassVar[tuple[str, ...]] = ("validation", "test")
    unlabelled: ClassVar[frozenset[str]] = frozenset({"test"})
    files: ClassVar[Mapping[str, str]] = MappingProxyType({})
    required: ClassVar[tuple[str, ...]] = ("question|query",)
    id_columns: ClassVar[tuple[str, ...]] = ("question_id", "questionId", "index", "id")
    image_columns: ClassVar[tuple[str, ...]] = ("image", "image_path", "images")
    image_folders: ClassVar[tuple[str, ...]] = ()
    group_columns: ClassVar[Mapping[str, str]] = MappingProxyType({})

    @override
    def load(self, source: Source) -> Iterator[Item]:
        for one in official_files(source, self.files):
            yield from self.items(one)

    def items(self, source: Source) -> Iterator[Item]:
        """The items of one file, or of all that `source` stands for if it is no file of the authors."""
        for number, row in enumerate(self.rows(source)):
            yield Item(
                id=self.row_id(row, number, source),
                question=str(row["question"] if "question" in row else row["query"]),
                gold=accepted(row),
                kind="open",
                images=self.images(row, source) if source.images else (),
                groups={name: value for name, value in self.groups(row, source).items() if value},
            )

    def rows(self, source: Source) -> Iterator[Row]:
        required = self.required if source.split in self.unlabelled else (*self.required, "|".join(_ANSWERS))
        return open_rows(source, required, image_columns=self.image_columns)

    def row_id(self, row: Row, number: int, source: Source) -> str:
        return next((str(row[name]) for name in self.id_columns if row.get(name) not in (None, "")), str(number))

    def groups(self, row: Row, source: Source) -> dict[str, str]:
        return {
            group: SEPARATOR.join(map(str, listed(row.get(column)))) for group, column in self.group_columns.items()
        }

    def images(self, row: Row, source: Source) -> tuple[bytes | Path, ...]:
        found = first_images(row, self.image_columns, folder=source.folder)
        if source.folder is None or (found and (isinstance(found[0], bytes) or found[0].exists())):
            return found
        name = self.image_name(row, source)
        return (beside(source.folder, name, *self.image_folders),) if name else found

    def image_name(self, row: Row, source: Source) -> str:
        """The name of the image's file in the authors' data; "" if the row names none."""
        return Path(str(row.get("image") or "")).name

    @override
    def official(self, item: Item, reply: str) -> ParsedAnswer:
        return whole_reply(reply)

    @override
    def lenient(self, item: Item, reply: str) -> ParsedAnswer:
        """The text that the reply settles on, then parsed by the official rules."""
        settled = lenient.parse_text(reply)
        if settled.how == UNPARSED:
            return self.official(item, reply)
        parsed = self.official(item, settled.value)
        return ParsedAnswer(parsed.value, settled.how)


def accepted(row: Row) -> tuple[str, ...]:
    """The accepted answers of a row: a text, a list, or a list of objects with an `answer`, one for each annotator.
    None if all of them are empty, as in unlabelled splits on the hub."""
    found = next((listed(row[name]) for name in _ANSWERS if row.get(name) is not None), [])
    texts = tuple(str(one["answer"] if isinstance(one, Mapping) else one) for one in found)
    return texts if any(texts) else ()
